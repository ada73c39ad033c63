"""Where the calls of a network are noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sansnet_core.recording.calls import Entry

__all__ = ["Notes"]

_NEVER: Final = 1 << 60


class Notes:
    """The present segment of the last inputs, for all that note calls.

    Attributes:
        note: called with each entry.
        entries: those of the segment.
        size: bytes of their payload.
        max_size, max_entries: where the segment ends.
        with_outputs: a recording is written, so an entry has outputs instead of their number.
    """

    def __init__(self) -> None:
        self.note: Callable[[Entry], object] = note_nothing
        self.entries: list[Entry] = []
        self.size = 0
        self.max_size = self.max_entries = _NEVER
        self.with_outputs = False

    @property
    def full(self) -> bool:
        """Whether another segment must begin."""
        return self.size > self.max_size or len(self.entries) > self.max_entries


def note_nothing(entry: Entry) -> None:
    """Keep no inputs."""
