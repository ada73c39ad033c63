"""Answers the guest's questions for names, by the rules and by the host's name servers."""

from __future__ import annotations

from sansnet_core.context import Context
from sansnet_core.orders import Buffer, Endpoint, SocketId
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.resolver.facts import HostFacts
from sansnet_core.resolver.streams import Reply, Streams
from sansnet_core.targets import Bindings
from sansnet_core.wire import dns, udp
from sansnet_core.wire.ip import IpHeader

__all__ = ["Resolver"]


class Resolver:
    """The resolver of one network.

    Args:
        context: of the network.
        tcp, udp: of the network.

    Attributes:
        facts: receives the facts about all sockets of the host.
        bindings: the addresses that stand for names.
    """

    def __init__(self, context: Context, tcp: Tcp, udp: Udp) -> None:
        self._context = context
        self.facts = HostFacts(tcp, udp)
        self.bindings: Bindings | None = None
        self._streams = Streams(context, tcp, self._serve)
        self._names = udp.names
        tcp.opening.inside = self
        udp.names = self.receive
        self.reconfigured()

    def reconfigured(self) -> None:
        """Follow the context's new configuration."""
        config = self._context.config
        servers = (*config.dns_servers, *(match for match, _ in config.dns_forward))
        self._addresses = frozenset(servers if config.resolver is not None else ())

    def is_server(self, remote: Endpoint) -> bool:
        """Whether an endpoint is ours."""
        return remote.port == dns.PORT and remote.address in self._addresses

    def stream_opened(self, socket: SocketId, guest: Endpoint, remote: Endpoint) -> None:
        """The guest has connected to the resolver."""
        self._streams.stream_opened(socket, guest, remote)

    def take_own_orders(self) -> bool:
        """Take the orders for connections to the resolver from those for the driver; whether there were any."""
        return self._streams.take_own_orders()

    def receive(self, ip: IpHeader, header: udp.UdpHeader, buf: Buffer) -> bool:
        """Take a datagram to port 53; whether it was for the resolver."""
        if ip.destination not in self._addresses:
            return self._names is not None and self._names(ip, header, buf)
        return True

    def _serve(self, guest: Endpoint, remote: Endpoint, message: bytes, reply: Reply) -> None:
        """Answer a message of the guest."""
        reply(None)
