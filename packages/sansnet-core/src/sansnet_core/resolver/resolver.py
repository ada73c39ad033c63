"""Our own resolver: the guest's only one, and the source of the bindings between addresses and names.

Theory of operation. `streams` and `Resolver.receive` take the guest's messages over TCP and UDP; `server` decides about
them by the rules; `lookups` finds the answers, with `exchange` at the host's `name_servers`, whose sockets get
their facts by `facts`; `bindings` knows which addresses stand for which names, for new flows.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from sansnet_core.config import ResolverConfig
from sansnet_core.context import Context
from sansnet_core.orders import Buffer, Endpoint, SocketId
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.resolver.bindings import NameBindings
from sansnet_core.resolver.facts import HostFacts
from sansnet_core.resolver.lookups import Lookups
from sansnet_core.resolver.server import Server
from sansnet_core.resolver.streams import Streams
from sansnet_core.wire import dns, udp
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["Resolver"]

_Pending: TypeAlias = tuple[bytes, int, bytes, bytes]


class Resolver:
    """The resolver of one network. It stays if the configuration has none any more, but then answers nothing.

    Args:
        context: of the network, whose configuration has a resolver.
        tcp, udp: of the network.

    Attributes:
        facts: receives the facts about all sockets of the host.
        bindings: the addresses that stand for names.
    """

    def __init__(self, context: Context, tcp: Tcp, udp: Udp) -> None:
        config = context.config.resolver or ResolverConfig()
        self._context = context
        self.facts = HostFacts(tcp, udp)
        self._lookups = Lookups(context, self.facts, config)
        self.bindings = NameBindings(context, self._lookups, config)
        self._server = Server(context, self._lookups, self.bindings, config)
        self._streams = Streams(context, tcp, self._server.serve)
        self._names = udp.names
        self._pending: set[_Pending] = set()
        """Datagrams that are not answered yet, whose repetitions are ignored."""
        tcp.opening.inside = self
        udp.names = self.receive
        self.reconfigured()

    def reconfigured(self) -> None:
        """Follow the context's new configuration."""
        config = self._context.config
        servers = (*config.dns_servers, *(match for match, _ in config.dns_forward))
        self._addresses = frozenset(servers if config.resolver is not None else ())
        if config.resolver is not None:
            self._lookups.configure(config.resolver)
            self.bindings.configure(config.resolver)
            self._server.config = config.resolver

    def statistics(self) -> dict[str, int]:
        """How many names and questions there are."""
        return {
            "names": len(self.bindings.leases) + len(self.bindings),
            "name_questions": len(self._server),
            "name_streams": len(self._streams),
        }

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
        """Take a datagram to port 53, or a run of them; whether it was for the resolver.

        Raises:
            Malformed: it cannot be answered.
        """
        if ip.destination not in self._addresses:
            return self._names is not None and self._names(ip, header, buf)
        guest = Endpoint._make((ip.source, header.source_port))
        server = Endpoint._make((ip.destination, header.destination_port))
        size = self._context.gso_size or max(header.end - header.start, 1)
        for start in range(header.start, max(header.end, header.start + 1), size):
            data = bytes(buf[start : min(start + size, header.end)])
            pending = (guest.address, guest.port, server.address, data)
            if pending in self._pending:
                self._context.ignore()  # the guest has repeated its question, whose answer is on its way
                continue
            self._pending.add(pending)
            self._server.serve(guest, server, data, partial(self._reply, guest, server, pending), None)
        return True

    def _reply(self, guest: Endpoint, server: Endpoint, pending: _Pending, message: bytes | None) -> None:
        self._pending.discard(pending)
        if message is not None:
            datagram = udp.emit(server.address, guest.address, server.port, guest.port, message)
            self._context.egress.packet(server.address, guest.address, UDP, datagram)
