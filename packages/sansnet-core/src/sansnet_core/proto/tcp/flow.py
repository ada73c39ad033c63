"""One TCP connection of the guest, begun by it or by a host outside, translated to one stream socket of the host.

Theory of operation. Segments and socket facts change the two halves (`sending`, `receiving`) and fire lifecycle events
(`states`); what has to be said to the guest is worked out once a batch, in `flush`, so that one acknowledgment covers
all segments of the batch and one frame carries all the data that was read. Effects named in the tables are the
methods `_effect_...` here.
"""

from __future__ import annotations

from errno import ECONNREFUSED, ECONNRESET
from math import inf
from typing import TYPE_CHECKING, Final

from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Reason, UsageError
from sansnet_core.notices import FlowRefused
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    KeepAlive,
    ResumeStream,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.handshake import EVERYTHING, negotiate
from sansnet_core.proto.tcp.keepalive import MAX_ORDERS, Schedule, schedule
from sansnet_core.proto.tcp.receiving import PIECE_COST, Receiver
from sansnet_core.proto.tcp.sending import DUPLICATES, Sender
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    TcpHeader,
    TcpOptions,
    add,
    diff,
    emit,
    parse_options,
    sack_option,
)

if TYPE_CHECKING:
    from sansnet_core.proto.tcp.handler import Tcp

__all__ = ["TcpFlow"]

DELAYED_ACK: Final = 0.002
"""RFC 9293 3.8.6.3 allows 0.5 s. A reply of the host within this time carries the acknowledgment; more delay would only
stall guests that wait for it (Nagle)."""
REFUSALS: Final = (ECONNREFUSED, ECONNRESET)
SYN_RETRIES: Final = 5
"""Of our SYN or SYN-ACK: a minute in all (tcp_synack_retries of Linux)."""
RTO_AFTER_SYN_LOSS: Final = 3.0
"""RFC 6298, 5.7."""
DATA_RETRIES: Final = 10
"""With RTOs from 0.2 s that is more than the 100 s that RFC 9293 3.8.3 asks for."""
KEEPALIVE_INTERVAL: Final = 75.0
KEEPALIVE_PROBES: Final = 9
"""Both as in Linux (tcp_keepalive_intvl, tcp_keepalive_probes)."""
SYN_INTERVAL: Final = 1.0
"""The least time after which a guest repeats its SYN (RFC 6298, 2.1)."""
SYN_PATIENCE: Final = 3.0
"""Added to twice the last interval, which doubles: then a guest that is silent does not wait any more."""
RETRY_AFTER_RESET: Final = 0.002
"""As Linux does; the guest has the reset by then."""
CHALLENGE_INTERVAL: Final = 0.5
"""Seconds between two answers to segments without data that are not acceptable (RFC 5961, 7): two stacks that call each
other's acknowledgments old would go on for ever. As Linux (tcp_invalid_ratelimit)."""
COPY_BELOW: Final = 1024
"""Shorter payloads are copied out of their frame, and so are those that padding dwarfs: what is held must be what is
counted. Others are views, for as long as the driver holds them."""

_SILENT: Final = frozenset((states.SYN_RECEIVED, states.SYN_SENT, states.GONE))
"""Where there is nothing to say but what effects and timers say."""


