"""Translates echo requests of the guest to ping sockets of the host, and the replies back.

Theory of operation. A flow is the guest's address, the destination and the identifier of a ping. Each flow has its own
ping socket, since the kernel chooses the identifier on the wire and assigns replies by it. Sequence numbers and
payloads pass unchanged. Requests to our own addresses, which exist on the guest's segment only, are answered here.

`_flows` is ordered by last use. So eviction at the limit is exact, and one timer serves all flows: the first is always
the next to become idle.

Not done: echo requests from the host to the guest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import inf
from typing import Final

from sansnet_core.addresses import is_link_local, is_unspecified
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowClosed, FlowOpened, FlowReport
from sansnet_core.orders import Buffer, CloseSocket, Endpoint, ExtendedError, OpenEcho, SendEcho, SocketId
from sansnet_core.policy import Verdict
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.wire import icmp4, icmp6
from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import ICMP, ICMPV6, IpHeader

__all__ = ["Echo"]

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
"""RFC 4291, 2.7.1."""

OWN_TTL: Final = 64
"""TTL of replies from our own addresses."""


class _Flow:
    """The requests of one ping program and their replies; the endpoints' port is the identifier."""

    __slots__ = ("guest", "host", "key", "last_used", "received", "remote", "sent", "socket")

    def __init__(self, key: bytes, socket: SocketId, guest: Endpoint, remote: Endpoint, host: Endpoint) -> None:
        self.key = key
        self.socket = socket
        self.guest = guest
        self.remote = remote
        self.host = host
        self.last_used = -inf
        self.sent = self.received = 0


