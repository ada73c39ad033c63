"""Translates echo requests of the guest to ping sockets of the host, and the replies back.

Theory of operation. A flow is the guest's address, the destination and the identifier of a ping. Each flow has its own
ping socket, since the kernel chooses the identifier on the wire and assigns replies by it. Sequence numbers and
payloads pass unchanged. Requests to addresses that exist in the program only are answered here, and so are those of a
flow whose verdict is `Serve`. A flow that is refused or waits has no socket.

A ping can carry data of the guest out. So where there are rules, its size and the rate of all pings are bounded.

`_flows` is ordered by last use. So eviction at the limit is exact, and one timer serves all flows: the first is always
the next to become idle.

Not done: echo requests from the host to the guest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from errno import EMSGSIZE
from functools import partial
from math import inf
from typing import Final, NamedTuple

from sansnet_core import checks
from sansnet_core.addresses import is_link_local, is_unspecified
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowClosed, FlowOpened, FlowReport
from sansnet_core.orders import (
    ORIGIN_ICMP,
    ORIGIN_LOCAL,
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenEcho,
    SendEcho,
    SocketId,
)
from sansnet_core.policy import Action, Refuse, Serve, Verdict
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.undecided import UNREACHABLE, Admission, NewFlow, Outcome, Question, Refusal, Undecided
from sansnet_core.token_bucket import TokenBucket
from sansnet_core.wire import icmp4, icmp6
from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import ICMP, ICMPV6, IpHeader

__all__ = ["Echo"]

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
"""RFC 4291, 2.7.1."""

OWN_TTL: Final = 64
"""TTL of replies from our own addresses."""


class _Request(NamedTuple):
    """An echo request that waits for a verdict; see `SendEcho`."""

    sequence: int
    data: bytes
    ttl: int
    tos: int
    may_fragment: bool


@mypyc_attr(allow_interpreted_subclasses=True)
class _Flow:
    """The requests of one ping program and their replies; the endpoints' port is the identifier."""

    __slots__ = (
        "admission",
        "errno",
        "first",
        "guest",
        "host",
        "key",
        "last_used",
        "received",
        "remote",
        "sent",
        "served",
        "socket",
    )

    def __init__(
        self,
        key: bytes,
        socket: SocketId,
        guest: Endpoint,
        remote: Endpoint,
        admission: Admission,
        *,
        served: bool,
    ) -> None:
        self.key = key
        self.socket = socket
        self.guest = guest
        self.remote = remote
        self.admission = admission
        """Its first host is the present one."""
        self.host = Endpoint._make((admission.hosts[0].address, remote.port))
        self.first = (0, 0, False)
        """TTL, TOS and whether it may be fragmented, of the first request."""
        self.served = served
        self.last_used = -inf
        self.sent = self.received = 0
        self.errno = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Echo:
    """The translator of ICMP and ICMPv6 echo."""

    def __init__(self, context: Context, icmp_errors: IcmpErrors) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._flows: OrderedDict[bytes, _Flow] = OrderedDict()
        """Source, destination and identifier -> flow; least recently used first."""
        self._sockets: dict[SocketId, _Flow] = {}
        self._own: dict[bytes, bytes] = {}
        """Destination that is answered here -> source of the reply; other own addresses answer by themselves."""
        limit = context.config.limits.echo_flows
        self._undecided: Undecided[_Request] = Undecided(context, (limit, limit), self._settle)
        self._bucket = TokenBucket(context.config.limits.echo_rate, context.config.limits.echo_burst, context.now)
        self._limited = False
        """Whether there are rules, under which pings are bounded."""
        self.deadline = self.queued = inf
        self.ticket = 0
        self._configure()

    def reconfigured(self) -> None:
        """Follow the context's new configuration. Flows to addresses that exist in the program only end."""
        self._configure()
        for flow in list(self._flows.values()):
            if not flow.served and self._own_source(flow.remote.address) is not None:
                self._close(flow)
        self._undecided.reconfigured()

    def judge_again(self) -> None:
        """End the flows that the present rules do not allow."""
        for flow in list(self._flows.values()):
            if not self._is_allowed(flow):
                self._close(flow, Reason.REFUSED)

    def _is_allowed(self, flow: _Flow) -> bool:
        """Whether the present rules allow a flow that is open; the other hosts that they close are given up."""
        targets, protocol, admission = self._context.targets, _protocol(flow.guest), flow.admission
        if flow.served:
            target = targets.find(protocol, flow.remote)
            return target is None or target.reason is None
        first, *others = admission.hosts
        is_allowed = partial(targets.is_allowed, protocol, flow.remote, name=admission.name)
        flow.admission = admission._replace(hosts=(first, *filter(is_allowed, others)))
        return is_allowed(first)

    def _configure(self) -> None:
        config = self._context.config
        self._limited = bool(config.rules) or config.default_action not in (None, Action.ALLOW)
        self._own = {}
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
        identifier, sequence = icmp.rest >> 16, icmp.rest & 0xFFFF
        key = ip.source + ip.destination + identifier.to_bytes(2, "big")
        flow = self._flows.get(key)
        if flow is None:
            own = self._own_source(ip.destination)
            if own is not None:
                self._reply(own, ip.source, icmp.rest, data, OWN_TTL, ip.tos)
                return
        if not ip.ttl:
            raise Malformed(Reason.IP_TTL)
        if flow is None:
            flow = self._open(key, ip, identifier, sequence, data)
            if flow is None:
                return  # it waits
        self._send(flow, sequence, data, ip.ttl, ip.tos, ip.may_fragment)

    def _own_source(self, destination: bytes) -> bytes | None:
        """The source of a reply from here; None if requests to `destination` are not answered here."""
        own = self._own.get(destination)
        return destination if own is None and self._context.address_map.is_own(destination) else own

    def _send(self, flow: _Flow, sequence: int, data: Buffer, ttl: int, tos: int, may_fragment: bool) -> None:
        """Send a request of a flow to the host, or reply here."""
        if self._limited and not (flow.served or self._is_within_limits(flow, len(data))):
            ends = Endpoint._make((flow.guest.address, 0)), Endpoint._make((flow.remote.address, 0))
            self._context.drop_packet(Reason.ECHO_RATE, _protocol(flow.guest), *ends)
            return
        flow.last_used = self._context.now
        flow.sent += len(data)
        self._flows.move_to_end(flow.key)
        if flow.served:
            flow.received += len(data)
            self._reply(flow.remote.address, flow.guest.address, flow.guest.port << 16 | sequence, data, OWN_TTL, tos)
            return
        if len(data) > checks.MAX_DATA[len(flow.host.address)]:
            error = ExtendedError(EMSGSIZE, ORIGIN_LOCAL, 0, 0, 0, None)
            self.echo_failed(flow.socket, sequence, error, bytes(data))
            return
        self._context.out.orders.append(
            SendEcho(flow.socket, flow.host.address, sequence, data, ttl, tos, may_fragment)
        )

    def _is_within_limits(self, flow: _Flow, size: int) -> bool:
        """Whether a request of this size may pass now, where rules bound pings."""
        most = self._context.config.limits.echo_size - (20 if len(flow.guest.address) == 16 else 0)
        return size <= most and self._bucket.take(self._context.now)

    def echo_received(self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int) -> None:
        """See `Network.echo_received`."""
        flow = self._sockets.get(socket)
        if flow is None:
            return  # closed while the driver was reading it
        if source != flow.host.address:
            ends = Endpoint._make((source, 0)), Endpoint._make((flow.guest.address, 0))
            self._context.drop_packet(Reason.HOST_SOURCE, _protocol(flow.guest), *ends)
            return
        if len(data) > checks.MAX_DATA[len(flow.guest.address)]:
            ends = Endpoint._make((flow.remote.address, 0)), Endpoint._make((flow.guest.address, 0))
            self._context.drop_packet(Reason.HOST_SIZE, _protocol(flow.guest), *ends)
            return
        flow.received += len(data)
        self._reply(flow.remote.address, flow.guest.address, flow.guest.port << 16 | sequence, data, ttl, tos)

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes) -> None:
        """See `Network.echo_failed`. The flow stays: other requests may be answered (traceroute sends many at once)."""
        flow = self._sockets.get(socket)
        if flow is None:
            return
        flow.errno = error.errno
        if len(flow.admission.hosts) > 1 and error.errno in UNREACHABLE and not flow.received:
            self._try_next(flow, error, sequence, data)
            return
        ends = Endpoint._make((flow.guest.address, 0)), Endpoint._make((flow.remote.address, 0))
        self._context.drop_packet(Reason.HOST_SEND, _protocol(flow.guest), *ends)
        self._report(error, flow.guest, flow.remote, flow.host.address, sequence, data)

    def _try_next(self, flow: _Flow, error: ExtendedError, sequence: int, data: bytes) -> None:
        """Go on with the next of a host's addresses, since one cannot be reached.

        If the host's own kernel refused it, the data are complete, and are sent again. An ICMP error may quote a part.
        """
        admission = flow.admission._replace(hosts=flow.admission.hosts[1:])
        self._close(flow)
        following = self._open_to_host(flow.key, self._context.new_socket(), flow.guest, flow.remote, admission)
        following.first = flow.first
        if error.origin < ORIGIN_ICMP:
            self._send(following, sequence, data, *flow.first)

    def _report(
        self, error: ExtendedError, guest: Endpoint, remote: Endpoint, host: bytes, sequence: int, data: Buffer
    ) -> None:
        """Report to the guest that its request failed on the way to the host address `host`."""
        source, destination, protocol = guest.address, remote.address, _protocol(guest)
        ends = Endpoint._make((source, 0)), Endpoint._make((destination, 0))
        if not self._icmp_errors.would_report(error, protocol, *ends):
            return
        rest = guest.port << 16 | sequence
        if len(source) == 4:
            request = icmp4.emit(icmp4.ECHO_REQUEST, 0, rest, data)
        else:
            request = icmp6.emit(icmp6.ECHO_REQUEST, 0, rest, data, source, destination)
        self._icmp_errors.host_failed(error, host, source, destination, protocol, request)

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        self._undecided.decided(socket, verdict)

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
        flows = [
            FlowReport(
                one.socket,
                _protocol(one.guest),
                one.guest,
                one.remote,
                one.host,
                False,
                "OPEN",
                one.sent,
                one.received,
                one.admission.name,
            )
            for one in self._flows.values()
        ]
        return flows + self._undecided.reports()

    def statistics(self) -> Mapping[str, int]:
        """How many flows there are; each has a host socket, unless it is served here."""
        return {"echo_flows": len(self._flows)}

    def _open(self, key: bytes, ip: IpHeader, identifier: int, sequence: int, data: Buffer) -> _Flow | None:
        """Open a flow for its first request; None if the request waits.

        Raises:
            Malformed: the flow is refused.
        """
        undecided = self._undecided
        guest, remote = Endpoint._make((ip.source, identifier)), Endpoint._make((ip.destination, identifier))
        new = NewFlow(key, ip.protocol, guest, remote)
        outcome: Outcome[_Request] = undecided.known(new) or undecided.judge(new)
        if isinstance(outcome, Admission):
            flow = self._open_to_host(key, self._context.new_socket(), guest, remote, outcome)
            flow.first = ip.ttl, ip.tos, ip.may_fragment
            return flow
        if isinstance(outcome, Refusal):
            self._answer(outcome, guest, remote, sequence, data)
            raise Malformed(outcome.reason)
        if outcome is None:
            raise Malformed(Reason.UNDECIDED_LIMIT)
        undecided.keep(outcome, _Request(sequence, bytes(data), ip.ttl, ip.tos, ip.may_fragment), len(data))
        return None

    def _answer(self, refusal: Refusal, guest: Endpoint, remote: Endpoint, sequence: int, data: Buffer) -> None:
        """Report to the guest that a request of a refused flow failed, if the verdict says so."""
        if isinstance(refusal.verdict, Refuse):
            error = ExtendedError(refusal.verdict.errno, ORIGIN_LOCAL, 0, 0, 0, None)
            self._report(error, guest, remote, remote.address, sequence, data)

    def _settle(self, question: Question[_Request], outcome: Admission | Serve | Refusal) -> None:
        """Open or refuse a flow that waited."""
        context, new = self._context, question.flow
        guest, remote = new.guest, new.remote
        if isinstance(outcome, Refusal):
            ends = Endpoint._make((guest.address, 0)), Endpoint._make((remote.address, 0))
            for one in question.packets:
                context.drop_packet(outcome.reason, new.protocol, *ends)
                self._answer(outcome, guest, remote, one.sequence, one.data)
            return
        key = guest.address + remote.address + remote.port.to_bytes(2, "big")
        if isinstance(outcome, Serve):
            admission = Admission((remote,), name=question.name)
            flow = self._add(_Flow(key, question.socket, guest, remote, admission, served=True))
        else:
            flow = self._open_to_host(key, question.socket, guest, remote, outcome)
        for one in question.packets:
            flow.first = one.ttl, one.tos, one.may_fragment
            self._send(flow, one.sequence, one.data, *flow.first)

    def _open_to_host(
        self, key: bytes, socket: SocketId, guest: Endpoint, remote: Endpoint, admission: Admission
    ) -> _Flow:
        """Open a flow with a ping socket to the first of the hosts that it may use."""
        flow = self._add(_Flow(key, socket, guest, remote, admission, served=False))
        host = flow.host.address
        local = self._context.address_map.outbound(host)
        self._context.out.orders.append(OpenEcho(flow.socket, host, local, guest, remote))
        return flow

    def _add(self, flow: _Flow) -> _Flow:
        """Add a flow; the least recently used one gives way if there are too many."""
        context = self._context
        limits = context.config.limits
        if len(self._flows) >= limits.echo_flows:
            oldest = next(iter(self._flows.values()))
            ends = Endpoint._make((oldest.guest.address, 0)), Endpoint._make((oldest.remote.address, 0))
            context.drop_packet(Reason.ECHO_LIMIT, _protocol(oldest.guest), *ends)
            self._close(oldest)
        self._flows[flow.key] = self._sockets[flow.socket] = flow
        context.timers.arm(self, min(self.deadline, context.now + limits.echo_idle))
        name, judgement = flow.admission.name, flow.admission.judgement
        if name is not None:
            context.targets.pin(flow.remote)
        protocol = _protocol(flow.guest)
        if context.notices:
            rule = judgement.text if judgement is not None else None
            context.notify(
                FlowOpened(flow.socket, protocol, flow.guest, flow.remote, flow.host, False, context.now, name, rule)
            )
        return flow

    def _close(self, flow: _Flow, reason: Reason | None = None) -> None:
        """Forget a flow, for a reason if a rule ends it, and close its socket, if it has one."""
        context = self._context
        del self._flows[flow.key], self._sockets[flow.socket]
        if not flow.served:
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
                0 if flow.received else flow.errno,
                context.now,
                flow.admission.name,
                reason,
            )
        )
        if flow.admission.name is not None:
            context.targets.unpin(flow.remote)

    def abandon(self, owner: object) -> str | None:
        """Give up a flow after an exception in its methods, as text; None if `owner` is none."""
        if not isinstance(owner, _Flow):
            return self._undecided.abandon(owner)
        if self._flows.get(owner.key) is owner:
            del self._flows[owner.key]
        self._context.drop_packet(Reason.FAILED, _protocol(owner.guest), owner.guest, owner.remote)
        if not owner.served:
            self._context.out.close(owner.socket)
        return f"ping {owner.guest} to {owner.remote}"

    def named(self, socket: SocketId) -> object:
        """The flow that waits by a name; None if there is none. Replies of others may be lost."""
        return self._undecided.named(socket)

    def recount(self) -> None:
        """Correct what depends on the flows after an exception."""
        self._undecided.recount()
        self._sockets = {flow.socket: flow for flow in self._flows.values()}
        if self._flows and self.deadline == inf:
            self._context.timers.arm(self, self._context.now)

    def _reply(self, source: bytes, destination: bytes, rest: int, data: Buffer, ttl: int, tos: int) -> None:
        """Send the guest an echo reply; `rest` is identifier and sequence number."""
        if len(source) == 4:
            protocol, message = ICMP, icmp4.emit(icmp4.ECHO_REPLY, 0, rest, data)
        else:
            protocol, message = ICMPV6, icmp6.emit(icmp6.ECHO_REPLY, 0, rest, data, source, destination)
        self._context.egress.packet(source, destination, protocol, message, ttl=ttl, tos=tos)


def _protocol(guest: Endpoint) -> int:
    return ICMP if len(guest.address) == 4 else ICMPV6