class TcpFlow:
    """One connection; see the module."""

    __slots__ = (
        "_ack_due",
        "_ack_now",
        "_active",
        "_awaits_budget",
        "_challenged",
        "_dirty",
        "_established",
        "_failure",
        "_fin",
        "_guest_ended_first",
        "_headers",
        "_keepalive",
        "_keepalive_orders",
        "_probes",
        "_retransmit_at",
        "_state",
        "_tcp",
        "_terms",
        "_time_wait_at",
        "answered",
        "deadline",
        "guest",
        "held",
        "host",
        "inbound",
        "irs",
        "key",
        "pending",
        "queued",
        "received",
        "receiver",
        "remote",
        "sender",
        "sent",
        "socket",
        "ticket",
    )

    def __init__(
        self,
        tcp: Tcp,
        socket: SocketId,
        key: bytes,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        inbound: bool = False,
    ) -> None:
        context = tcp.context
        self._tcp = tcp
        self.socket = socket
        self.key = key
        self.guest = guest
        self.remote = remote
        """What the guest takes for the other end; the host's socket has `host` there."""
        self.host = host
        self.inbound = inbound
        self.irs = 0
        self.deadline = self.queued = inf
        self.ticket = 0
        self._state = states.INBOUND if inbound else states.INITIAL
        self._established = False
        self._failure: ExtendedError | None = None
        self.answered = False
        """The host's connect succeeded."""
        self._headers = FlowHeaders(context.egress, remote, guest, TCP)

        self.sender = Sender(context.entropy.initial_sequence(key, context.now))
        self._fin: int | None = None
        self._ack_now = False
        self._ack_due = inf
        self._retransmit_at = inf
        self._time_wait_at = inf
        self._active = context.now
        self._challenged = -inf
        self._probes = 0
        self._dirty = False
        self._awaits_budget = False
        self._guest_ended_first = False
        self._keepalive: Schedule | None = None
        self._keepalive_orders = 0
        self.pending = True
        """Whether the handshake with the host or the guest is still under way."""
        self.sent = 0
        self.received = 0
        """Payload bytes, guest to host and host to guest."""
        self.held = 0
        """Payload bytes held for either side, as counted in the handler's total."""

    # the beginning

    def invite(self) -> None:
        """Send the guest a SYN that offers it all that we can do."""
        self._agree(0, EVERYTHING)
        self._send_first_syn()

    def accept(self, syn: TcpHeader, options: TcpOptions) -> None:
        """Take the guest's SYN, which is answered when the host is connected."""
        self._agree(syn.sequence, options)
        self.sender.agree(syn, self._terms)
        self._await_syn(SYN_INTERVAL)

    def repeat(self) -> None:
        """The guest repeats its SYN while the host's connect is under way: it still waits."""
        now = self._tcp.context.now
        interval, self._active = now - self._active, now
        self._await_syn(max(interval, SYN_INTERVAL))

    def abandon(self) -> None:
        """The guest does not wait for this connection any more, or another one needs its place."""
        self.fire(states.GUEST_RESET)

    def _await_syn(self, interval: float) -> None:
        """Give up unless the SYN comes again: a guest that closes its socket meanwhile may send nothing at all."""
        self._retransmit_at = self._tcp.context.now + 2 * interval + SYN_PATIENCE
        self._arm()

    def _agree(self, irs: int, options: TcpOptions) -> None:
        self.irs = irs
        self._terms = negotiate(self._tcp.context.config, 4 if len(self.guest.address) == 4 else 6, options)
        self.receiver = Receiver(irs, self._terms.window)

    def _send_first_syn(self) -> None:
        now = self._tcp.context.now
        self._send_syn()
        self.sender.advance(1, now)
        self._retransmit_at = now + self.sender.rto
        self._arm()

    # lifecycle

    @property
    def lifecycle(self) -> states.Lifecycle:
        """The states of `states.MACHINES`."""
        return self._state

    @property
    def state(self) -> str:
        """Where it is, for people."""
        guest, _, up, down = self._state
        if guest is states.ESTABLISHED and (up, down) != (states.OPEN, states.OPEN):
            return "CLOSING"
        return guest

    def fire(self, event: str) -> None:
        """Apply a lifecycle event and run its effects."""
        self._state, effects = states.transition(self._state, event)
        self._established = self._state[0] is states.ESTABLISHED
        for name in effects:
            getattr(self, "_effect_" + name)()
        if self._state[:2] == (states.GONE, states.GONE):
            self._tcp.forget(self)

    def refusal(self) -> FlowRefused | None:
        """What to tell of a connection that the guest began and that ended before the host's connect succeeded."""
        if self.inbound or self.answered:
            return None
        errno = self._failure.errno if self._failure else 0
        return FlowRefused(TCP, self.guest, self.remote, self.host, errno)

    def _effect_send_syn_ack(self) -> None:
        self.answered = True
        del self._tcp.waiting[self]
        self._send_first_syn()

    def _effect_refuse(self) -> None:
        """Answer a SYN so that the guest's connect() fails with the host's errno.

        That is RST for a refusal (RFC 9293, 3.10.7.1) and an ICMP error about the SYN for all else.
        """
        failure = self._failure
        if failure is None or failure.errno in REFUSALS:
            self._headers.tcp(0, add(self.irs, 1), RST | ACK, 0, b"", b"", 0)
            return
        guest, remote = self.guest, self.remote
        syn = emit(guest.address, remote.address, guest.port, remote.port, self.irs, 0, SYN, 0)
        self._tcp.icmp_errors.host_failed(failure, self.host.address, guest.address, remote.address, TCP, syn)

    def _effect_withdraw(self) -> None:
        """Reset what our SYN may have begun in the guest; there is no number of its own to acknowledge yet."""
        self._headers.tcp(self.sender.next, 0, RST, 0, b"", b"", 0)

    def _effect_send_reset(self) -> None:
        # Until our SYN is acknowledged, the guest expects the number behind it, with any window
        sequence = self.sender.next if self.pending else self.sender.acceptable()
        self._headers.tcp(sequence, self.receiver.next, RST | ACK, 0, b"", b"", 0)

    def _effect_close_socket(self) -> None:
        context = self._tcp.context
        context.out.orders.append(CloseSocket(self.socket))
        self._retransmit_at = inf
        self._time_wait_at = context.now + context.config.limits.tcp_linger
        context.timers.arm(self, self._time_wait_at)

    def _effect_abort_socket(self) -> None:
        self._tcp.context.out.orders.append(CloseSocket(self.socket, True))

    def host_failed(self, error: ExtendedError) -> None:
        """The host's connect failed, or its connection is broken."""
        self._failure = error
        if self._dirty:
            self.flush()  # what came before the failure belongs to the guest
        self.fire(states.HOST_FAILED)

    # segments from the guest

    def receive(self, tcp: TcpHeader, buf: Buffer) -> None:
        """A segment of this connection (RFC 9293, 3.10.7.4); its SYN is known to the handler and not given here."""
        now = self._tcp.context.now
        silence = now - self._active
        self._active = now
        self._probes = 0
        state = self._state[0]
        if state is states.SYN_SENT:
            self._receive_answer(tcp, buf)
            return
        if state is states.SYN_RECEIVED:
            # Nothing was answered yet, so all but a reset of the SYN itself is noise (SYNs are the handler's)
            if tcp.flags & RST and tcp.sequence == add(self.irs, 1):
                self.fire(states.GUEST_RESET)
            return
        receiver = self.receiver
        flags = tcp.flags
        size = tcp.end - tcp.start
        if tcp.sequence != receiver.next or flags & (SYN | RST | FIN) or not self._established:
            if not self._check(tcp, size, buf, silence):
                return
        elif size and receiver.edge == receiver.next:
            # A zero-window probe: its acknowledgment counts (RFC 9293, 3.10.7.4), its data does not
            self._ack_now = True
            size = 0
        if not flags & ACK:
            self._drop(Reason.TCP_SEQUENCE)
            return
        if not self._acknowledge(tcp, size, buf):
            return
        if size:
            self._take_data(tcp, size, buf)
        if flags & FIN and self._fin is None:
            fin = add(tcp.sequence, tcp.end - tcp.start)
            if receiver.may_end(fin):
                self._fin = fin
            else:
                self._ack_now = True  # it is trimmed; the guest repeats it when the window has moved
        if self._fin == receiver.next:
            self._take_fin()
        self.touch()

    def _check(self, tcp: TcpHeader, size: int, buf: Buffer, silence: float) -> bool:
        """The parts of RFC 9293 3.10.7.4 that rarely say no; answers by itself what needs an answer.

        Returns:
            Whether the segment's acknowledgment and data are to be looked at.
        """
        flags = tcp.flags
        receiver = self.receiver
        length = size + bool(flags & SYN) + bool(flags & FIN)
        if flags & SYN and self._state[0] is states.SYN_ACK_SENT:
            self._send_syn()  # the guest repeats its SYN, for ours was lost; another SYN it answers with a reset
            self.sender.forget_timing()
            return False
        if not receiver.acceptable(tcp.sequence, length):
            if not flags & RST:
                self._challenge(flags, length)
            # A repeated segment, or one at the edge of a closed window, may carry a new acknowledgment; no more counts
            if flags & (SYN | RST) or diff(tcp.sequence, receiver.edge) > 0:
                self._drop(Reason.TCP_SEQUENCE)
                return False
            if flags & ACK and self._established:
                if length <= 1 and not flags & FIN and add(tcp.sequence, 1) == receiver.next:
                    self._take_keepalive(silence)
                self._acknowledge(tcp, 0, buf)
                self.touch()
            return False
        if flags & RST:
            if tcp.sequence == receiver.next:
                self.fire(states.GUEST_RESET)
            else:  # RFC 5961, 3.2: a reset in the window but not at its edge is challenged
                self._challenge(flags, length)
            return False
        if flags & SYN:  # RFC 5961, 4.2
            self._challenge(flags, length)
            return False
        if self._state[0] is states.SYN_ACK_SENT:
            return self._complete_handshake(tcp)
        if self._state[0] is states.TIME_WAIT:
            self._challenge(flags, length)
            return False
        return True

    def _challenge(self, flags: int, length: int) -> None:
        """Acknowledge a segment that is not acceptable; without data or FIN, or with SYN, at a limited rate."""
        now = self._tcp.context.now
        if not length or flags & SYN:
            if now - self._challenged < CHALLENGE_INTERVAL:
                return
            self._challenged = now
        self._acknowledge_again()

    def _take_keepalive(self, silence: float) -> None:
        """The guest asks whether its peer lives (RFC 9293, 3.8.4), after so many seconds without a segment."""
        if self.receiver.edge == self.receiver.next or self._keepalive_orders >= MAX_ORDERS:
            return  # Linux probes a closed window by the same segment
        wanted = schedule(silence)
        if self._keepalive is None or self._keepalive.differs(wanted):
            self._keepalive = wanted
            self._keepalive_orders += 1
            self._tcp.context.out.orders.append(KeepAlive(self.socket, *wanted))

    def _complete_handshake(self, tcp: TcpHeader) -> bool:
        if not tcp.flags & ACK:
            return False
        if tcp.acknowledgment != self.sender.next:
            self._headers.tcp(tcp.acknowledgment, 0, RST, 0, b"", b"", 0)
            return False
        self.fire(states.GUEST_ACK)
        self.sender.wl1 = add(tcp.sequence, -1)  # so that this segment's window counts
        self._establish()
        return True

    def _receive_answer(self, tcp: TcpHeader, buf: Buffer) -> None:
        """The guest's answer to our SYN (RFC 9293, 3.10.7.3).

        A SYN without ACK is ignored: see `states`. So is what came with a SYN-ACK; the guest sends it again.
        """
        flags = tcp.flags
        sender = self.sender
        if flags & ACK and tcp.acknowledgment != sender.next:
            if not flags & RST:
                # It acknowledges a connection of the past, which the reset ends; then our SYN has a chance
                self._headers.tcp(tcp.acknowledgment, 0, RST, 0, b"", b"", 0)
                if not sender.retries:
                    self._retransmit_at = self._tcp.context.now + RETRY_AFTER_RESET
                    self._arm()
        elif flags & (ACK | RST) == ACK | RST:
            self.fire(states.GUEST_RESET)
        elif flags & (ACK | SYN) == ACK | SYN:
            self._agree(tcp.sequence, parse_options(buf, tcp.options_start, tcp.start))
            sender.agree(tcp, self._terms)
            self.fire(states.GUEST_SYN_ACK)
            self._establish()
            sender.acknowledge(tcp.acknowledgment, self._tcp.context.now)
            self._acknowledge_again()
        else:
            self._drop(Reason.TCP_SEQUENCE)

    def _establish(self) -> None:
        """The handshake is complete."""
        self.pending = False
        self._tcp.pending[self.inbound] -= 1
        self._retransmit_at = inf
        if self.sender.retries:
            self.sender.rto = RTO_AFTER_SYN_LOSS
        # The host may have spoken, or ended, while the guest was not ready: SSH's greeting
        self._awaits_budget = True

    def unreachable(self, sequence: int) -> None:
        """The guest, or a router in it, says by ICMP that a segment of ours is not taken.

        That ends an attempt to connect. A connection it does not end: a forger had only to guess its ports (RFC 5927).
        """
        if self._state[0] is states.SYN_SENT and add(sequence, 1) == self.sender.next:
            self.fire(states.GUEST_RESET)

    def _acknowledge(self, tcp: TcpHeader, size: int, buf: Buffer) -> bool:
        """Acknowledgment, window and SACK (RFC 9293, 3.10.7.4, fifth).

        Returns:
            False if the segment acknowledges what was never sent: nothing of it is to be trusted.
        """
        sender = self.sender
        now = self._tcp.context.now
        advance = 0
        if tcp.acknowledgment != sender.una:
            advance = diff(tcp.acknowledgment, sender.una)
            if advance > sender.in_flight or advance < -sender.largest_window:  # RFC 5961, 5.2
                self._drop(Reason.TCP_SEQUENCE)
                self._challenge(tcp.flags, size)
                return False
            if advance < 0:
                return True
            self._release(sender.acknowledge(tcp.acknowledgment, now))
            self._retransmit_at = now + sender.rto if sender.in_flight else inf
            if sender.fin_sent and not sender.in_flight:
                self.fire(states.GUEST_ACKED_FIN)
                if self._state[0] is states.TIME_WAIT and self._guest_ended_first:  # LAST-ACK needs no TIME-WAIT
                    self.fire(states.TIME_OVER)
                    return False
        window = tcp.window << sender.scale
        changed = window != sender.window
        # SND.WL1 and SND.WL2 keep an old segment from moving the window back
        newer = diff(tcp.sequence, sender.wl1)
        if newer > 0 or (newer == 0 and diff(tcp.acknowledgment, sender.wl2) >= 0):
            sender.window = window
            if window > sender.largest_window:
                sender.largest_window = window
            sender.wl1, sender.wl2 = tcp.sequence, tcp.acknowledgment
        news = False
        if not window:
            sender.retries = 0  # the guest lives, it just has no room (RFC 9293, 3.8.6.1)
        elif sender.probing and sender.window:
            news = sender.window_opened()
            self._retransmit_at = now + sender.rto if sender.in_flight else inf
        if self._terms.sack and tcp.start - tcp.options_start >= 12:
            news |= sender.sack(parse_options(buf, tcp.options_start, tcp.start).sack)
        if advance == 0 and sender.in_flight and (news or not (size or changed)):
            sender.duplicates += 1
            if sender.recover is None and (sender.duplicates == DUPLICATES or sender.sack_says_lost()):
                sender.begin_recovery(lost_all=False)
                news = True
        if sender.recover is not None and (advance or news):
            self._retransmit()
        return True

    def _take_data(self, tcp: TcpHeader, size: int, buf: Buffer) -> None:
        receiver = self.receiver
        if self._fin is not None and diff(add(tcp.sequence, size), self._fin) > 0:
            self._drop(Reason.TCP_SEQUENCE)
            return
        memory = self._tcp.memory
        if memory.held + size > memory.limit:
            size = self._fitting(diff(tcp.sequence, receiver.next), size)
            if not size:
                return
        copy = size < COPY_BELOW or size < len(buf) >> 1
        end = tcp.start + size
        data = buf[tcp.start : end] if copy else memoryview(buf)[tcp.start : end]
        held, unsent = receiver.queued, receiver.unsent
        ready = receiver.accept(tcp.sequence, data, self._tcp.context.config.limits.tcp_reassembly_segments)
        taken = receiver.unsent - unsent
        self.sent += taken
        kept = receiver.queued - held
        if kept:
            memory.keep(self, kept, receiver.queued)
        self._hold(taken + kept)
        if held or not ready:
            self._ack_now = True  # a gap or its filling is reported at once (RFC 5681, 4.2)
        orders = self._tcp.context.out.orders
        for part in ready:
            orders.append(SendStream(self.socket, part))

    def _fitting(self, ahead: int, size: int) -> int:
        """How many of `size` bytes, which begin `ahead` bytes beyond RCV.NXT, memory has room for."""
        memory = self._tcp.memory
        if ahead > 0:
            most = memory.limit - memory.held - PIECE_COST
        else:
            most = memory.room_in_order(self.receiver.unsent) - ahead
        if size <= most:
            return size
        self._drop(Reason.TCP_MEMORY)
        self._ack_now = True
        return most if ahead <= 0 and most > -ahead else 0

    def give_up(self) -> tuple[int, bool]:
        """Let go of the last piece beyond a gap; bytes freed, and whether there are more."""
        freed = self.receiver.give_up()
        self.held -= freed
        return freed, bool(self.receiver.queued)

    def _take_fin(self) -> None:
        if self._state[2] is not states.OPEN:
            return
        self.receiver.next = add(self.receiver.next, 1)
        self._ack_now = True
        self.fire(states.GUEST_FIN)
        self._check_up_drained()

    def _check_up_drained(self) -> None:
        if self._state[2] is states.FIN_SEEN and not self.receiver.unsent:
            self._tcp.context.out.orders.append(ShutdownStream(self.socket))
            self.fire(states.UP_DRAINED)

    # facts from the host's socket

    def stream_received(self, data: bytes) -> None:
        """The host's socket gave bytes, within the budget."""
        promised = self._tcp.memory.promised
        if promised:
            promised.pop(self, None)
        self.sender.enqueue(data)
        self.received += len(data)
        self._hold(len(data))
        self.touch()

    def stream_sent(self, count: int) -> None:
        """The host's socket took bytes."""
        receiver = self.receiver
        if not 0 <= count <= receiver.unsent:
            raise UsageError(f"{count} bytes are said to be sent, of {receiver.unsent} that were ordered")
        receiver.unsent -= count
        self._release(count)
        if self._state[2] is states.FIN_SEEN:
            self._check_up_drained()
        if receiver.window_opens(self._terms.own_mss, self._tcp.memory.window(receiver.limit)):
            self._acknowledge_again()

    def stream_ended(self) -> None:
        """The host will send no more."""
        self.sender.ended = True
        self.fire(states.HOST_ENDED)
        self.touch()

    def receive_budget(self) -> int:
        """How many bytes the driver may read now; if 0, a `ResumeStream` will follow when it is not."""
        budget = self._budget()
        self._awaits_budget = not budget
        return budget

    def _budget(self) -> int:
        sender = self.sender
        if not self._established or sender.ended:
            return 0
        limits = self._tcp.context.config.limits
        room = min(sender.usable() - sender.unsent, limits.tcp_send_buffer - sender.buffered)
        if room < sender.mss:
            # A little even without a window, so that there is something to probe it with; else no crumbs
            room = sender.mss if not sender.buffered else 0
        elif room > self._terms.frame_payload:
            room -= room % self._terms.frame_payload
        return self._tcp.memory.room(self, room) if room > 0 else 0

    # what is held

    def _hold(self, count: int) -> None:
        self.held += count
        memory = self._tcp.memory
        memory.held += count
        if memory.held > memory.limit:
            memory.make_room()

    def _release(self, count: int) -> None:
        self.held -= count
        self._tcp.memory.held -= count

    def drop_buffers(self) -> None:
        """Let go of all data: timers may remember an ended connection for a while."""
        self.held = 0
        self.sender.drop_buffers()
        self.receiver.drop_buffers()

    # output

    def touch(self) -> None:
        """Have `flush` called at the end of the batch."""
        if not self._dirty:
            self._dirty = True
            self._tcp.dirty.append(self)

    def _drop(self, reason: Reason) -> None:
        self._tcp.context.drop_packet(reason, TCP, self.guest, self.remote)

    def _acknowledge_again(self) -> None:
        self._ack_now = True
        self.touch()

    def flush(self) -> None:
        """Say to the guest what there is to say: data, FIN, acknowledgment, window."""
        self._dirty = False
        state = self._state[0]
        if not self._established and state in _SILENT:
            return
        now = self._tcp.context.now
        if state is not states.SYN_ACK_SENT:  # until the guest has the SYN-ACK, nothing else has a meaning
            if self.receiver.queued and self._ack_now:
                self._send_ack(now)  # by itself, for segments with data carry no SACK
            if state is states.ESTABLISHED and (self.sender.unsent or self.sender.ended):
                self._send_data(now)
            if self._ack_now or self.receiver.acknowledged != self.receiver.next:
                self._send_ack(now)
        if self._awaits_budget and self not in self._tcp.memory.waiting and self._budget():
            self._awaits_budget = False
            self._tcp.context.out.orders.append(ResumeStream(self.socket))
        self._arm()

    def _send_data(self, now: float) -> None:
        sender = self.sender
        if not sender.in_flight and sender.usable() > 0:
            self._retransmit_at = inf  # it was the persist timer
        while sender.unsent:
            size = min(sender.unsent, sender.usable(), self._terms.frame_payload)
            # Silly windows are avoided (RFC 9293, 3.8.6.2.1), but not at the price of a pause
            if size <= 0 or (size < sender.unsent and size < sender.mss and sender.in_flight):
                break
            sequence = sender.next
            payload = sender.next_payload(size, now)
            self._send_segment(sequence, ACK if sender.unsent else ACK | PSH, payload)
        if sender.ended and not sender.unsent and not sender.fin_sent:
            sender.fin_sent = True
            sender.probing = sender.probing or sender.usable() <= 0
            self._guest_ended_first = self._state[2] is not states.OPEN
            self._send_segment(sender.next, ACK | FIN, b"")
            sender.advance(1, now)
            self.fire(states.DOWN_DRAINED)
        if self._retransmit_at == inf and (sender.in_flight or sender.unsent):
            self._retransmit_at = now + sender.rto  # with nothing in flight this is the persist timer

    def _send_ack(self, now: float) -> None:
        receiver = self.receiver
        if not self._ack_now and diff(receiver.next, receiver.acknowledged) < 2 * self._terms.own_mss:
            if self._ack_due == inf:
                self._ack_due = now + DELAYED_ACK
            return
        options = b""
        if receiver.queued and self._terms.sack:
            options = sack_option(receiver.sack_blocks(self._terms.sack_blocks))
        self._send_segment(self.sender.acceptable(), ACK, b"", options)

    def _send_segment(self, sequence: int, flags: int, payload: Buffer, options: bytes = b"") -> None:
        receiver = self.receiver
        window = receiver.window(self._terms.own_mss, self._tcp.memory.window(receiver.limit))
        field = min(window >> self._terms.own_scale if self._terms.own_scale else window, 65535)
        mss = self._terms.mss
        self._headers.tcp(sequence, receiver.next, flags, field, options, payload, mss if len(payload) > mss else 0)
        receiver.acknowledged = receiver.next
        self._ack_now = False
        self._ack_due = inf

    def _send_syn(self) -> None:
        """Our SYN, or our SYN-ACK if the guest has sent its SYN."""
        flags, acknowledgment = (SYN, 0) if self.inbound else (SYN | ACK, self.receiver.next)
        window = min(self.receiver.limit, 65535)  # never scaled (RFC 7323, 2.2)
        self._headers.tcp(self.sender.una, acknowledgment, flags, window, self._terms.syn_options(), b"", 0)

    def _retransmit(self) -> None:
        sender = self.sender
        for sequence, payload in sender.retransmissions():
            self._send_segment(sequence, ACK | PSH, payload)
        if sender.fin_sent and sender.in_flight == 1:
            self._send_segment(sender.una, ACK | FIN, b"")

    # time

    def _arm(self) -> None:
        """Have `expire` called in time; it may come early, which costs less than to move a deadline for each packet."""
        due = self._ack_due if self._ack_due < self._retransmit_at else self._retransmit_at
        if due < self.deadline:
            self._tcp.context.timers.arm(self, due)

    def _idle_deadline(self) -> float:
        return self._active + self._tcp.context.config.limits.tcp_keepalive + self._probes * KEEPALIVE_INTERVAL

    def expire(self) -> None:
        """A deadline armed by `_arm` has passed."""
        now = self._tcp.context.now
        if self._time_wait_at <= now:
            self.fire(states.TIME_OVER)
            return
        if self._ack_due <= now:
            self._ack_due = inf
            self._acknowledge_again()
        if self._retransmit_at <= now:
            self._retransmission_timeout(now)
        elif self._idle_deadline() <= now:
            self._probe_silent_guest()
        if self._state[0] is not states.GONE:
            due = min(self._ack_due, self._retransmit_at, self._time_wait_at, self._idle_deadline())
            self._tcp.context.timers.arm(self, due)

    def _retransmission_timeout(self, now: float) -> None:
        sender = self.sender
        if self._state[0] is states.SYN_RECEIVED:
            self.abandon()
            return
        if self.pending:
            if sender.retries >= SYN_RETRIES:
                self.fire(states.GUEST_RESET)
                return
            sender.back_off()
            self._send_syn()
        elif not sender.in_flight:
            if not sender.unsent:
                self._retransmit_at = inf
                return
            sequence = sender.next
            self._send_segment(sequence, ACK | PSH, sender.probe(now))
        else:
            if sender.retries >= DATA_RETRIES:
                self._effect_send_reset()
                self.fire(states.GUEST_RESET)
                return
            sender.back_off()
            sender.begin_recovery(lost_all=True)
            self._retransmit()
        self._retransmit_at = now + sender.rto

    def _probe_silent_guest(self) -> None:
        """RFC 9293, 3.8.4: a segment just before the window, which a living guest acknowledges."""
        if self._probes >= KEEPALIVE_PROBES:
            self._effect_send_reset()
            self.fire(states.GUEST_RESET)
            return
        self._probes += 1
        self._send_segment(add(self.sender.next, -1), ACK, b"")
