"""The stream from host to guest: the send buffer, the guest's window, retransmission.

Theory of operation. Bytes read from the host are held (`send_buffer`) until the guest acknowledges them.

Retransmission follows RFC 6298 (timer), RFC 5681 and 6582 (fast retransmit after three duplicate acknowledgments) and
RFC 6675 (holes below the highest byte that SACK reports). A timeout that came too early is noticed as in RFC 5682.
There is deliberately no congestion window: the path to the guest is one link with flow control of its own, so only the
guest's window bounds what is in flight.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proto.tcp.handshake import Terms
from sansnet_core.proto.tcp.loss import MAX_BURST, Loss
from sansnet_core.proto.tcp.round_trips import MAX_RTO, RoundTrips
from sansnet_core.proto.tcp.send_buffer import SendBuffer
from sansnet_core.wire.tcp import FIN, HALF, MASK, TcpHeader, add, diff, parse_options

__all__ = ["Acked", "Sender"]

RTO_AFTER_SYN_LOSS: Final = 3.0
"""RFC 6298, 5.7."""
RETRY_AFTER_RESET: Final = 0.002
"""Seconds from the reset of an earlier connection to our next SYN, so that the reset arrives first; as in Linux."""
DUPLICATES: Final = 3
"""Duplicate acknowledgments that begin a fast retransmit (RFC 5681, 3.2)."""
_REST: Final = Struct("!IIIIddd")
"""The state of a sender with nothing to do: SND.UNA, windows, SND.WL1; RTO, SRTT and RTTVAR."""
OVERRIDE: Final = 0.2
"""Seconds that data waits for a window worth filling; RFC 9293, 3.8.6.2.1 recommends 0.1 to 1 s."""
MAX_READ: Final = 256 * 1024
"""Bytes to read from the host at once. Larger reads cost no less per byte, and leave the processor's cache."""
_MIN_SACK_OPTION: Final = 12
"""Bytes of options with one SACK block: two for padding, two of kind and length, eight of the block."""


class Acked(NamedTuple):
    """The changes by an acknowledgment.

    Attributes:
        released: payload bytes that were acknowledged and freed.
        everything: something was acknowledged, and nothing is in flight any more.
        retransmit: `retransmissions` has to be called.
    """

    released: int
    everything: bool
    retransmit: bool


_NOTHING: Final = Acked(0, False, False)


