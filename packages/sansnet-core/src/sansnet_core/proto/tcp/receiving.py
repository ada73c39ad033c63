"""The stream from guest to host: order, overlap, the window that we offer, and when to acknowledge.

Theory of operation. A byte is acknowledged once the driver has the order to send it; the driver keeps it until the
host's socket takes it. The window is the limit minus the bytes that the socket has not taken yet. So a slow host closes
the window, and the guest waits and need not retransmit. The window's right edge never moves left (RFC 9293, 3.8.6),
so its size is `(edge - next) & MASK`. With window scaling the guest sees less: it is rounded down (RFC 7323, 2.3). All
decisions are made by the window that the guest sees: `window >> scale << scale`.
Data beyond a gap is kept, bounded in bytes by the window and in pieces by a limit, and reported by SACK (RFC 2018).
"""

from __future__ import annotations

from math import inf
from struct import Struct
from typing import Final

from sansnet_core.errors import UsageError
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proto.tcp.gap import Gap
from sansnet_core.proto.tcp.sending import DUPLICATES
from sansnet_core.wire.tcp import HALF, MASK, add, diff

__all__ = ["Receiver"]

DELAYED_ACK: Final = 0.002
"""Seconds that an acknowledgment waits for data of the host to travel with. RFC 9293, 3.8.6.3 allows 0.5 s, but a guest
may be waiting for it (Nagle's algorithm)."""
CHALLENGE_INTERVAL: Final = 0.5
"""Least seconds between two challenge ACKs for segments without data (RFC 5961, 7); Linux's tcp_invalid_ratelimit.
Otherwise two stacks that find each other's acknowledgments unacceptable would answer each other for ever."""


