"""All TCP connections: which one a segment or a socket belongs to, and how they are opened and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ECONNREFUSED,
    EHOSTUNREACH,
    EINVAL,
    ENOBUFS,
    EPROTONOSUPPORT,
)
from math import inf
from typing import Final

from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowRefused, FlowReport
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    DecideFlow,
    Endpoint,
    ExtendedError,
    OpenStream,
    ServeStream,
    SocketId,
)
from sansnet_core.policy import Action, Allow, Refuse, Serve, Verdict
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.tcp import arrival, reports, states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.refusal import local_error, refuse_syn
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.wire import tcp as wire
from sansnet_core.wire.ip import TCP, IpHeader
from sansnet_core.wire.quoted import Quoted
from sansnet_core.wire.tcp import ACK, FIN, RST, SYN, TcpHeader, add, diff

__all__ = ["Tcp"]

_FIRST_PORT: Final = 32768
_PORTS: Final = 28232
"""The ports of our own that the program connects from are those that Linux takes (net.ipv4.ip_local_port_range)."""


class Tcp:
    """All TCP connections of the guest.

    Args:
        context: of the network.
        icmp_errors: of the network.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.
    """

    def __init__(self, context: Context, icmp_errors: IcmpErrors, find_station: Callable[[bytes], None]) -> None:
        self.context = context
        self._find_station = find_station
        self._shared: TcpShared[TcpFlow] = TcpShared(context, icmp_errors, self._forget)
        self.deadline = self.queued = inf
        self.ticket = 0
        self._inbound = 0
        self._next_port = _FIRST_PORT + context.entropy.next(32) % _PORTS
        self._questions = Questions(context, self._undecided)
        self._flows: dict[bytes, TcpFlow] = {}
        self._sockets: dict[SocketId, TcpFlow] = {}

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def held(self) -> int:
        """Payload bytes that all connections hold, in either direction."""
        return self._shared.memory.held

    def flows(self) -> list[FlowReport]:
        """A report on each connection."""
        return [reports.report(flow) for flow in self._flows.values()]

    # the guest

    def receive(self, ip: IpHeader, buf: Buffer) -> None:
        """Process a segment from the guest.

        Raises:
            Malformed: the segment is malformed, or may not pass.
        """
        tcp = wire.parse(buf, ip, self.context.verify)
        key = ip.source + ip.destination + buf[ip.start : ip.start + 4]
        flow = self._flows.get(key)
        if tcp.flags & (SYN | ACK | RST) == SYN:
            if flow is None or (not tcp.flags & FIN and self._superseded(flow, tcp)):
                self._open(ip, tcp, key, buf)
                return
            if flow.irs == tcp.sequence and flow.lifecycle[0] is states.SYN_RECEIVED:
                flow.syn_repeated()
                return
        if flow is not None:
            arrival.receive(flow, tcp, buf)
        elif not tcp.flags & RST:
            self._reset(ip, tcp)

    def _superseded(self, flow: TcpFlow, syn: TcpHeader) -> bool:
        """Whether a new SYN ends `flow`, which is not answered yet or in TIME-WAIT (RFC 9293, 3.10.7.4)."""
        state = flow.lifecycle[0]
        if state is states.SYN_RECEIVED and syn.sequence != flow.irs:
            flow.fire(states.GUEST_RESET)
            return True
        if state is states.TIME_WAIT and diff(syn.sequence, flow.receiver.next) > 0:
            flow.fire(states.TIME_OVER)
            return True
        return False

    def _open(self, ip: IpHeader, syn: TcpHeader, key: bytes, buf: Buffer) -> None:
        context = self.context
        if syn.flags & FIN:
            raise Malformed(Reason.TCP_FLAGS)  # a port scan; no stack sends it
        guest = Endpoint._make((ip.source, syn.source_port))
        remote = Endpoint._make((ip.destination, syn.destination_port))
        if refusal := self._questions.refusal(key, syn.sequence):
            context.drop_packet(Reason.REFUSED, TCP, guest, remote)
            self._answer(guest, remote, refusal.host, syn, refusal.error)
            return
        address_map = context.address_map
        service = context.services.find(TCP, *remote, own=address_map.is_own(remote.address))
        if service is not None:
            self._serve(self._begin(syn, key, buf, guest, remote, remote), service)
            return
        host = address_map.to_host(*remote)
        if host is None:
            reason = address_map.refusal(remote.address)
            context.notify(FlowRefused(TCP, guest, remote, None, 0, reason, False, context.now))
            if reason is not Reason.OWN_ADDRESS:
                raise Malformed(reason)
            context.drop_packet(reason, TCP, guest, remote)
            self._reset(ip, syn)  # as a node with that address and without a listener does
            return
        rule = context.policy.find(TCP, remote, remote.port, inbound=False)
        if rule.action is Action.ALLOW:
            self._connect(self._begin(syn, key, buf, guest, remote, host), rule.to or host)
        elif rule.action is Action.ASK:
            if self._questions.is_full(inbound=False):
                self._refused(guest, remote, 0, Reason.UNDECIDED_LIMIT)
            else:
                self._ask(self._begin(syn, key, buf, guest, remote, host, undecided=True), remote)
        else:
            error = local_error(rule.errno) if rule.action is Action.REFUSE else None
            self._refused(guest, remote, error.errno if error else 0, Reason.REFUSED)
            self._answer(guest, remote, host.address, syn, error)

    def _begin(
        self,
        syn: TcpHeader,
        key: bytes,
        buf: Buffer,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        undecided: bool = False,
    ) -> TcpFlow:
        """Make a connection of the guest from its SYN.

        Raises:
            Malformed: there are too many connections.
        """
        context = self.context
        limits = context.config.limits
        if len(self._flows) >= limits.tcp_flows or self._shared.pending[False] >= limits.tcp_pending:
            if not self._shared.connecting:
                # The guest repeats its SYN, and there may be room then
                context.notify(FlowRefused(TCP, guest, remote, None, 0, Reason.TCP_LIMIT, False, context.now))
                raise Malformed(Reason.TCP_LIMIT)
            oldest = next(iter(self._shared.connecting))
            context.drop_packet(Reason.TCP_LIMIT, TCP, oldest.guest, oldest.remote)
            oldest.evict(Reason.TCP_LIMIT)  # if the guest still waits, it repeats the SYN of this connection
        flow = TcpFlow(self._shared, context.new_socket(), key, guest, remote, host, undecided=undecided)
        flow.syn_received(syn, wire.parse_options(buf, syn.options_start, syn.start))
        self._add(flow)
        self._shared.connecting[flow] = None
        return flow

    def _connect(self, flow: TcpFlow, host: Endpoint) -> None:
        """Order the host's socket of a connection of the guest."""
        self._opened(flow, host)
        context = self.context
        local = context.address_map.outbound(host.address)
        context.out.orders.append(OpenStream(flow.socket, host, local, flow.guest, flow.remote))

    def _serve(self, flow: TcpFlow, service: SocketId | None) -> None:
        """Let the program serve a connection of the guest."""
        self._opened(flow, flow.remote)
        self.context.out.orders.append(ServeStream(flow.socket, service, flow.guest, flow.remote))

    def _opened(self, flow: TcpFlow, host: Endpoint) -> None:
        flow.open(host)
        self.context.notify(reports.opened(flow, self.context.now))

    def _ask(self, flow: TcpFlow, destination: Endpoint) -> None:
        """Ask for a verdict about a connection."""
        self._questions.add(flow)
        self.context.out.orders.append(DecideFlow(flow.socket, TCP, flow.guest, destination, flow.inbound))

    def _add(self, flow: TcpFlow) -> None:
        self._flows[flow.key] = self._sockets[flow.socket] = flow
        self._shared.pending[flow.inbound] += 1
        self._inbound += flow.inbound

    def _refused(self, guest: Endpoint, remote: Endpoint, errno: int, reason: Reason) -> None:
        """Count and report a connection of the guest that may not open."""
        context = self.context
        context.drop_packet(reason, TCP, guest, remote)
        context.notify(FlowRefused(TCP, guest, remote, None, errno, reason, False, context.now))

    def _answer(
        self, guest: Endpoint, remote: Endpoint, host: bytes, syn: TcpHeader, error: ExtendedError | None
    ) -> None:
        refuse_syn(self.context, self._shared.icmp_errors, guest, remote, host, syn.sequence, error)

    def unreachable(self, packet: Quoted, *, port: bool) -> bool:
        """Process an ICMP error that quotes a segment to the guest.

        Args:
            packet: the quoted part of the segment.
            port: whether the port is unreachable, so that the connection is refused.

        Returns:
            Whether the segment belongs to a connection.
        """
        flow = self._flows.get(packet.reverse_key())
        if flow is None:
            return False
        flow.unreachable(packet.number, ECONNREFUSED if port else EHOSTUNREACH)
        return True

    def _reset(self, ip: IpHeader, tcp: TcpHeader) -> None:
        """Answer a segment that belongs to no connection (RFC 9293, 3.10.7.1)."""
        if not self.context.address_map.is_node(ip.destination):
            return  # a group (RFC 9293, 3.9.2.3), or another address that is no source (RFC 4291, 2.5 and 2.7)
        headers = FlowHeaders(
            self.context.egress,
            Endpoint._make((ip.destination, tcp.destination_port)),
            Endpoint._make((ip.source, tcp.source_port)),
            TCP,
        )
        if tcp.flags & ACK:
            headers.tcp(tcp.acknowledgment, 0, RST, 0, b"", b"", 0)
        else:
            length = tcp.end - tcp.start + bool(tcp.flags & SYN) + bool(tcp.flags & FIN)
            headers.tcp(0, add(tcp.sequence, length), RST | ACK, 0, b"", b"", 0)

    # facts from the host's sockets; facts about closed sockets are ignored, since the driver may be late

    def stream_accepted(self, remote: Endpoint, address: bytes | None, port: int) -> SocketId | None:
        """A connection from outside was accepted; see `Network.stream_accepted`."""
        context = self.context
        guest = Endpoint._make((address or bytes(len(remote.address)), port))
        errno = 0
        ends = self._inbound_ends(remote, address, port)
        if isinstance(ends, Reason):
            reason = ends
        else:
            guest, seen = ends
            verdict = context.policy.find(TCP, remote, port, inbound=True).verdict
            if isinstance(verdict, Allow):
                return self._invite(guest, seen, remote).socket
            if verdict is None and not self._questions.is_full(inbound=True):
                flow = self._invite(guest, seen, remote, undecided=True)
                self._ask(flow, remote)
                return flow.socket
            reason = Reason.REFUSED if verdict else Reason.UNDECIDED_LIMIT
            errno = verdict.errno if isinstance(verdict, Refuse) else 0
        context.drop_packet(reason, TCP, remote, guest)
        context.notify(FlowRefused(TCP, guest, remote, remote, errno, reason, True, context.now))
        return None

    def _inbound_ends(self, remote: Endpoint, address: bytes | None, port: int) -> tuple[Endpoint, Endpoint] | Reason:
        """The endpoints of a connection from outside, as the guest sees them, or why there may be none."""
        context = self.context
        if not context.config.tcp:
            return Reason.PROTOCOL_CLOSED
        ends = context.address_map.inbound(remote.address, address, context.guest)
        if isinstance(ends, Reason):
            return ends
        source, destination = ends
        guest, seen = Endpoint._make((destination, port)), Endpoint._make((source, remote.port))
        if not self._is_free(_key(guest, seen)):
            return Reason.INBOUND_COLLISION
        return Reason.TCP_LIMIT if self._inbound_is_full() else (guest, seen)

    def _is_free(self, key: bytes) -> bool:
        """Whether there is no other connection with the same ends; one in TIME-WAIT gives way."""
        old = self._flows.get(key)
        if old is not None and old.lifecycle[0] is states.TIME_WAIT:
            old.fire(states.TIME_OVER)  # if the guest is in TIME-WAIT too, it decides by itself
            return True
        return old is None

    def _inbound_is_full(self) -> bool:
        limits = self.context.config.limits
        return (
            len(self._flows) >= limits.tcp_flows
            or self._inbound >= limits.tcp_inbound_flows
            or self._shared.pending[True] >= limits.tcp_pending
        )

    def _invite(self, guest: Endpoint, remote: Endpoint, host: Endpoint, *, undecided: bool = False) -> TcpFlow:
        """Make a connection to the guest, and send the SYN unless a verdict is needed first."""
        key, socket = _key(guest, remote), self.context.new_socket()
        flow = TcpFlow(self._shared, socket, key, guest, remote, host, inbound=True, undecided=undecided)
        flow.offer()
        self._add(flow)
        if not undecided:
            self._send_syn(flow)
        return flow

    def _send_syn(self, flow: TcpFlow) -> None:
        self._opened(flow, flow.host)
        self._find_station(flow.guest.address)
        flow.begin_handshake()

    def stream_connected(self, socket: SocketId) -> None:
        """The host's connect succeeded."""
        if flow := self._sockets.get(socket):
            flow.fire(states.HOST_CONNECTED)

    def stream_received(self, socket: SocketId, data: bytes) -> None:
        """Bytes from the host."""
        if flow := self._sockets.get(socket):
            flow.stream_received(data)

    def stream_sent(self, socket: SocketId, count: int) -> None:
        """The host's socket took `count` bytes of the `SendStream` orders."""
        if flow := self._sockets.get(socket):
            flow.stream_sent(count)

    def stream_ended(self, socket: SocketId) -> None:
        """The host sent FIN."""
        if flow := self._sockets.get(socket):
            flow.stream_ended()

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None) -> None:
        """The host's connect failed, or its connection is broken."""
        if flow := self._sockets.get(socket):
            flow.host_failed(error if error and error.errno == errno else local_error(errno))

    def receive_budget(self, socket: SocketId) -> int:
        """How many bytes may be read from the host's socket."""
        flow = self._sockets.get(socket)
        return flow.receive_budget() if flow else 0

    def endpoints(self, socket: SocketId) -> tuple[Endpoint, Endpoint] | None:
        """See `Network.stream_endpoints`."""
        flow = self._sockets.get(socket)
        return (flow.guest, flow.remote) if flow else None

    def unacknowledged(self, socket: SocketId) -> int:
        """See `Network.stream_unacknowledged`."""
        flow = self._sockets.get(socket)
        return flow.sender.buffer.held if flow else 0

    # the program

    def stream_opened(self, source: Endpoint | None, address: bytes | None, port: int) -> SocketId | int:
        """See `Network.stream_opened`."""
        context = self.context
        if not context.config.tcp:
            return -EPROTONOSUPPORT
        if not 0 < port < 65536 or (source is not None and not 0 <= source.port < 65536):
            return -EINVAL
        ends = context.address_map.from_program(source.address if source else None, address, context.guest)
        if isinstance(ends, int):
            return -ends
        if self._inbound_is_full():
            return -ENOBUFS
        guest = Endpoint._make((ends[1], port))
        if source is not None and source.port:
            remote = Endpoint._make((ends[0], source.port))
            if not self._is_free(_key(guest, remote)):
                return -EADDRINUSE
        else:
            free = self._free_port(guest, ends[0])
            if free is None:
                return -EADDRNOTAVAIL
            remote = Endpoint._make((ends[0], free))
        return self._invite(guest, remote, remote).socket

    def _free_port(self, guest: Endpoint, address: bytes) -> int | None:
        """A port of `address` that has no connection with `guest`."""
        for _ in range(_PORTS):
            port = self._next_port
            self._next_port = _FIRST_PORT + (port + 1 - _FIRST_PORT) % _PORTS
            if _key(guest, Endpoint._make((address, port))) not in self._flows:
                return port
        return None

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        flow = self._sockets.get(socket)
        if flow is not None and self._questions.remove(flow):
            self._decide(flow, verdict, Reason.REFUSED)

    def _decide(self, flow: TcpFlow, verdict: Verdict, reason: Reason) -> None:
        """Act on a verdict; `reason` is the one for a refusal."""
        if flow.inbound and isinstance(verdict, Allow):
            self._send_syn(flow)
            return
        if not flow.inbound and isinstance(verdict, Serve):
            self._serve(flow, None)
            return
        errno: int | None = EACCES
        if isinstance(verdict, Allow):
            address_map = self.context.address_map
            host = address_map.to_host(*flow.remote)  # the configuration may have changed
            if host is not None:
                self._connect(flow, verdict.to or host)
                return
            reason = address_map.refusal(flow.remote.address)
            errno = ECONNREFUSED if reason is Reason.OWN_ADDRESS else EACCES
        elif not isinstance(verdict, Serve):
            errno = verdict.errno if isinstance(verdict, Refuse) else None
        self.context.drop_packet(reason, TCP, flow.guest, flow.remote)
        flow.refuse(None if errno is None else local_error(errno), reason)
        if not flow.inbound:
            self._questions.remember(flow)

    def _undecided(self, flow: TcpFlow) -> None:
        """Refuse a connection that got no verdict in time."""
        self._refuse_undecided(flow, Refuse(EACCES), Reason.UNDECIDED)

    def _refuse_undecided(self, flow: TcpFlow, verdict: Verdict, reason: Reason) -> None:
        if not flow.inbound:  # the order to abort an inbound connection withdraws the question too
            self.context.out.orders.append(CloseSocket(flow.socket))
        self._decide(flow, verdict, reason)

    def reconfigured(self) -> None:
        """Follow the context's new configuration, which may refuse connections without a verdict."""
        context, questions = self.context, self._questions
        questions.forget_refusals()
        for flow in questions.undecided():
            ends = (flow.host, flow.guest.port) if flow.inbound else (flow.remote, flow.remote.port)
            verdict = context.policy.find(TCP, *ends, inbound=flow.inbound).verdict
            if not flow.inbound and context.address_map.to_host(*flow.remote) is None:
                verdict = Allow()  # which is refused
            elif verdict is None or isinstance(verdict, Allow):
                continue
            questions.remove(flow)
            self._refuse_undecided(flow, verdict, Reason.REFUSED)

    # the end of a batch, and of a connection

    def flush(self) -> None:
        """Send the segments that the inputs since the last call require."""
        if self._shared.memory.waiting:
            self.context.timers.arm(self, self._shared.memory.resume(self.context.now))
        shared = self._shared
        flows, shared.dirty = shared.dirty, []
        for flow in flows:
            flow.flush()

    def expire(self) -> None:
        """The deadline of `Memory.resume` has passed; `flush` resumes the streams."""

    def _forget(self, flow: TcpFlow) -> None:
        """Remove a connection that is over on both sides."""
        context, shared = self.context, self._shared
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        if self._sockets.pop(flow.socket, None) is None:
            return
        self._inbound -= flow.inbound
        shared.connecting.pop(flow, None)
        shared.memory.forget(flow, flow.held, flow.receiver.queued)
        flow.free_buffers()
        context.timers.forget(flow)
        self._questions.remove(flow)
        if refused := reports.refused(flow, context.now):
            context.notify(refused)
        if flow.told:
            context.notify(reports.closed(flow, context.now))


def _key(guest: Endpoint, remote: Endpoint) -> bytes:
    """The key of a connection: addresses and ports as in the guest's segments."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
