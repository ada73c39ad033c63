"""Loss of what one connection has sent to the guest: the ranges that have arrived, and the progress of the recovery.

There is none of this while nothing is lost, so an ordinary connection does without the object.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.wire.tcp import diff

__all__ = ["MAX_BURST", "Loss"]

MAX_BURST: Final = 16
"""Segments retransmitted for one acknowledgment; their acknowledgments bring the next ones. Otherwise one SACK of a
guest with a tiny MSS would cause tens of thousands of segments."""
_MAX_SACKED: Final = 64
"""Ranges that SACK reported and that are remembered. Forgetting the others costs needless retransmissions only."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Loss:
    """Losses of one connection.

    Args:
        una: SND.UNA.

    Attributes:
        recover: SND.NXT when the recovery began (RFC 6582); None outside of a recovery.
        sacked: the ranges that SACK reported (RFC 2018), in order; none of them touch.
        retransmitted: everything before this sequence number was sent again in this recovery.
        burst: segments to send again for the next acknowledgment.
        lost_all: everything in flight counts as lost; otherwise only data known to be missing.
        check_last: the last segment is to be sent again, to find out whether those before have arrived.
    """

    __slots__ = ("burst", "check_last", "lost_all", "recover", "retransmitted", "sacked")

    def __init__(self, una: int) -> None:
        self.recover: int | None = None
        self.sacked: list[tuple[int, int]] = []
        self.retransmitted = una
        self.burst = 0
        self.lost_all = self.check_last = False

    def begin(self, una: int, end: int, *, lost_all: bool) -> None:
        """A recovery begins at SND.UNA, and is over when everything before `end` is acknowledged."""
        self.recover = end
        self.lost_all = lost_all
        self.retransmitted = una
        self.burst = 1

    def found_spurious(self) -> None:
        """The timeout came too early: what was sent before it arrives (RFC 5682)."""
        self.lost_all, self.check_last = False, True

    def take_check(self) -> bool:
        """Whether to send the last segment now, to find out whether those before have arrived; once."""
        check, self.check_last = self.check_last, False
        return check

    def sent_again(self, end: int) -> None:
        """Everything before this sequence number was sent again."""
        self.retransmitted = end

    def sack(self, blocks: Iterable[tuple[int, int]], una: int) -> bool:
        """Add ranges that have arrived; whether some of it was not known before."""
        ranges = [*self.sacked, *blocks]
        ranges.sort(key=lambda block: diff(block[0], una))
        merged: list[tuple[int, int]] = []
        for first, last in ranges:
            if merged and diff(first, merged[-1][1]) <= 0:
                if diff(last, merged[-1][1]) > 0:
                    merged[-1] = merged[-1][0], last
            else:
                merged.append((first, last))
        new = merged != self.sacked
        self.sacked = merged[:_MAX_SACKED]
        return new

    def acknowledged(self, una: int) -> bool:
        """SND.UNA has moved; whether nothing is lost any more, so that this object is not needed."""
        self.sacked = [block for block in self.sacked if diff(block[1], una) > 0]
        if self.recover is None:
            return not self.sacked
        if diff(una, self.recover) >= 0:
            self.recover = None
            return not self.sacked
        if self.lost_all:
            self.burst = min(self.burst * 2, MAX_BURST)
        if diff(self.retransmitted, una) < 0:
            self.retransmitted = una
        return False