_REST: Final = Struct("!III")
"""The state of a receiver with nothing to do: RCV.NXT, the window's edge, and the largest window."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Receiver:
    """The receiving half of one connection.

    Attributes:
        next: RCV.NXT.
        edge: right edge of the window offered to the guest; data up to it is accepted.
        limit: most bytes held for the host.
        scale: shift of the windows that the guest sees.
        closed: RCV.NXT when the window that the guest saw was last closed; None if it was not, or was probed since.
        unsent: bytes of `SendStream` orders that the host's socket has not taken yet.
        acknowledged: the acknowledgment number of the last segment sent.
        gap: the data held beyond a gap; None if there is none.
        largest_window: largest window offered so far.
        fin: sequence number of the guest's FIN; None until it has come. Data before it may be missing.
        ack_now: an acknowledgment is to be sent at the end of the batch.
        ack_due: when a delayed acknowledgment is to be sent; `math.inf` if none is.
    """

    __slots__ = (
        "_challenged",
        "ack_due",
        "ack_now",
        "acknowledged",
        "closed",
        "edge",
        "fin",
        "gap",
        "largest_window",
        "limit",
        "next",
        "scale",
        "unsent",
    )

    def __init__(self, irs: int, limit: int, scale: int = 0) -> None:
        self.next = self.acknowledged = following = (irs + 1) & MASK
        self.limit = limit
        self.scale = scale
        self.closed: int | None = None
        self.largest_window = window = limit if limit < 65535 else 65535  # a SYN-ACK's is never scaled (RFC 7323, 2.2)
        self.edge = (following + window) & MASK
        self.unsent = 0
        self.gap: Gap | None = None
        self.fin: int | None = None
        self.ack_now = False
        self.ack_due = inf
        self._challenged = -inf

    REST_SIZE: Final = _REST.size

    def rest(self) -> bytes | None:
        """The whole state as `REST_SIZE` bytes, for `wake`; None if there is anything to send, deliver or wait for.

        The time of the last challenge is not in it: before a connection rests, its interval is over.
        """
        if self.unsent or self.gap is not None or self.fin is not None or self.ack_now or self.ack_due != inf:
            return None
        if self.acknowledged != self.next:
            return None
        return _REST.pack(self.next, self.edge, self.largest_window)

    def wake(self, state: bytes) -> None:
        """Take the state that `rest` returned; this receiver is new."""
        self.next, self.edge, self.largest_window = _REST.unpack(state)
        self.acknowledged = self.next

    @property
    def queued(self) -> int:
        """Bytes held beyond a gap, with the cost of keeping each piece."""
        return self.gap.size if self.gap is not None else 0

    def acceptable(self, sequence: int, length: int) -> bool:
        """Whether a segment of `length` (SYN and FIN included) overlaps the window (RFC 9293, 3.4).

        A segment of length 0 may also be at the right edge, as in Linux: a guest that has filled the window sends its
        acknowledgments from there, since that is its SND.NXT.
        """
        first = (sequence - self.next) & MASK
        window = (self.edge - self.next) & MASK
        if length == 0:
            return first <= window
        return window > 0 and (first < window or first + length > MASK + 1)

    # FIN

    def note_fin(self, sequence: int) -> None:
        """The guest sent a FIN with this number. One beyond the window is ignored; the guest repeats it."""
        if self.fin is not None:
            return
        last = self.gap.end if self.gap is not None else self.next
        if (sequence - last) & MASK < HALF and 0 < (self.edge - sequence) & MASK < HALF:
            self.fin = sequence
        else:
            self.ack_now = True

    def take_fin(self, *, at_once: bool) -> None:
        """Move RCV.NXT over the guest's FIN: all data before it has come.

        Args:
            at_once: nothing follows that the acknowledgment could travel with.
        """
        self.next = (self.next + 1) & MASK
        if at_once:
            self.ack_now = True

    def is_beyond_fin(self, sequence: int) -> bool:
        """Whether data that ends before this number reaches beyond the guest's FIN."""
        return self.fin is not None and diff(sequence, self.fin) > 0

    # data

    def accept(self, sequence: int, data: Buffer, max_pieces: int) -> list[Buffer]:
        """Take the data of an acceptable segment. A gap and its filling are acknowledged at once (RFC 5681, 4.2).

        Args:
            sequence: of its first byte.
            data: its payload.
            max_pieces: bound on the pieces kept beyond a gap; at least 1.

        Returns:
            The data that is in order now; empty if the data lies beyond a gap or is known already.
        """
        if self.gap is not None:
            self.ack_now = True
        # Parts are copies: a byte must not keep alive the whole frame that it came in
        ahead = diff(sequence, self.next)
        if ahead < 0:
            data = bytes(data[-ahead:])
            ahead = 0
        room = diff(self.edge, self.next) - ahead
        if len(data) > room:
            data = bytes(data[: max(room, 0)])
        if not data:
            self.ack_now = True
            return []
        if ahead:
            self.ack_now = True
            if self.gap is None:
                self.gap = Gap()
            self.gap.keep(self.next, ahead, data, max_pieces)
            return []
        self.next = add(self.next, len(data))
        ready = [data]
        if self.gap is not None:
            joined = self.gap.join(self.next)
            self.next = add(self.next, sum(map(len, joined)))
            ready += joined
            if not self.gap.size:
                self.gap = None
        self.unsent += sum(map(len, ready))
        return ready

    def discard_piece(self) -> int:
        """Free the last piece beyond a gap; there must be a piece.

        The guest still has the data, even if SACK reported it as received (RFC 2018, 8).

        Returns:
            Bytes freed, with the cost of keeping the piece.
        """
        assert self.gap is not None
        freed = self.gap.discard()
        if not self.gap.size:
            self.gap = None
        return freed

    def free_buffers(self) -> None:
        """Free the data held beyond a gap."""
        self.gap = None

    def sack_blocks(self, max_blocks: int, later: int = 0) -> list[tuple[int, int]]:
        """The blocks to report of the data held beyond a gap; see `Gap.blocks`."""
        return self.gap.blocks(self.next, max_blocks, later) if self.gap is not None else []

    def take_reports(self) -> int:
        """How many acknowledgments are to be sent at once because of the gap; then no more are due.

        One for each segment beyond the gap (RFC 5681, 4.2; RFC 2018, 4), but no more than a guest that counts
        duplicates needs for a fast retransmit: lwIP and the BSDs count them with SACK too.
        """
        assert self.gap is not None
        self.ack_now = False
        late = self.gap.take_late()
        is_new = self.acknowledged != self.next  # then the first one is no duplicate
        return max(min(late, DUPLICATES) + is_new, 1)

    # acknowledgments and the window

    def delivered(self, count: int) -> bool:
        """The host's socket took `count` bytes.

        Returns:
            Whether the window may have to be opened; if not, `window_opens` need not be asked.

        Raises:
            UsageError: the orders had fewer bytes.
        """
        if not 0 <= count <= self.unsent:
            raise UsageError(f"count: {count} bytes were reported as sent, but only {self.unsent} were ordered")
        self.unsent -= count
        scale = self.scale
        offered = ((self.edge - self.next) & MASK) >> scale << scale
        return 2 * offered < self.largest_window

    def discard_unsent(self) -> int:
        """Forget the bytes that the host's socket will not take any more; their number."""
        count, self.unsent = self.unsent, 0
        return count

    def owe(self, count: int) -> None:
        """Count bytes that were ordered before the guest's: those of a dialogue with a proxy."""
        self.unsent += count

    def acknowledge_now(self) -> None:
        """Have an acknowledgment sent at the end of the batch."""
        self.ack_now = True

    def challenge(self, now: float, *, limited: bool) -> bool:
        """Acknowledge a segment that is not acceptable (RFC 9293, 3.10.7.4; RFC 5961, 3.2 and 4.2).

        Args:
            now: seconds.
            limited: whether such segments are answered at a limited rate only.

        Returns:
            Whether it is answered.
        """
        if limited:
            if now - self._challenged < CHALLENGE_INTERVAL:
                return False
            self._challenged = now
        self.ack_now = True
        return True

    def delay_ack(self, mss: int, now: float) -> bool:
        """Whether the acknowledgment of data may wait, for less than two segments' worth; its timer is started then.

        Args:
            mss: most payload bytes of the guest's segments. Its own MSS tells if its MTU is smaller than the link's.
            now: seconds.
        """
        if self.ack_now or (self.next - self.acknowledged) & MASK >= 2 * mss:
            return False
        if self.ack_due == inf:
            self.ack_due = now + DELAYED_ACK
        return True

    def ack_timed_out(self) -> None:
        """The timer of a delayed acknowledgment has expired."""
        self.ack_due = inf
        self.ack_now = True

    def offer_window(self, mss: int, limit: int) -> int:
        """Note that a segment with all acknowledgments is sent; move the window's right edge as far as possible.

        Args:
            mss: the guest's segment size; the edge is not moved by less (RFC 9293, 3.8.6.2.2).
            limit: most bytes to hold at present; at most `self.limit`.

        Returns:
            The window in bytes, as the guest sees it.
        """
        self.acknowledged = self.next
        self.ack_now = self.ack_now and self.gap is not None  # see `take_reports`
        self.ack_due = inf
        scale = self.scale
        window = (self.edge - self.next) & MASK
        room = limit - self.unsent
        gain = (room >> scale << scale) - (window >> scale << scale)
        if gain > 0 and (gain >= mss or gain >= limit >> 1):  # as much as `_min_step`, or more
            self.edge = (self.next + room) & MASK
            window = room
        if window > self.largest_window:
            self.largest_window = window
        window = window >> scale << scale
        if not window:
            self.closed = self.next
        return window

    def window_opens(self, mss: int, limit: int) -> bool:
        """Whether the guest may be waiting for a larger window, and one can be offered.

        It sends what fits into half of the largest window that it has seen, however large its segments may be (RFC
        9293, 3.8.6.2.1). At a large MTU, the first window has hardly room for one segment.
        """
        scale, largest = self.scale, self.largest_window
        offered = ((self.edge - self.next) & MASK) >> scale << scale
        if 2 * offered >= largest:
            return False
        gain = (limit - self.unsent >> scale << scale) - offered
        step = _min_step(mss, limit)
        return gain >= step and (offered < step or gain >= min(largest, limit) >> 2)

    def window_probed(self) -> bool:
        """The guest has sent a probe: whether it is one of a closed window, which may have opened in the meantime.

        If the window is still closed, the answer says so, and the next probe is one of the window too.
        """
        was_closed, self.closed = self.closed == self.next, None
        return was_closed


def _min_step(mss: int, limit: int) -> int:
    """The fewest bytes by which the window's edge is moved, with windows of at most `limit` (RFC 9293, 3.8.6.2.2)."""
    return min(mss, max(limit >> 1, 1))
