"""The data of one connection that the guest has sent beyond a gap: it is kept until the gap is filled.

There is none of this while all data comes in order, so an ordinary connection does without the object.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.wire.tcp import MASK, add, diff

__all__ = ["PIECE_COST", "Gap"]

PIECE_COST: Final = 100
"""Bytes that CPython takes for a piece in addition to its data, approximately."""
_MAX_RECENT: Final = 12
"""Ranges of which it is known when they last grew: as many as three acknowledgments with four blocks report."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Gap:
    """The pieces beyond a gap.

    Attributes:
        size: bytes held, with the cost of keeping each piece; 0 if there are no pieces.
    """

    __slots__ = ("_late", "_pieces", "_ranges", "_recent", "size")

    def __init__(self) -> None:
        self.size = self._late = 0
        self._pieces: list[tuple[int, Buffer]] = []
        self._ranges: list[tuple[int, int]] = []
        """The ranges that the pieces cover, adjacent ones joined, so that SACK need not look at a thousand pieces."""
        self._recent: list[int] = []
        """A sequence number in each of the ranges that grew last, the newest first."""

    @property
    def end(self) -> int:
        """The sequence number behind the last piece."""
        first, piece = self._pieces[-1]
        return add(first, len(piece))

    def keep(self, start: int, ahead: int, data: Buffer, max_pieces: int) -> None:
        """Keep data, except for the parts that a piece covers already: bytes that are known are not replaced.

        Args:
            start: RCV.NXT.
            ahead: bytes from there to the data; more than 0.
            data: the data.
            max_pieces: bound on the pieces.
        """
        self._late += 1
        pieces = self._pieces
        first_byte = sequence = add(start, ahead)
        # Begin with the last piece that does not begin later
        index = max(bisect_right(pieces, ahead, key=lambda kept: diff(kept[0], start)) - 1, 0)
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
            if len(pieces) >= max_pieces:
                break
            part = bytes(data[:free])  # a copy: a small piece must not keep alive the whole frame that it came in
            pieces.insert(index, (sequence, part))
            self._cover(start, sequence, add(sequence, len(part)))
            self.size += len(part) + PIECE_COST
            sequence, data = add(sequence, len(part)), data[len(part) :]
            index += 1
        if covering := self._covering(start, first_byte):
            first, behind = covering
            size = (behind - first) & MASK
            others = [number for number in self._recent if (number - first) & MASK >= size]
            self._recent = [first_byte, *others][:_MAX_RECENT]

    def _covering(self, start: int, sequence: int) -> tuple[int, int] | None:
        """The range that has this number; None if no piece has it."""
        ranges = self._ranges
        index = bisect_right(ranges, diff(sequence, start), key=lambda known: diff(known[0], start)) - 1
        return ranges[index] if index >= 0 and diff(ranges[index][1], sequence) > 0 else None

    def _cover(self, start: int, first: int, behind: int) -> None:
        """Add a range that a new piece covers and no other piece does."""
        ranges = self._ranges
        index = bisect_right(ranges, diff(first, start), key=lambda known: diff(known[0], start))
        end = index
        if index < len(ranges) and ranges[index][0] == behind:
            behind = ranges[index][1]
            end += 1
        if index and ranges[index - 1][1] == first:
            index -= 1
            first = ranges[index][0]
        ranges[index:end] = [(first, behind)]

    def join(self, start: int) -> list[Buffer]:
        """RCV.NXT has moved to `start`: take the pieces that are in order now, without what is known already."""
        pieces, ranges = self._pieces, self._ranges
        ready: list[Buffer] = []
        while pieces and diff(pieces[0][0], start) <= 0:
            sequence, data = pieces.pop(0)
            self.size -= len(data) + PIECE_COST
            data = data[diff(start, sequence) :]
            if data:
                ready.append(data)
                start = add(start, len(data))
        while ranges and diff(ranges[0][0], start) <= 0:
            ranges.pop(0)  # the whole range is in order, since its pieces are adjacent
        return ready

    def take_late(self) -> int:
        """The segments that have come since the last call."""
        late, self._late = self._late, 0
        return late

    def discard(self) -> int:
        """Free the last piece. The guest still has the data, even if SACK reported it as received (RFC 2018, 8).

        Returns:
            Bytes freed, with the cost of keeping the piece.
        """
        sequence, data = self._pieces.pop()
        first, _ = self._ranges.pop()
        if first != sequence:
            self._ranges.append((first, sequence))
        freed = len(data) + PIECE_COST
        self.size -= freed
        return freed

    def blocks(self, start: int, max_blocks: int, later: int = 0) -> list[tuple[int, int]]:
        """The ranges to report: the one with the newest data first, and then those that came last (RFC 2018, 4).

        Args:
            start: RCV.NXT.
            max_blocks: the most ranges to return.
            later: how many acknowledgments follow at once. They report newer ranges.
        """
        recent = [block for number in self._recent if (block := self._covering(start, number))]
        recent += [block for block in self._ranges[:max_blocks] if block not in recent]
        skipped = later * max_blocks
        if skipped < len(recent):
            recent = recent[skipped:] + recent[:skipped]
        return recent[:max_blocks]
