"""All TCP connections: which one a segment or a socket belongs to, and how they are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    ECONNREFUSED,
    EHOSTUNREACH,
)
from math import inf

from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowReport
from sansnet_core.orders import (
    Buffer,
    Endpoint,
    ExtendedError,
    SocketId,
)
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.tcp import arrival, facts, path_mtu, recovery, reports, states, timeouts
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.opening import Opening
from sansnet_core.proto.tcp.prediction import Prediction
from sansnet_core.proto.tcp.refusal import local_error
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.wire import tcp as wire
from sansnet_core.wire.ip import TCP, IpHeader
from sansnet_core.wire.quoted import Quoted
from sansnet_core.wire.tcp import ACK, FIN, RST, SYN, TcpHeader, add, diff

__all__ = ["Tcp"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Tcp:
    """All TCP connections of the guest.

    Args:
        context: of the network.
        icmp_errors: of the network.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.

    Attributes:
        opening: opens connections.
        prediction: the short cut for segments that are as expected.
    """

    def __init__(self, context: Context, icmp_errors: IcmpErrors, find_station: Callable[[bytes], None]) -> None:
        self.context = context
        self._shared: TcpShared[TcpFlow] = TcpShared(context, icmp_errors, self._forget, timeouts.expire)
        self.deadline = self.queued = inf
        self.ticket = 0
        self._table = FlowTable()
        self._flows, self._sockets = self._table.by_key, self._table.by_socket
        self.opening = Opening(context, self._shared, self._table, find_station)
        self.prediction = Prediction(context, self._shared, self._flows, self.opening, icmp_errors)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def held(self) -> int:
        """Payload bytes that all connections hold, in either direction."""
        return self._shared.memory.held

    @property
    def lost(self) -> int:
        """Bytes that the guest has sent, and that hosts had not taken when they failed or the rules closed them."""
        return self._shared.lost

    def flows(self) -> list[FlowReport]:
        """A report on each connection."""
        return [reports.report(flow) for flow in self._table.all()]

    # the guest

    def receive(self, ip: IpHeader, buf: Buffer) -> None:
        """Process a segment from the guest.

        Raises:
            Malformed: the segment is malformed, or may not pass.
        """
        tcp = wire.parse(buf, ip, self.context.verify)
        key = ip.source + ip.destination + buf[ip.start : ip.start + 4]
        flow = self._flows.get(key)
        if flow is not None:
            flow.awake()
        if tcp.flags & (SYN | ACK | RST) == SYN:
            if flow is None or (not tcp.flags & FIN and self._superseded(flow, tcp)):
                self.opening.syn_received(tcp, key, buf)
                return
            if flow.irs == tcp.sequence and flow.lifecycle[0] is states.SYN_RECEIVED:
                flow.syn_repeated()
                return
        if flow is not None:
            arrival.receive(flow, tcp, buf)
        elif not tcp.flags & RST:
            self._reset(ip, tcp)

    def receive_closed(self, ip: IpHeader, buf: Buffer) -> None:
        """Refuse a segment from the guest, because TCP is switched off.

        Raises:
            Malformed: always.
        """
        tcp = wire.parse(buf, ip, self.context.verify)
        if tcp.flags & (SYN | ACK | RST) == SYN:
            guest = Endpoint._make((ip.source, tcp.source_port))
            remote = Endpoint._make((ip.destination, tcp.destination_port))
            self.opening.notify_refused(guest, remote, 0, Reason.PROTOCOL_CLOSED)
        raise Malformed(Reason.PROTOCOL_CLOSED)

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
        arrival.unreachable(flow, packet.number, ECONNREFUSED if port else EHOSTUNREACH)
        return True

    def too_big(self, packet: Quoted, mtu: int) -> bool:
        """Process an ICMP error that asks for smaller segments to the guest.

        Args:
            packet: the quoted part of a segment.
            mtu: bytes.

        Returns:
            Whether it is about data under way to the guest.
        """
        flow = self._flows.get(packet.reverse_key())
        return flow is not None and path_mtu.too_big(flow, packet.number, mtu)

    def _reset(self, ip: IpHeader, tcp: TcpHeader) -> None:
        """Answer a segment that belongs to no connection, and is no SYN that could open one (RFC 9293, 3.10.7.1)."""
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
            length = tcp.end - tcp.start + bool(tcp.flags & FIN)
            headers.tcp(0, add(tcp.sequence, length), RST | ACK, 0, b"", b"", 0)

    # facts from the host's sockets; facts about closed sockets are ignored, since the driver may be late

    def _find(self, socket: SocketId) -> TcpFlow | None:
        """A connection with its two halves; None if there is none with this name."""
        flow = self._sockets.get(socket)
        return flow.awake() if flow is not None and flow.resting is not None else flow

    def stream_connected(self, socket: SocketId) -> None:
        """The host's connect succeeded."""
        if flow := self._find(socket):
            facts.connected(flow, socket)

    def stream_received(self, socket: SocketId, data: bytes) -> None:
        """Bytes from the host."""
        if flow := self._find(socket):
            if flow.attempts is None:
                flow.stream_received(data)
            else:
                flow.attempts.received(socket, data)

    def stream_sent(self, socket: SocketId, count: int) -> None:
        """The host's socket took `count` bytes of the `SendStream` orders."""
        if flow := self._find(socket):
            facts.sent(flow, count)

    def stream_ended(self, socket: SocketId) -> None:
        """The host sent FIN."""
        if flow := self._find(socket):
            facts.ended(flow, socket)

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None) -> None:
        """The host's connect failed, or its connection is broken."""
        if flow := self._find(socket):
            facts.failed(flow, socket, error if error and error.errno == errno else local_error(errno))

    def receive_budget(self, socket: SocketId) -> int:
        """How many bytes may be read from the host's socket."""
        flow = self._sockets.get(socket)
        if flow is None:
            return 0
        if flow.attempts is not None:
            return flow.attempts.budget(socket)
        if flow.resting is None:
            budget = flow.receive_budget()
        else:  # for this question alone; perhaps there is nothing to read
            flow.wake(self.context.egress)
            budget = flow.receive_budget()
            flow.rest(self._shared.no_headers)
        if not budget:
            self._await_memory()
        return budget

    def endpoints(self, socket: SocketId) -> tuple[Endpoint, Endpoint] | None:
        """See `Network.stream_endpoints`."""
        flow = self._sockets.get(socket)
        return (flow.guest, flow.remote) if flow else None

    def unacknowledged(self, socket: SocketId) -> int:
        """See `Network.stream_unacknowledged`."""
        flow = self._sockets.get(socket)
        return flow.sender.buffer.held if flow else 0

    # rules that have changed

    def reconfigured(self) -> None:
        """Follow the context's new configuration."""
        self.opening.reconfigured()

    def judge_again(self) -> None:
        """Reset the connections that the present rules close."""
        for flow in self._table.all():
            if not self.opening.is_allowed(flow):
                flow.awake().close(Reason.REFUSED)

    # mistakes of this program

    def abandon(self, owner: object) -> str | None:
        """Give up a connection after an exception in its methods; see `Protocols.recover`."""
        return recovery.abandon(owner, self._table, self._shared, self.opening.questions)

    def named(self, socket: SocketId) -> object:
        """The connection with a name; None if there is none."""
        return self._sockets.get(socket)

    def recount(self) -> None:
        """Correct all sums, which may be wrong after an exception."""
        recovery.recount(self._table, self._shared, self.opening.questions)

    # the end of a batch, and of a connection

    def flush(self) -> None:
        """Send the segments that the inputs since the last call require."""
        shared = self._shared
        if not shared.dirty and not shared.memory.waiting:
            return
        if shared.memory.waiting:
            shared.memory.resume(self.context.now)
        if shared.dirty:
            flows, shared.dirty = iter(shared.dirty), []
            try:
                for flow in flows:
                    flow.flush()
            except BaseException:
                shared.dirty = [*flows, *shared.dirty]
                raise
        if shared.memory.waiting:
            self._await_memory()

    def _await_memory(self) -> None:
        """Have `flush` called in time for the streams that wait for memory, also for those that have just begun to."""
        if self._shared.memory.waiting:
            self.context.timers.arm(self, self._shared.memory.resume_at())

    def expire(self) -> None:
        """The deadline of `Memory.resume_at` has passed; `flush` resumes the streams."""

    def _forget(self, flow: TcpFlow) -> None:
        """Remove a connection that is over on both sides, or let the host take the data that a guest has left."""
        context, shared = self.context, self._shared
        if flow.lifecycle[1] is states.DRAINING:
            self._table.drain(flow)
            flow.release(flow.sender.free_buffers())
            flow.end_after(context.config.limits.tcp_keepalive)
            return
        if not self._table.remove(flow):
            return
        shared.connecting.pop(flow, None)
        shared.memory.forget(flow, flow.held, flow.receiver.queued)
        flow.free_buffers()
        shared.delayed.remove(flow)
        shared.time_wait[flow.inbound].remove(flow)
        context.timers.forget(flow)
        self.opening.questions.remove(flow)
        flow.permission.unpin()
        if not context.notices:
            return
        if refused := reports.refused(flow, context.now):
            context.notify(refused)
        if flow.told:
            context.notify(reports.closed(flow, context.now))