@mypyc_attr(allow_interpreted_subclasses=True)
class Sender(RoundTrips):
    """The sending half of one connection.

    Attributes:
        una: SND.UNA.
        next: SND.NXT; nothing beyond it was ever sent.
        window: SND.WND in bytes, scaled.
        largest_window: MAX.SND.WND (RFC 5961, 5.2).
        terms: the result of the negotiation.
        buffer: the bytes from the host.
        duplicates: duplicate acknowledgments since SND.UNA moved.
        loss: what is known to be lost, and its recovery; None if nothing is.
        recover: SND.NXT when the last recovery began (RFC 6582); None once more than that is acknowledged.
        retries: retransmissions since the guest last acknowledged something new.
        retransmit_at: when the retransmission timer expires or, with nothing in flight, the persist timer (RFC 9293,
            3.8.6.1); `math.inf` if none is running.
        wl1: SND.WL1. SND.WL2 is not needed, since an acknowledgment below SND.UNA changes nothing.
    """

    __slots__ = (
        "buffer",
        "duplicates",
        "largest_window",
        "loss",
        "next",
        "recover",
        "retransmit_at",
        "retries",
        "terms",
        "una",
        "window",
        "wl1",
    )

    terms: Terms
    window: int
    largest_window: int
    wl1: int

    def __init__(self, iss: int) -> None:
        super().__init__()
        self.una = iss
        self.next = iss
        self.buffer = SendBuffer()
        self.retries = 0
        self.duplicates = 0
        self.loss: Loss | None = None
        self.recover: int | None = None
        self.retransmit_at = inf

    # handshake

    def agree(self, syn: TcpHeader, terms: Terms) -> None:
        """Take window and terms of the guest's SYN or SYN-ACK; nothing but our SYN can have been sent before."""
        self.window = self.largest_window = syn.window  # a SYN's window is never scaled (RFC 7323, 2.2)
        self.wl1 = syn.sequence
        self.terms = terms

    def send_syn(self, now: float) -> None:
        """Move SND.NXT over our SYN, which is sent for the first time, and start the timer."""
        self._advance(1, now)
        self.retransmit_at = now + self.rto

    def retry_syn(self, now: float) -> None:
        """Have our SYN sent again soon: the guest still had an earlier connection, which is reset."""
        if not self.retries:
            self.retransmit_at = now + RETRY_AFTER_RESET

    def establish(self, sequence: int) -> None:
        """The handshake is complete. Windows of the guest's segments count from this sequence number on."""
        self.wl1 = (sequence - 1) & MASK
        self.retransmit_at = inf
        if self.retries:
            self.rto = RTO_AFTER_SYN_LOSS

    # rest

    REST_SIZE: Final = _REST.size

    def rest(self) -> bytes | None:
        """The whole state as `REST_SIZE` bytes, for `wake`; None if there is anything to send or to wait for."""
        if self.next != self.una or self.buffer.held or self.loss is not None or self._srtt is None:
            return None
        if self.retransmit_at != inf or self.retries or self.duplicates or self._rtt_start is not None:
            return None
        times = (self.rto, self._srtt, self._rttvar)
        return _REST.pack(self.una, self.window, self.largest_window, self.wl1, *times)

    def wake(self, state: bytes, terms: Terms) -> None:
        """Take the state that `rest` returned; this sender is new."""
        self.una, self.window, self.largest_window, self.wl1, self.rto, self._srtt, self._rttvar = _REST.unpack(state)
        self.next = self.una
        self.terms = terms

    # new data

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return diff(self.next, self.una)

    @property
    def has_room(self) -> bool:
        """Whether the guest's window has room for more."""
        return self.window > (self.next - self.una) & MASK

    @property
    def fin_may_go(self) -> bool:
        """Whether FIN may be sent behind all data: the window has room or, with nothing in flight, it is a probe."""
        return self.has_room or self.next == self.una

    @property
    def fin_is_missing(self) -> bool:
        """Whether our FIN, which was sent, is the only thing that is not acknowledged."""
        return not self.buffer.held and add(self.una, 1) == self.next

    @property
    def ack_sequence(self) -> int:
        """Sequence number for a bare ACK: SND.NXT, but never beyond the guest's window, where the guest drops it."""
        return self.next if self.window >= (self.next - self.una) & MASK else add(self.una, self.window)

    def room(self, limit: int, frame_payload: int) -> int:
        """How many bytes may be read from the host.

        Args:
            limit: most bytes to hold.
            frame_payload: payload bytes of a full frame; larger amounts are whole frames.

        Returns:
            0, or at least one segment: even if the window is closed, one segment may be read for window probes. More
            is a multiple of a frame's payload, or below that of a segment's: a read ends with a whole one.
        """
        buffer = self.buffer
        room = limit - buffer.held
        usable = self.window - ((self.next - self.una) & MASK) - buffer.unsent
        if usable < room:
            room = usable
        if room < self.terms.mss:
            return 0 if buffer.held else self.terms.mss
        if room > MAX_READ:
            room = MAX_READ
        return room - room % (frame_payload if room > frame_payload else self.terms.mss)

    def next_payload(self, max_size: int, now: float) -> Buffer:
        """Move SND.NXT over the next unsent bytes, if the guest's window has room. `buffer.unsent` must not be 0.

        Args:
            max_size: most payload bytes of a frame.
            now: seconds.

        Returns:
            The data to send with the sequence number that was SND.NXT, or nothing if the window is full.
        """
        buffer = self.buffer
        unsent = buffer.unsent
        in_flight = (self.next - self.una) & MASK
        usable = self.window - in_flight
        size = unsent if unsent < max_size else max_size
        if usable < size:
            size = usable
            if size > self.terms.mss:
                size -= size % self.terms.mss  # whole segments; the rest waits for room as any small one does
        # Avoid silly windows (RFC 9293, 3.8.6.2.1); with nothing in flight, half of the largest window is enough
        if size < unsent and size < self.terms.mss and (in_flight or size <= 0 or size < self.largest_window >> 1):
            if self.retransmit_at == inf:
                self.retransmit_at = now + (self.rto if size <= 0 else OVERRIDE)  # the persist timer
            return b""
        if not in_flight:
            self.retransmit_at = now + self.rto
        self._advance(size, now)
        return buffer.next_payload(size)

    def send_fin(self, now: float) -> int:
        """Move SND.NXT over our FIN, which is sent now behind all data; returns its sequence number."""
        sequence = self.next
        self._advance(1, now)
        if self.retransmit_at == inf:
            self.retransmit_at = now + self.rto
        return sequence

    def _advance(self, count: int, now: float) -> None:
        """Move SND.NXT over sequence numbers that are sent for the first time, and time a segment (RFC 6298, 3).

        The first one is timed, since the last one is acknowledged late if any other is lost. A SYN has no terms yet.
        """
        if self._rtt_start is None:
            self._rtt_start = now
            self._rtt_sequence = (self.next + (1 if count == 1 else min(count, self.terms.mss))) & MASK
        self.next = (self.next + count) & MASK

    def free_buffers(self) -> int:
        """Free all data, which the guest will not take any more; the bytes freed."""
        self.loss = None
        self.retransmit_at = inf
        return self.buffer.free()

    def probe(self, now: float) -> tuple[int, Buffer]:
        """The persist timer has expired: fill a silly window, or send the next byte beyond a closed one and back off.

        See RFC 9293, 3.8.6.2.1 and 3.8.6.1.

        Returns:
            Sequence number and payload.
        """
        sequence = self.next
        payload = self.buffer.next_payload(max(min(self.window, self.terms.mss), 1))
        self._advance(len(payload), now)
        if not self.window:
            self.forget_timing()  # the guest may answer late
            self.rto = min(self.rto * 2, MAX_RTO)
        self.retransmit_at = now + self.rto
        return sequence, payload

    # acknowledgments

    def take(self, tcp: TcpHeader, buf: Buffer, size: int, now: float) -> Acked | None:
        """Process acknowledgment, window and SACK of a segment (RFC 9293, 3.10.7.4, fifth).

        Args:
            tcp: its header, with ACK set.
            buf: the buffer that the header describes.
            size: its payload bytes that count.
            now: seconds.

        Returns:
            None if it acknowledges data that was never sent, or is too old for this connection (RFC 5961, 5.2).
        """
        acknowledgment, sequence = tcp.acknowledgment, tcp.sequence
        advance = released = 0
        loss = self.loss
        unrepeated = False
        if acknowledgment != self.una:
            advance = (acknowledgment - self.una) & MASK
            if advance > (self.next - self.una) & MASK:  # an old one, or one of bytes that were never sent
                return None if advance < HALF or MASK + 1 - advance > self.largest_window else _NOTHING
            unrepeated = loss is not None and loss.lost_all and diff(acknowledgment, loss.retransmitted) > 0
            released = self.acknowledge(advance, now)
        window = tcp.window << self.terms.scale
        changed = window != self.window
        was_closed = not self.window
        # SND.WL1 keeps an old segment from restoring an old window. But data that the guest sends again may have a new
        # acknowledgment: the window counts from there, and the old one would reach beyond the guest's
        newer = (sequence - self.wl1) & MASK
        if advance or newer < HALF:
            self.window = window
            if window > self.largest_window:
                self.largest_window = window
            if newer < HALF:
                self.wl1 = sequence
        news = False
        if not window:
            self.retries = 0  # the guest is alive and only has no room (RFC 9293, 3.8.6.1)
        elif was_closed and self.window:
            news = self._window_opens(now)
        if self.terms.sack and tcp.start - tcp.options_start >= _MIN_SACK_OPTION:
            news |= self._sack(parse_options(buf, tcp.options_start, tcp.start).sack)
        loss = self.loss
        if unrepeated and loss is not None and self.terms.sack and not loss.sacked:
            loss.found_spurious()
        # With SACK, only an acknowledgment that reports something new is a duplicate (RFC 6675, 2)
        duplicate = news or not (size or changed or self.terms.sack or tcp.flags & FIN)
        if not advance and self.next != self.una and duplicate:
            self.duplicates += 1
            recovering = loss is not None and loss.recover is not None
            if not recovering and (self._counts_as_lost() or (loss is not None and self._sack_says_lost(loss))):
                self._begin_recovery(lost_all=False)
                news = True
        if advance or news:
            recovering = self.loss is not None and self.loss.recover is not None
            return tuple.__new__(Acked, (released, self.next == self.una, recovering))
        return _NOTHING

    def _counts_as_lost(self) -> bool:
        """Whether there are enough duplicates. Without SACK, those of the last recovery's segments may not count."""
        return self.duplicates == DUPLICATES and (self.terms.sack or self.recover is None)

    def _window_opens(self, now: float) -> bool:
        """A closed window has opened. The guest dropped what was beyond it: a probe, or data before it closed.

        Returns:
            Whether there is something to send again.
        """
        self._end_backoff()
        if self.next == self.una:
            self.retransmit_at = inf
            return False
        self.retransmit_at = now + self.rto
        self._begin_recovery(lost_all=True)
        return True

    def acknowledge(self, count: int, now: float) -> int:
        """Move SND.UNA on by `count`, not beyond SND.NXT, and restart the timer (RFC 6298, 5.3).

        Returns:
            The payload bytes that were freed.
        """
        acknowledgment = self.una = (self.una + count) & MASK
        self.duplicates = 0
        if self._rtt_start is not None and (acknowledgment - self._rtt_sequence) & MASK < HALF:
            self._sample(now - self._rtt_start)
            self._rtt_start = None
        if self.recover is not None:
            if diff(acknowledgment, self.recover) > 0:
                self.recover = None
                self._end_backoff()
            else:
                self._bound_backoff()
        self.retries = 0
        self.retransmit_at = now + self.rto if self.next != acknowledgment else inf
        released = self.buffer.release(count)
        if self.loss is not None and self.loss.acknowledged(acknowledgment):
            self.loss = None
        return released

    def _sack(self, blocks: tuple[tuple[int, int], ...]) -> bool:
        """Note which data the guest holds beyond a gap (RFC 2018, 5); blocks that were never sent are ignored.

        Returns:
            Whether some of it was not known before.
        """
        una = self.una
        known = [
            block
            for block in blocks
            if diff(block[0], una) > 0 and diff(block[1], block[0]) > 0 and diff(self.next, block[1]) >= 0
        ]
        if self.loss is None:
            if not known:
                return False
            self.loss = Loss(una)
        return self.loss.sack(known, una)

    def _sack_says_lost(self, loss: Loss) -> bool:
        """Whether SACK reports three ranges, or more than two segments' worth of data (RFC 6675, 4, IsLost)."""
        sacked = loss.sacked
        least = (DUPLICATES - 1) * self.terms.mss
        return len(sacked) >= DUPLICATES or sum(diff(last, first) for first, last in sacked) > least

    # retransmission

    def _begin_recovery(self, *, lost_all: bool) -> None:
        """Retransmit from SND.UNA on.

        Args:
            lost_all: everything in flight counts as lost and is sent again, in bursts that double with every
                acknowledgment. Otherwise only data known to be missing is sent again: the first segment, or SACK's
                holes.
        """
        if self.loss is None:
            self.loss = Loss(self.una)
        self.loss.begin(self.una, self.next, lost_all=lost_all)
        if self.recover is None or diff(self.una, self.recover) >= 0:
            self._recovery_rto = 0.0
        self.recover = self.next
        self.buffer.rewind()
        self.forget_timing()

    def shrink(self, terms: Terms) -> None:
        """Take terms with a smaller MSS. All in flight counts as lost."""
        self.terms = terms
        self._begin_recovery(lost_all=True)

    def back_off(self, now: float) -> None:
        """Something is sent again because the timer has expired: double and restart it (RFC 6298, 5.5 and 5.6)."""
        self.retries += 1
        self.rto = min(self.rto * 2, MAX_RTO)
        self.retransmit_at = now + self.rto
        self.forget_timing()

    def time_out(self, now: float) -> None:
        """The retransmission timer has expired with data or FIN in flight."""
        self.back_off(now)
        self.loss = None  # the guest may have discarded data that it reported (RFC 2018, 8)
        self._begin_recovery(lost_all=True)

    def retransmissions(self) -> Iterator[tuple[int, Buffer]]:
        """Segments to send again now: the holes that were not retransmitted yet in this recovery.

        Yields:
            Sequence number and payload.
        """
        loss = self.loss
        assert loss is not None
        assert loss.recover is not None
        if loss.sacked:
            end = loss.sacked[-1][1]
            burst = MAX_BURST  # every hole below the highest byte reported counts as lost: later data has arrived
        elif self.terms.sack and not loss.lost_all:
            if loss.take_check():  # no hole is known any more, and the rest may be under way
                yield from self._last_segment()
            return
        else:
            end = loss.recover
            burst = loss.burst
        una = self.una
        arrived = [(diff(first, una), diff(last, una)) for first, last in loss.sacked]
        start = diff(loss.retransmitted, una)
        for position, payload in self.buffer.segments(start, diff(end, una), self.terms.mss, arrived):
            if burst <= 0:
                break
            burst -= 1
            sequence = add(una, position)
            end = add(sequence, len(payload))
            loss.sent_again(end)
            self._sends_again(end)
            yield sequence, payload

    def _last_segment(self) -> Iterator[tuple[int, Buffer]]:
        """The last bytes sent: the guest's answer tells whether those before have arrived (RFC 8985, 7)."""
        buffer = self.buffer
        end = buffer.held - buffer.unsent
        buffer.rewind()
        for position, payload in buffer.segments(max(end - self.terms.mss, 0), end, self.terms.mss, []):
            self._sends_again(self.next)
            yield add(self.una, position), payload
        buffer.rewind()
