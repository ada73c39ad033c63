"""Host to guest: the send buffer, the guest's window, retransmission.

Theory of operation. Bytes read from the host are held until the guest acknowledges them. Two queues hold them:
`sent`, one entry for each frame sent, from SND.UNA on; and `unsent`. Chunks move from one to the other, cut by
memoryview, never copied except to join small ones.

Retransmission follows RFC 6298 (timer), RFC 5681/6582 (fast retransmit on three duplicates) and RFC 6675 (holes below
what SACK reports). There is deliberately no congestion window: the path to the guest is one link, whose queue pushes
back by itself, and the guest's window is the only bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from sansnet_core.orders import Buffer
from sansnet_core.proto.tcp.handshake import Terms
from sansnet_core.wire.tcp import TcpHeader, add, diff

__all__ = ["Sender"]

MIN_RTO: Final = 0.2
"""Linux's TCP_RTO_MIN. RFC 6298 2.4 says 1 s; the link to a guest has no queues that would excuse it."""
MAX_RTO: Final = 60.0
INITIAL_RTO: Final = 1.0
DUPLICATES: Final = 3
SMALL: Final = 2048
"""Shorter pieces are copied together: a remote that sends single bytes must not cost a hundred for each."""
MAX_BURST: Final = 16
"""Segments sent again for one acknowledgment; theirs bring the next. Without a bound, a guest with
tiny segments is sent tens of thousands of them for one SACK."""
_MAX_SACKED: Final = 64
"""Ranges remembered; the guest may report more, then the oldest knowledge is lost, not correctness."""


