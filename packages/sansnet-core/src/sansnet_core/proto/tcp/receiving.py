"""Guest to host: order, overlap, the window that we offer, and when to acknowledge.

Theory of operation. A byte is acknowledged when it is ours to deliver: it has been ordered from the driver, which
keeps it until the host's socket takes it. The window is the limit less what the host has yet to take, so a slow host
closes the window and the guest waits without ever having to retransmit. The window's right edge never moves left
(RFC 9293, 3.8.6). Data beyond a gap is kept, bounded in bytes by the window and in pieces by a limit, and reported
by SACK (RFC 2018).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from sansnet_core.orders import Buffer
from sansnet_core.wire.tcp import add, diff

__all__ = ["Receiver"]

PIECE_COST: Final = 100
"""Bytes, about, that CPython takes for a piece besides its data."""


class Receiver:
    """The receiving half of one connection.

    Attributes:
        next: RCV.NXT.
        edge: right edge of the window offered to the guest; data up to it is accepted.
        limit: most bytes held for the host.
        unsent: bytes ordered from the driver that the host's socket did not take yet.
        acknowledged: the acknowledgment number of the last segment sent.
        queued: bytes held beyond a gap, with what keeping a piece costs by itself.
        largest: largest window offered so far.
    """

    __slots__ = (
        "_latest",
        "_pieces",
        "_ranges",
        "acknowledged",
        "edge",
        "largest",
        "limit",
        "next",
        "queued",
        "unsent",
    )

    def __init__(self, irs: int, limit: int) -> None:
        self.next = add(irs, 1)
        self.acknowledged = self.next
        self.limit = limit
        self.edge = add(self.next, min(limit, 65535))  # the SYN-ACK's window is never scaled (RFC 7323, 2.2)
        self.largest = min(limit, 65535)
        self.unsent = 0
        self.queued = 0
        self._pieces: list[tuple[int, Buffer]] | None = None
        self._ranges: list[tuple[int, int]] = []
        """What the pieces cover, adjacent ones as one: an acknowledgment must not look at a thousand of them."""
        self._latest = 0

    def acceptable(self, sequence: int, length: int) -> bool:
        """Whether a segment of `length` (SYN and FIN included) touches the window (RFC 9293, table 6).

        One without length may also stand at the right edge: a guest that filled the window acknowledges from there, for
        that is its SND.NXT. Linux takes it, too.
        """
        first = diff(sequence, self.next)
        window = diff(self.edge, self.next)
        if length == 0:
            return 0 <= first <= window
        return window > 0 and first < window and first + length > 0

    def may_end(self, sequence: int) -> bool:
        """Whether a FIN with this number is in the window, and behind all data that came."""
        last = self.next
        if self._pieces:
            first, piece = self._pieces[-1]
            last = add(first, len(piece))
        return diff(sequence, last) >= 0 and diff(self.edge, sequence) > 0

    def accept(self, sequence: int, data: Buffer, most_pieces: int) -> list[Buffer]:
        """Take the data of an acceptable segment.

        Args:
            sequence: of its first byte.
            data: its payload.
            most_pieces: bound on the pieces kept beyond a gap.

        Returns:
            What is in order now; empty if the data lies beyond a gap or is known already.
        """
        # Copies: a byte must not keep the whole frame that it came in
        ahead = diff(sequence, self.next)
        if ahead < 0:
            data = bytes(data[-ahead:])
            ahead = 0
        room = diff(self.edge, self.next) - ahead
        if len(data) > room:
            data = bytes(data[: max(room, 0)])
        if not data:
            return []
        if ahead:
            self._keep(add(self.next, ahead), data, most_pieces)
            return []
        ready = [data]
        self.next = add(self.next, len(data))
        if self._pieces:
            self._join(ready)
        self.unsent += sum(map(len, ready))
        return ready

    def _keep(self, sequence: int, data: Buffer, most_pieces: int) -> None:
        """Insert what no kept piece covers yet; earlier pieces win."""
        pieces = self._pieces = self._pieces or []
        self._latest = sequence
        # From the last piece that begins no later
        index = max(bisect_right(pieces, diff(sequence, self.next), key=lambda kept: diff(kept[0], self.next)) - 1, 0)
        while data:
            free = len(data)
            if index < len(pieces):
                first, piece = pieces[index]
                free = diff(first, sequence)
                if free <= 0:
                    covered = max(free + len(piece), 0)
                    sequence, data = add(sequence, covered), data[covered:]
                    index += 1
                    continue
            if len(pieces) >= most_pieces:
                return
            part = bytes(data[:free])  # a copy: a small piece must not keep the whole frame that it came in
            pieces.insert(index, (sequence, part))
            self._cover(sequence, add(sequence, len(part)))
            self.queued += len(part) + PIECE_COST
            sequence, data = add(sequence, len(part)), data[len(part) :]
            index += 1

    def _cover(self, first: int, behind: int) -> None:
        """A new piece covers what none covered."""
        ranges = self._ranges
        index = bisect_right(ranges, diff(first, self.next), key=lambda known: diff(known[0], self.next))
        end = index
        if index < len(ranges) and ranges[index][0] == behind:
            behind = ranges[index][1]
            end += 1
        if index and ranges[index - 1][1] == first:
            index -= 1
            first = ranges[index][0]
        ranges[index:end] = [(first, behind)]

    def _join(self, ready: list[Buffer]) -> None:
        """Move kept pieces that have become in order."""
        pieces = self._pieces
        while pieces and diff(pieces[0][0], self.next) <= 0:
            sequence, data = pieces.pop(0)
            self.queued -= len(data) + PIECE_COST
            data = data[diff(self.next, sequence) :]
            if data:
                ready.append(data)
                self.next = add(self.next, len(data))
        ranges = self._ranges
        while ranges and diff(ranges[0][0], self.next) <= 0:
            ranges.pop(0)  # all of it: the pieces of a range are adjacent
        if not pieces:
            self._pieces = None

    def give_up(self) -> int:
        """Let go of the last piece beyond a gap, which is there; bytes freed, with what keeping it cost.

        It may have been reported by SACK; the guest still has it (RFC 2018, 8).
        """
        assert self._pieces
        sequence, data = self._pieces.pop()
        if not self._pieces:
            self._pieces = None
        first, _ = self._ranges.pop()
        if first != sequence:
            self._ranges.append((first, sequence))
        freed = len(data) + PIECE_COST
        self.queued -= freed
        return freed

    def drop_buffers(self) -> None:
        """Let go of what is held beyond a gap."""
        self._pieces = None
        self._ranges = []
        self.queued = 0

    def sack_blocks(self, most: int) -> list[tuple[int, int]]:
        """What is held beyond the gap, the block with the newest data first (RFC 2018, 4); at most `most` blocks."""
        ranges = self._ranges
        newest = bisect_right(ranges, diff(self._latest, self.next), key=lambda known: diff(known[0], self.next)) - 1
        blocks = ranges[:most]
        if newest > 0:
            blocks = [ranges[newest], *(block for block in blocks if block != ranges[newest])][:most]
        return blocks

    def window(self, mss: int, limit: int) -> int:
        """Move the right edge as far as it may, and give the window in bytes.

        Args:
            mss: the guest's segment size; smaller steps are not offered (RFC 9293, 3.8.6.2.2).
            limit: most bytes to hold at present; at most `self.limit`.
        """
        gain = limit - self.unsent - diff(self.edge, self.next)
        if gain > 0 and gain >= _least(mss, limit):
            self.edge = add(self.edge, gain)
        window = diff(self.edge, self.next)
        self.largest = max(self.largest, window)
        return window

    def window_opens(self, mss: int, limit: int) -> bool:
        """Whether the guest may be waiting for a larger window, and there is one to tell of."""
        offered = diff(self.edge, self.next)
        gain = limit - self.unsent - offered
        least = _least(mss, limit)
        if offered < least:
            return gain >= least
        return offered < self.largest >> 1 and gain >= self.largest >> 2


def _least(mss: int, limit: int) -> int:
    """By how much a window of at most `limit` must grow to be worth telling (RFC 9293, 3.8.6.2.2)."""
    return min(mss, max(limit >> 1, 1))