class Echo:
    """The translator of ICMP and ICMPv6 echo."""

    def __init__(self, context: Context, icmp_errors: IcmpErrors) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._flows: OrderedDict[bytes, _Flow] = OrderedDict()
        """Source, destination and identifier -> flow; least recently used first."""
        self._sockets: dict[SocketId, _Flow] = {}
        self._own: dict[bytes, bytes] = {}
        """Destination that is answered here -> source of the reply."""
        self.deadline = self.queued = inf
        self.ticket = 0
        self.reconfigured()

    def reconfigured(self) -> None:
        """Follow the context's new configuration."""
        config = self._context.config
        self._own = {address: address for address in self._context.address_map.own}
        if config.ipv4 and config.ipv4.gateway and is_link_local(config.ipv4.gateway):
            self._own[config.ipv4.gateway] = config.ipv4.gateway
        if config.ipv6:
            self._own |= dict.fromkeys((config.ipv6.gateway, ALL_NODES, ALL_ROUTERS), config.ipv6.gateway)

    def receive4(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer) -> None:
        """Take an ICMP message from the guest: at most one reply or one `SendEcho`.

        Raises:
            Malformed: it is dropped.
        """
        self._receive(ip, icmp, buf, icmp4.ECHO_REQUEST)

    def receive6(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer) -> None:
        """Take an ICMPv6 message from the guest: at most one reply or one `SendEcho`.

        Raises:
            Malformed: it is dropped.
        """
        self._receive(ip, icmp, buf, icmp6.ECHO_REQUEST)

    def _receive(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer, request: int) -> None:
        context = self._context
        if icmp.type != request or icmp.code:
            raise Malformed(Reason.ICMP_TYPE)
        if not context.config.icmp:
            raise Malformed(Reason.PROTOCOL_CLOSED)
        if is_unspecified(ip.source):
            raise Malformed(Reason.IP_SOURCE)
        data = buf[icmp.start : icmp.end]
        own = self._own.get(ip.destination)
        if own is not None:
            self._reply(own, ip.source, icmp.rest, data, OWN_TTL, ip.tos)
            return
        if not ip.ttl:
            raise Malformed(Reason.IP_TTL)
        identifier, sequence = icmp.rest >> 16, icmp.rest & 0xFFFF
        key = ip.source + ip.destination + identifier.to_bytes(2, "big")
        flow = self._flows.get(key) or self._open(key, ip, identifier)
        flow.last_used = context.now
        flow.sent += len(data)
        self._flows.move_to_end(key)
        context.out.orders.append(
            SendEcho(flow.socket, flow.host.address, sequence, data, ip.ttl, ip.tos, ip.may_fragment)
        )

    def echo_received(self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int) -> None:
        """See `Network.echo_received`."""
        flow = self._sockets.get(socket)
        if flow is None:
            return  # closed while the driver was reading it
        if source != flow.host.address:
            ends = Endpoint._make((source, 0)), Endpoint._make((flow.guest.address, 0))
            self._context.drop_packet(Reason.HOST_SOURCE, _protocol(flow.guest), *ends)
            return
        flow.received += len(data)
        self._reply(flow.remote.address, flow.guest.address, flow.guest.port << 16 | sequence, data, ttl, tos)

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes) -> None:
        """See `Network.echo_failed`. The flow stays: other requests may be answered (traceroute sends many at once)."""
        flow = self._sockets.get(socket)
        if flow is None:
            return
        source, destination = flow.guest.address, flow.remote.address
        ends = Endpoint._make((source, 0)), Endpoint._make((destination, 0))
        self._context.drop_packet(Reason.HOST_SEND, _protocol(flow.guest), *ends)
        if not self._icmp_errors.would_report(error, _protocol(flow.guest), *ends):
            return
        rest = flow.guest.port << 16 | sequence
        if len(source) == 4:
            request = icmp4.emit(icmp4.ECHO_REQUEST, 0, rest, data)
        else:
            request = icmp6.emit(icmp6.ECHO_REQUEST, 0, rest, data, source, destination)
        protocol = _protocol(flow.guest)
        self._icmp_errors.host_failed(error, flow.host.address, source, destination, protocol, request)

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""

    def expire(self) -> None:
        """Close the flows that were idle too long."""
        context = self._context
        idle = context.config.limits.echo_idle
        for flow in list(self._flows.values()):
            if flow.last_used + idle > context.now:
                context.timers.arm(self, flow.last_used + idle)
                break
            self._close(flow)

    def flows(self) -> list[FlowReport]:
        """All flows, for reports."""
        return [
            FlowReport(
                one.socket, _protocol(one.guest), one.guest, one.remote, one.host, False, "OPEN", one.sent, one.received
            )
            for one in self._flows.values()
        ]

    def statistics(self) -> Mapping[str, int]:
        """How many flows there are; each has a host socket."""
        return {"echo_flows": len(self._flows)}

    def _open(self, key: bytes, ip: IpHeader, identifier: int) -> _Flow:
        """Open a flow for its first request."""
        context = self._context
        host = context.address_map.to_host(ip.destination, 0)
        if host is None:
            raise Malformed(context.address_map.refusal(ip.destination))
        limits = context.config.limits
        if len(self._flows) >= limits.echo_flows:
            oldest = next(iter(self._flows.values()))
            ends = Endpoint._make((oldest.guest.address, 0)), Endpoint._make((oldest.remote.address, 0))
            context.drop_packet(Reason.ECHO_LIMIT, _protocol(oldest.guest), *ends)
            self._close(oldest)
        guest, remote = Endpoint._make((ip.source, identifier)), Endpoint._make((ip.destination, identifier))
        flow = _Flow(key, context.new_socket(), guest, remote, Endpoint._make((host.address, identifier)))
        self._flows[key] = self._sockets[flow.socket] = flow
        context.timers.arm(self, min(self.deadline, context.now + limits.echo_idle))
        local = context.address_map.outbound(host.address)
        context.out.orders.append(OpenEcho(flow.socket, host.address, local, guest, remote))
        context.notify(FlowOpened(flow.socket, _protocol(guest), guest, remote, flow.host, False, context.now))
        return flow

    def _close(self, flow: _Flow) -> None:
        """Forget a flow and close its socket."""
        context = self._context
        del self._flows[flow.key], self._sockets[flow.socket]
        context.out.orders.append(CloseSocket(flow.socket))
        protocol = _protocol(flow.guest)
        context.notify(
            FlowClosed(
                flow.socket,
                protocol,
                flow.guest,
                flow.remote,
                flow.host,
                False,
                flow.sent,
                flow.received,
                0,
                context.now,
            )
        )

    def _reply(self, source: bytes, destination: bytes, rest: int, data: Buffer, ttl: int, tos: int) -> None:
        """Send the guest an echo reply; `rest` is identifier and sequence number."""
        if len(source) == 4:
            protocol, message = ICMP, icmp4.emit(icmp4.ECHO_REPLY, 0, rest, data)
        else:
            protocol, message = ICMPV6, icmp6.emit(icmp6.ECHO_REPLY, 0, rest, data, source, destination)
        self._context.egress.packet(source, destination, protocol, message, ttl=ttl, tos=tos)


def _protocol(guest: Endpoint) -> int:
    return ICMP if len(guest.address) == 4 else ICMPV6