class Sender:
    """The sending half of one connection.

    Attributes:
        una: SND.UNA.
        next: SND.NXT; nothing beyond it was ever sent.
        window: SND.WND in bytes, scaled.
        largest_window: largest ever offered.
        scale: the guest's window shift.
        mss: most payload bytes of a segment.
        buffered: bytes held, sent or not.
        rto: seconds, backed off.
        retries: retransmissions since the guest last acknowledged something new.
        ended: no more data will come: a FIN follows the last byte.
        fin_sent: the FIN occupies the sequence number before `next`.
    """

    __slots__ = (
        "_burst",
        "_cursor",
        "_cursor_at",
        "_lost_all",
        "_retransmitted",
        "_rtt_sequence",
        "_rtt_start",
        "_rttvar",
        "_sacked",
        "_sent",
        "_srtt",
        "_unsent",
        "buffered",
        "duplicates",
        "ended",
        "fin_sent",
        "largest_window",
        "mss",
        "next",
        "probing",
        "recover",
        "retries",
        "rto",
        "sack_permitted",
        "scale",
        "una",
        "unsent",
        "window",
        "wl1",
        "wl2",
    )

    def __init__(self, iss: int) -> None:
        self.una = iss
        self.next = iss
        self.wl2 = iss
        self.buffered = 0
        self.unsent = 0
        self.rto = INITIAL_RTO
        self.retries = 0
        self.duplicates = 0
        self.probing = False
        """Whether something was sent beyond a closed window."""
        self.recover: int | None = None
        """SND.NXT when loss recovery began, or None outside of it."""
        self.ended = False
        self.fin_sent = False
        self._sent: deque[Buffer] | None = None
        self._unsent: deque[Buffer] | None = None
        self._sacked: list[tuple[int, int]] | None = None
        self._retransmitted = iss
        self._burst = 0
        # The piece at which retransmission goes on, and its sequence number: not all are walked for each acknowledgment
        self._cursor = 0
        self._cursor_at = iss
        self._lost_all = False
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._rtt_sequence = 0
        self._rtt_start: float | None = None

    def agree(self, syn: TcpHeader, terms: Terms) -> None:
        """The guest's SYN or SYN-ACK came; nothing but our SYN can have been sent before."""
        self.window = self.largest_window = syn.window  # a SYN's window is never scaled (RFC 7323, 2.2)
        self.wl1 = syn.sequence
        self.scale = terms.scale
        self.mss = terms.mss
        self.sack_permitted = terms.sack

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not acknowledged."""
        return diff(self.next, self.una)

    def usable(self) -> int:
        """Bytes that the guest's window still has room for; may be negative if it shrank."""
        return self.window - diff(self.next, self.una)

    def acceptable(self) -> int:
        """SND.NXT, or the edge of the guest's window if more was sent: beyond it even an acknowledgment is dropped."""
        return self.next if self.usable() >= 0 else add(self.una, self.window)

    def enqueue(self, data: Buffer) -> None:
        """Take bytes from the host."""
        self.unsent += len(data)
        self.buffered += len(data)
        if self._unsent is None:
            self._unsent = deque()
        _append(self._unsent, data)

    def next_payload(self, most: int, now: float) -> Buffer:
        """Move the next bytes, at most `most`, from unsent to sent, and advance SND.NXT over them."""
        unsent = self._unsent
        assert unsent
        payload = unsent[0]
        size = len(payload)
        if size > most:
            view = memoryview(payload)
            payload, unsent[0] = view[:most], view[most:]
            size = most
        else:
            unsent.popleft()
            if size < most and unsent:
                parts = [payload]
                while unsent and size < most:
                    part = unsent[0]
                    take = most - size
                    if len(part) > take:
                        view = memoryview(part)
                        part, unsent[0] = view[:take], view[take:]
                    else:
                        unsent.popleft()
                    parts.append(part)
                    size += len(part)
                payload = b"".join(parts)
        if not unsent:
            self._unsent = None
        if self._sent is None:
            self._sent = deque()
        _append(self._sent, payload)
        self.unsent -= size
        self.advance(size, now)
        return payload

    def advance(self, count: int, now: float) -> None:
        """SND.NXT moves over sequence numbers that are being sent for the first time; time them (RFC 6298, 3)."""
        self.next = add(self.next, count)
        if self._rtt_start is None:
            self._rtt_start = now
            self._rtt_sequence = self.next

    def forget_timing(self) -> None:
        """Something was sent again: its acknowledgment tells nothing of the round trip (Karn; RFC 6298, 3)."""
        self._rtt_start = None

    def drop_buffers(self) -> None:
        """Let go of all data."""
        self._sent = self._unsent = self._sacked = None

    def probe(self, now: float) -> Buffer:
        """The next byte, to be sent beyond a closed window (RFC 9293, 3.8.6.1); the next probe waits twice as long."""
        payload = self.next_payload(1, now)
        self.forget_timing()  # the answer comes when the guest likes
        self.probing = True
        self.rto = min(self.rto * 2, MAX_RTO)
        return payload

    def window_opened(self) -> bool:
        """A closed window was probed, and is open now: what was sent beyond it was dropped.

        Returns:
            Whether it is to be sent again.
        """
        self.probing = False
        if self._srtt is None:
            self.rto = INITIAL_RTO
        else:
            self._set_rto()
        if not self.in_flight:
            return False
        self.begin_recovery(lost_all=True)
        return True

    # acknowledgments

    def acknowledge(self, acknowledgment: int, now: float) -> int:
        """SND.UNA moves to `acknowledgment`, which is new and within what was sent.

        Returns:
            How many payload bytes were let go of.
        """
        count = diff(acknowledgment, self.una)
        self.una = acknowledgment
        self.duplicates = 0
        if self._rtt_start is not None and diff(acknowledgment, self._rtt_sequence) >= 0:
            self._sample(now - self._rtt_start)
            self._rtt_start = None
        elif self._srtt is not None:
            self._set_rto()  # the backed-off value has done its work
        self.retries = 0
        released = 0
        sent = self._sent
        piece: Buffer = b""
        popped = 0
        while sent and count:
            piece = sent[0]
            size = len(piece)
            if size > count:
                rest = memoryview(piece)[count:]
                # A small rest must not keep the large object that it is a part of
                sent[0] = bytes(rest) if len(rest) < SMALL else rest
                size = count
            else:
                sent.popleft()
                popped += 1
            released += size
            count -= size
        self.buffered -= released
        if not sent:
            self._sent = None
        if (
            isinstance(piece, memoryview)
            and isinstance(piece.obj, bytes)
            and len(piece.obj) > 8 * (self.buffered + SMALL)
        ):
            self._copy_out()  # the same for what was read from the host at once, of which little is left
        if self._sacked:
            self._sacked = [block for block in self._sacked if diff(block[1], acknowledgment) > 0] or None
        self._cursor -= popped
        if self._cursor <= 0:
            self._cursor, self._cursor_at = 0, acknowledgment
        if self.recover is not None:
            if diff(acknowledgment, self.recover) >= 0:
                self.recover = None
            else:
                if self._lost_all:
                    self._burst = min(self._burst * 2, MAX_BURST)
                if diff(self._retransmitted, acknowledgment) < 0:
                    self._retransmitted = acknowledgment
        return released

    def _copy_out(self) -> None:
        """Make all pieces objects of their own: what is held must be what is counted."""
        if self._sent:
            self._sent = deque(map(bytes, self._sent))
        if self._unsent:
            self._unsent = deque(map(bytes, self._unsent))

    def _sample(self, rtt: float) -> None:
        """RFC 6298, 2.2 and 2.3."""
        if self._srtt is None:
            self._srtt = rtt
            self._rttvar = rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8
        self._set_rto()

    def _set_rto(self) -> None:
        assert self._srtt is not None
        self.rto = min(max(self._srtt + 4 * self._rttvar, MIN_RTO), MAX_RTO)

    def sack(self, blocks: tuple[tuple[int, int], ...]) -> bool:
        """Note what the guest holds beyond a gap (RFC 2018, 5); absurd blocks are ignored.

        Returns:
            Whether anything of it is news.
        """
        old = self._sacked or []
        ranges = old + [
            block
            for block in blocks
            if diff(block[0], self.una) > 0 and diff(block[1], block[0]) > 0 and diff(self.next, block[1]) >= 0
        ]
        ranges.sort(key=lambda block: diff(block[0], self.una))
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and diff(first, merged[-1][1]) <= 0:
                if diff(last, merged[-1][1]) > 0:
                    merged[-1] = merged[-1][0], last
            else:
                merged.append((first, last))
        self._sacked = merged[:_MAX_SACKED] or None
        return merged != old

    def sack_says_lost(self) -> bool:
        """Whether more than two segments' worth of data beyond SND.UNA has arrived (RFC 6675, IsLost)."""
        return sum(diff(last, first) for first, last in self._sacked or ()) > (DUPLICATES - 1) * self.mss

    # retransmission

    def begin_recovery(self, *, lost_all: bool) -> None:
        """Retransmit from SND.UNA.

        Args:
            lost_all: nothing in flight is believed to have arrived: go on from there, faster with every acknowledgment.
                Otherwise only what is known to be missing is sent again: the first segment, or SACK's holes.
        """
        self.recover = self.next
        self._lost_all = lost_all
        self._retransmitted = self._cursor_at = self.una
        self._cursor = 0
        self._burst = 1
        self._rtt_start = None

    def back_off(self) -> None:
        """The retransmission timer expired (RFC 6298, 5.5)."""
        self.retries += 1
        self.rto = min(self.rto * 2, MAX_RTO)
        self._sacked = None  # the guest may have reneged (RFC 2018, 8)
        self.forget_timing()

    def retransmissions(self) -> Iterator[tuple[int, Buffer]]:
        """Segments to send again now: holes that were not sent again in this recovery.

        Yields:
            Sequence number and payload.
        """
        assert self.recover is not None
        if self._sacked:
            end = self._sacked[-1][1]
            burst = MAX_BURST  # every hole below the highest SACK is lost: later data has arrived
        elif self.sack_permitted and not self._lost_all:
            return  # no hole is known of any more, and the rest may be under way
        else:
            end = self.recover
            burst = self._burst
        for sequence, payload in self._pieces(self._retransmitted, end):
            if burst <= 0:
                break
            burst -= 1
            self._retransmitted = add(sequence, len(payload))
            yield sequence, payload

    def _pieces(self, position: int, end: int) -> Iterator[tuple[int, Buffer]]:
        """What was sent from `position` to `end` and not reported by SACK, in segments."""
        una = self.una
        # All of these count from SND.UNA
        at, last = diff(position, una), diff(end, una)
        sacked = [(diff(first, una), diff(behind, una)) for first, behind in self._sacked or ()]
        sent = self._sent or ()
        index, start = self._cursor, diff(self._cursor_at, una)
        at = max(at, start)
        while index < len(sent):
            payload = sent[index]
            following = start + len(payload)
            while at < following:
                if at >= last:
                    return
                while sacked and sacked[0][1] <= at:
                    del sacked[0]
                size = min(self.mss, following - at, last - at)
                if sacked:
                    ahead = sacked[0][0] - at
                    if ahead <= 0:
                        at = sacked[0][1]
                        continue
                    size = min(size, ahead)
                yield add(una, at), memoryview(payload)[at - start : at - start + size]
                at += size
            index += 1
            start = following
            if index < len(sent):  # what is sent next may be added to the last piece
                self._cursor, self._cursor_at = index, add(una, start)


def _append(pieces: deque[Buffer], data: Buffer) -> None:
    """Add data behind the last piece, or to it if both are small."""
    if pieces and len(pieces[-1]) + len(data) <= SMALL:
        pieces[-1] = b"".join((pieces[-1], data))
    else:
        pieces.append(data)
