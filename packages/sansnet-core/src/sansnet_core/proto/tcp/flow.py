"""One TCP connection of the guest, opened by the guest or an outsider, translated to one stream socket of the host.

Theory of operation. Segments (`arrival`) and socket facts change the two halves (`sending`, `receiving`) and fire
lifecycle events (`states`). `flush` sends the segments to the guest once per batch, so that one acknowledgment covers
all segments of the batch and one frame carries all the data that was read. `_EFFECTS` are those that the tables name.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES
from math import inf
from typing import TYPE_CHECKING, Final

from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Reason, UsageError
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    ResumeStream,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.attempts import Attempts
from sansnet_core.proto.tcp.handshake import ALL_OPTIONS, Terms
from sansnet_core.proto.tcp.output import NO_RECEIVER, QUIET, Output
from sansnet_core.proto.tcp.permission import Permission
from sansnet_core.proto.tcp.receiving import Receiver
from sansnet_core.proto.tcp.refusal import local_error, refuse_syn
from sansnet_core.proto.tcp.round_trips import MIN_RTO
from sansnet_core.proto.tcp.sending import Sender
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.states import EOF_SEEN, ESTABLISHED, FIN_SEEN, HOST_EXISTS, OPEN, TIME_WAIT
from sansnet_core.targets import Target
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import TcpHeader, TcpOptions

if TYPE_CHECKING:
    from sansnet_core.proto.tcp.gate import Gate

__all__ = ["TcpFlow"]

SYN_INTERVAL: Final = 1.0
"""Seconds until a guest first repeats its SYN (RFC 6298, 2.1)."""
SYN_GRACE: Final = 3.0
"""Seconds added to twice the last interval between the guest's SYNs, after which it has given up: they double."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpFlow(Output):
    """One TCP connection.

    Args:
        shared: the state that all connections share.
        socket: the host's socket.
        key: the handler's key of the connection.
        guest, remote, host: the guest's endpoint, the other end as the guest sees it, and that of the host's socket.
        inbound: the connection comes from outside.
        undecided: it waits for a verdict, or for the addresses of a name.

    Attributes:
        shared: the state that all connections share.
        irs: the guest's initial sequence number (RFC 9293, 3.3.1).
        lifecycle: the states of `states.PARTS`; changed by `fire` only.
        answered: the host's connect succeeded.
        told: its opening was reported.
        first_socket: the name in notices and reports, from the first order on; `socket` is that of the last attempt.
        permission: the judgement of the rules, and the verdict of the driver.
        attempts: the connects of several sockets, or by a proxy; None if there is one connect, or none under way.
        gate: holds back data of the guest; None if all passes.
        dirty: `flush` is called at the end of the batch.
        ends_at: time at which its present state ends; `math.inf` for never.
        errno: why it ended, as in `CloseSocket`; 0 for an ordinary end.
        failure: the failure of the host's socket, or the refusal; None if there was none.
        reason: why it may not open.
        sent, received: payload bytes from guest to host, and from host to guest.
        held: payload bytes held in either direction, as counted in `shared.memory`.
        deadline, queued, ticket: see `timers.Timed`.
    """

    __slots__ = (
        "_awaits_budget",
        "_host",
        "answered",
        "attempts",
        "deadline",
        "dirty",
        "ends_at",
        "errno",
        "failure",
        "first_socket",
        "gate",
        "held",
        "inbound",
        "irs",
        "lifecycle",
        "permission",
        "queued",
        "reason",
        "received",
        "sent",
        "shared",
        "socket",
        "ticket",
        "told",
    )

    def __init__(
        self,
        shared: TcpShared[TcpFlow],
        socket: SocketId,
        key: bytes,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        inbound: bool = False,
        undecided: bool,
    ) -> None:
        context = shared.context
        sender = Sender(context.entropy.initial_sequence(key, context.now))
        super().__init__(key, FlowHeaders(context.egress, remote, guest, TCP), sender, shared.memory, context.now)
        self.shared = shared
        self.socket = self.first_socket = socket
        self._host = None if host == remote else host
        self.inbound = inbound
        self.deadline = self.queued = self.ends_at = inf
        self.ticket = 0
        if undecided:
            self.lifecycle = states.UNDECIDED_INBOUND if inbound else states.UNDECIDED_INITIAL
        else:
            self.lifecycle = states.INBOUND if inbound else states.INITIAL
        self.answered = self.told = self.dirty = False
        self.permission = Permission()
        self.attempts: Attempts[TcpFlow] | None = None
        self.gate: Gate | None = None
        self.reason: Reason | None = None
        self.failure: ExtendedError | None = None
        self.sent = self.received = self.held = self.errno = 0
        self._awaits_budget = False

    @property
    def host(self) -> Endpoint:
        """The other end of the host's socket."""
        return self._host or self.remote

    # handshake

    def offer(self) -> None:
        """Prepare a SYN to the guest with all options that we support."""
        self.irs, self.receiver = 0, NO_RECEIVER
        self.terms = self._terms(ALL_OPTIONS)

    def syn_received(self, syn: TcpHeader, options: TcpOptions) -> None:
        """Take the guest's SYN; it is answered when the host has connected."""
        self.agree(syn, options)
        self._await_syn(SYN_INTERVAL)

    def syn_repeated(self) -> None:
        """The guest has repeated its SYN while the host's connect is under way: it still waits."""
        self._await_syn(max(self.hear(self.shared.context.now), SYN_INTERVAL))

    def _await_syn(self, interval: float) -> None:
        """Give up unless the SYN is repeated in time: a guest that closes its socket now may send nothing at all."""
        self.end_after(2 * interval + SYN_GRACE)

    def end_after(self, wait: float) -> None:
        """Limit the present state to `wait` seconds."""
        context = self.shared.context
        self.ends_at = context.now + wait
        if self.ends_at < self.deadline:
            context.timers.arm(self, min(self.ends_at, context.now + MIN_RTO))  # early: see `_arm`

    def agree(self, syn: TcpHeader, options: TcpOptions) -> None:
        """Take the terms of the guest's SYN or SYN-ACK."""
        self.irs = syn.sequence
        self.terms = terms = self._terms(options)
        self.receiver = Receiver(syn.sequence, terms.window, terms.own_scale or 0)
        self.sender.agree(syn, terms)

    def _terms(self, options: TcpOptions) -> Terms:
        return self.shared.negotiation.terms(4 if len(self.key) == 12 else 6, options)

    def begin_handshake(self) -> None:
        """Send our SYN or SYN-ACK for the first time."""
        self.send_syn()
        self.sender.send_syn(self.shared.context.now)
        self._arm()

    def send_syn(self) -> None:
        """Send our SYN or SYN-ACK."""
        if self.inbound:
            self.syn()
        else:
            self.syn_ack()

    def retry_syn(self) -> None:
        """Send our SYN again soon: the guest still had an earlier connection, which is reset."""
        self.sender.retry_syn(self.shared.context.now)
        self._arm()

    def establish(self, event: str, sequence: int) -> None:
        """The handshake is complete. Windows of the guest's segments count from this sequence number on."""
        self.sender.establish(sequence)
        self._awaits_budget = True  # the host may have sent data, or ended, before the guest was ready
        self.fire(event)

    # lifecycle

    def rename(self, socket: SocketId) -> None:
        """Take another name, since the present one was that of a question which is withdrawn."""
        self.socket = self.first_socket = socket

    def open(
        self,
        host: Endpoint | None,
        target: Target | None,
        attempts: Attempts[TcpFlow] | None = None,
        gate: Gate | None = None,
    ) -> None:
        """The connection may open; `host` is the other end of the host's socket, None for the remote one."""
        self._host = None if host is None or host == self.remote else host
        self.attempts, self.gate = attempts, gate
        self.allow(target)

    def allow(self, target: Target | None) -> None:
        """The connection may open, with the host's socket that it has, or that is ordered."""
        self.told = True
        self.permission.decide(target)
        if self.attempts is None and self.gate is None:
            self.permission = self.shared.settle(self.permission)
        if states.UNDECIDED in self.lifecycle:
            self.fire(states.ALLOWED)

    def refuse(self, error: ExtendedError | None, reason: Reason, target: Target | None) -> None:
        """The connection may not open.

        Args:
            error: the failure that the guest is to see; None for none.
            reason: why.
            target: by the rules; None for the last one.
        """
        self.permission.decide(target)
        self._fail(error, reason, states.REFUSED)

    def close(self, reason: Reason | None, errno: int = EACCES) -> None:
        """The rules, or a host that is too slow, end the connection: both sides are reset, as far as they are there."""
        if self.lifecycle[1] in HOST_EXISTS:
            self.errno = errno
            self._close_socket(True)
            self._fail(local_error(errno), reason, states.HOST_FAILED)

    def _fail(self, error: ExtendedError | None, reason: Reason | None, event: str) -> None:
        self.failure, self.reason = error, reason
        self.shared.lost += self.receiver.unsent
        self.errno = error.errno if error else 0
        self.fire(event)

    def give_up(self, event: str, *, errno: int = 0, reason: Reason | None = None) -> None:
        """The connection ends before it is open, by the guest or for another connection."""
        self.errno, self.reason = errno or self.errno, reason
        self.fire(event)

    def fire(self, event: str) -> None:
        """Apply a lifecycle event and run its effects."""
        self.lifecycle, change = states.change(self.lifecycle, event)
        if change is None:
            return
        if change.errno and not self.errno:
            self.errno = change.errno
        if change.ends_handshake:
            self.shared.pending[self.inbound] -= 1
        for effect in change.effects:
            _EFFECTS[effect](self)
        if change.has_ended:
            self.shared.forget(self)

    def _answer(self) -> None:
        """Effect: send the SYN-ACK, since the host has connected."""
        self.answered = True
        self.ends_at = inf
        del self.shared.connecting[self]
        self.begin_handshake()

    def _refuse(self) -> None:
        """Effect: answer the SYN so that the guest's connect() fails with the errno of the failure."""
        shared = self.shared
        host = self.host.address
        refuse_syn(shared.context, shared.icmp_errors, self.guest, self.remote, host, self.irs, self.failure)

    def _close_socket(self, abort: bool) -> None:
        if self.attempts is not None:
            self.attempts.close(self.errno)
            self.attempts = None
        else:
            self.shared.context.out.orders.append(CloseSocket(self.socket, abort, self.errno))

    def _withdraw_question(self) -> None:
        """Effect: the driver need not decide any more."""
        if self.permission.asked:
            self._close_socket(False)

    # data from the guest

    def deliver(self, ready: list[Buffer], taken: int, kept: int) -> None:
        """Order the driver to send data, and count the bytes held.

        Args:
            ready: data in order.
            taken: its bytes.
            kept: change of the bytes kept beyond a gap.
        """
        shared = self.shared
        self.sent += taken
        if kept:
            self.memory.keep(self, kept, self.receiver.queued)
        self._hold(taken + kept)
        if self.gate is not None and not self.gate.done:
            self._pass(self.gate.receive(ready, self.receiver.limit))
            return
        orders = shared.context.out.orders
        for data in ready:
            orders.append(SendStream(self.socket, data))

    def _pass(self, ready: list[Buffer] | None) -> None:
        """Order the driver to send what the gate lets pass; None ends the connection."""
        if ready is None:
            self.drop(Reason.NAME_REFUSED)
            self.permission.note(self.gate.refused if self.gate else None)
            self.close(Reason.NAME_REFUSED)
            return
        self.shared.context.out.orders.extend([SendStream(self.socket, data) for data in ready])

    def end(self) -> None:
        """All data before the guest's FIN has come."""
        if self.gate is not None and not self.gate.finish():
            self._pass(None)
            return
        # Most hosts answer by their own FIN at once, which acknowledges this one as well
        self.receiver.take_fin(at_once=self.lifecycle[3] is not OPEN)
        # With the orders to send the last data, so that the driver can send data and FIN in one segment
        self.shared.context.out.orders.append(ShutdownStream(self.socket))
        self.fire(states.GUEST_FIN)
        self.check_up_drained()

    def check_up_drained(self) -> None:
        """Note that the socket has taken all data, if the guest has sent FIN."""
        if self.lifecycle[2] is FIN_SEEN and not self.receiver.unsent:
            self.fire(states.UP_DRAINED)

    # facts from the host's socket

    def host_connected(self, socket: SocketId, host: Endpoint, unsent: int) -> None:
        """One of several attempts has succeeded; see `attempts.Connection`."""
        self.attempts = None
        self.socket, self._host = socket, host
        self.receiver.owe(unsent)
        self._hold(unsent)
        self.fire(states.HOST_CONNECTED)

    def host_failed(self, error: ExtendedError, host: Endpoint | None = None) -> None:
        """The host's connect failed, or its connection is broken; `host` is the endpoint, after several attempts."""
        if self.lifecycle[1] not in HOST_EXISTS:
            return
        self.attempts = None
        self._host = host or self._host
        if self.dirty:
            self.flush()  # the guest still gets the data that came before the failure
        self._fail(error, None, states.HOST_FAILED)

    def stream_received(self, data: bytes) -> None:
        """Bytes were read from the host's socket, within the budget."""
        if self.lifecycle[3] is not OPEN:
            raise UsageError("stream_received: the end of this stream was reported already; read nothing after it")
        if promised := self.memory.promised:
            promised.pop(self, None)
        size = len(data)
        self.sender.buffer.append(data)
        self.received += size
        self._hold(size)
        self.schedule_flush()
        if self.gate is not None and self.gate.awaits_host:
            self._pass(self.gate.host_received(data))

    def receive_budget(self) -> int:
        """How many bytes the driver may read now. After 0, `ResumeStream` follows as soon as the budget is larger."""
        budget = 0
        guest, _, _, down = self.lifecycle
        if guest is ESTABLISHED and down is OPEN:
            room = self.sender.room(self.shared.send_buffer, self.terms.frame_payload)
            if room > 0:
                budget = self.memory.room(self, room)
        self._awaits_budget = not budget
        return budget

    # memory

    def _hold(self, count: int) -> None:
        self.held += count
        memory = self.memory
        memory.held += count
        if memory.held > memory.limit:
            memory.make_room()

    def release(self, count: int) -> None:
        """Count payload bytes that are not held any more."""
        self.held -= count
        self.memory.held -= count

    def discard_piece(self) -> tuple[int, bool]:
        """Free the last piece beyond a gap; the bytes freed, and whether there are more pieces."""
        freed = self.receiver.discard_piece()
        self.held -= freed
        return freed, bool(self.receiver.queued)

    def free_buffers(self) -> None:
        """Free all data: timers may refer to a connection for a while after its end."""
        self.held, self.gate = 0, None
        self.sender.free_buffers()
        self.receiver.free_buffers()

    # output

    def schedule_flush(self) -> None:
        """Have `flush` called at the end of the batch."""
        if not self.dirty:
            self.dirty = True
            self.shared.dirty.append(self)

    def drop(self, reason: Reason) -> None:
        """Count a segment, or a part of it, that is dropped."""
        self.shared.context.drop_packet(reason, TCP, self.guest, self.remote)

    def flush(self) -> None:
        """Send the guest the data, FIN, acknowledgment and window that are due."""
        if self.resting is not None:
            self.awake()
        self.dirty = False
        guest, _, _, down = self.lifecycle
        if guest is not ESTABLISHED and guest is not TIME_WAIT:
            return  # in the other states, only effects and timers send segments
        shared, receiver = self.shared, self.receiver
        now = shared.context.now
        if receiver.gap is not None and receiver.ack_now:
            self.report_gap()
        ends = down is EOF_SEEN
        if (ends or self.sender.buffer.unsent) and self.new_data(now, ends=ends):
            self.fire(states.DOWN_DRAINED)
        if receiver.ack_now or receiver.acknowledged != receiver.next:
            waits = receiver.ack_due < inf
            if not receiver.delay_ack(self.terms.mss, now):
                self.acknowledge()
            elif not waits:
                shared.delayed.add(self, receiver.ack_due)
        if self._awaits_budget and self not in self.memory.waiting and self.receive_budget():
            shared.context.out.orders.append(ResumeStream(self.socket))
        self._arm()

    def _arm(self) -> None:
        """Have `expire` called in time. It may be early, which costs less than moving a deadline for every packet.

        The first deadline is that of the shortest timeout, so that the next one, which may be shorter, is later.
        """
        due = self.sender.retransmit_at
        if due < self.deadline:
            context = self.shared.context
            context.timers.arm(self, min(due, context.now + MIN_RTO))

    def expire(self) -> None:
        """A deadline of this connection has passed."""
        self.shared.expire(self)

    def awake(self) -> TcpFlow:
        """This connection, with its two halves."""
        if self.resting is not None:
            context = self.shared.context
            self.wake(context.egress)
            if (due := context.now + QUIET) < self.deadline:
                context.timers.arm(self, due)
        return self


_EFFECTS: Final[dict[str, Callable[[TcpFlow], None]]] = {
    "send_syn_ack": TcpFlow._answer,
    "refuse": TcpFlow._refuse,
    "reset_handshake": lambda flow: flow.reset_handshake(),
    "withdraw_syn": lambda flow: flow.withdraw_syn(),
    "send_reset": lambda flow: flow.reset_connection(),
    "withdraw_question": TcpFlow._withdraw_question,
    "close_socket": lambda flow: flow._close_socket(False),
    "abort_socket": lambda flow: flow._close_socket(True),
    "discard_data": lambda flow: flow.release(flow.receiver.discard_unsent()),
    "start_time_wait": lambda flow: flow.shared.time_wait[flow.inbound].begin(flow),
}
"""The effects that `states.JOINT` names."""
