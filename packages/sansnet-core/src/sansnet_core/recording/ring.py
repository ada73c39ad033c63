"""The last inputs of a network, in memory.

Theory of operation. Entries are kept in segments; when there are too many bytes, the oldest segment goes. A segment may
begin with a checkpoint, the state of the network at that point, and a replay can begin there. The first segment begins
with a new network, which costs nothing.

Saving a state takes time, so checkpoints are rare. It is given up above a size, and the next one is due only after a
time in proportion to the size of the last (`_SHARE`), and to that of a larger one again after each that was given up. A
network with much state has none: then the last inputs can be read, and not replayed.

An entry holds references to frames and payload, which nothing changes, and no copies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from sansnet_core.recording.calls import Entry

__all__ = ["Ring", "Segment"]

_SEGMENTS: Final = 8
_PER_ENTRY: Final = 200
"""Bytes of memory of an entry beside its payload, approximately."""
_MAX_STATE: Final = 200_000
"""Bytes of the largest checkpoint: saving it takes about 10 ms."""
_SECONDS_PER_BYTE: Final = 50e-9
"""Time to save a byte of a state, measured on an ordinary computer."""
_LEAST_TIME: Final = 1e-3
"""Seconds to save the smallest state, with all that goes with it."""
_MAX_REFUSED: Final = 6
"""The time until another attempt doubles so often, to about a minute."""
_SHARE: Final = 0.01
"""The most that saving states may take of all time."""


class Segment:
    """Some entries.

    Attributes:
        origin: what `Ring` was given: the state before the first entry, and all that belongs to it; None without one.
        entries: the entries, as in `calls`.
        size: bytes of their payload.
    """

    __slots__ = ("entries", "origin", "size")

    def __init__(self, origin: Any) -> None:
        self.origin = origin
        self.entries: list[Entry] = []
        self.size = 0

    @property
    def memory(self) -> int:
        """Bytes of memory, approximately."""
        return self.size + len(self.entries) * _PER_ENTRY


class Ring:
    """The last inputs.

    Args:
        limit: bytes of memory to use, approximately.
        origin: as for `Segment`, of the first one.
        now: seconds.

    Attributes:
        segments: the oldest first.
        segment_size: bytes of payload after which a segment ends, and `segment_entries` the same for entries.
    """

    def __init__(self, limit: int, origin: Any, now: float) -> None:
        self.segments = deque((Segment(origin),))
        self.segment_size = limit // _SEGMENTS
        self.segment_entries = max(self.segment_size // _PER_ENTRY, 1)
        self._limit = limit
        self._next_checkpoint = now + _LEAST_TIME / _SHARE
        self._refused = 0
        """Checkpoints in a row that were too large."""

    def begin_segment(self, now: float, size: int, save: Callable[[int], tuple[Any, int] | None]) -> Segment:
        """Begin another segment.

        Args:
            now: seconds.
            size: bytes of payload of the present segment.
            save: called with a number of bytes; gives an origin and its size, or None if that is larger.
        """
        self.segments[-1].size = size
        origin = None
        if now >= self._next_checkpoint:
            saved = save(_MAX_STATE)
            self._refused = 0 if saved is not None else min(self._refused + 1, _MAX_REFUSED)
            origin, cost = saved if saved is not None else (None, _MAX_STATE << self._refused)
            self._next_checkpoint = now + max(cost * _SECONDS_PER_BYTE, _LEAST_TIME) / _SHARE
        segment = Segment(origin)
        self.segments.append(segment)
        total = sum(each.memory for each in self.segments)
        while total > self._limit and len(self.segments) > 1:
            total -= self.segments.popleft().memory
        return segment

    def interrupt(self) -> None:
        """The inputs before cannot be replayed: memory ran out within a call, or it was interrupted."""
        for segment in self.segments:
            segment.origin = None
        self._next_checkpoint = -1e300

    def last(self) -> list[Segment]:
        """The segments from the first one that a replay can begin with; all if there is none."""
        segments = list(self.segments)
        for number, segment in enumerate(segments):
            if segment.origin is not None:
                return segments[number:]
        return segments
