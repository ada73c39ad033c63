"""Raises an exception at one line of the core, within an input of a network."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import sansnet_core
from sansnet_core.recording.calls import METHODS

__all__ = ["Injected", "Injector", "Place"]

CORE: Final = str(Path(sansnet_core.__file__).parent) + "/"
RECORDING: Final = CORE + "recording/"
_NOT_MEANT: Final = (
    "testing/",
    "recording/",
    "recovery.py",
    "snapshot.py",
    "proto/tcp/recovery.py",
    "proto/udp/recovery.py",
)
_INPUTS: Final = frozenset(METHODS.values())

_HARMLESS: Final = frozenset(("return orders", "return frames", "return notices", "try:"))
"""The outputs have been taken, or the line does nothing; nothing can fail there."""

Place = tuple[str, int]
"""File and line."""


class Injected(Exception):
    """The mistake."""


class Injector:
    """Counts the lines of the core that inputs run, and raises `Injected` at one of them.

    Args:
        at: the number of the line to raise at; 0 only counts.

    Attributes:
        count: lines so far.
        first: each line, and the number at which it was run for the first time.
        place: where it raised.
    """

    def __init__(self, at: int = 0) -> None:
        self._at = at
        self._inside = 0
        self.count = 0
        self.first: dict[Place, int] = {}
        self.last: dict[Place, int] = {}
        self.place: Place | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Trace while the block runs."""
        before = sys.gettrace()  # that of a measurement of the coverage
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(CORE):
            return None
        name = file[len(CORE) :]
        if name == "recording/network.py" and frame.f_code.co_name in _INPUTS:
            self._inside += 1
            return self._boundary
        if not self._inside or name.startswith(_NOT_MEANT) or _is_noted(frame.f_back):
            return None
        return self._line

    def _boundary(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._inside -= 1
        return self._boundary

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.count += 1
            place = (frame.f_code.co_filename[len(CORE) :], frame.f_lineno)
            if linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() in _HARMLESS:
                self.count -= 1
                return self._line
            if self.count == self._at:
                self.place = place
                raise Injected(f"{place[0]}:{place[1]}")
            if not self._at:
                self.first.setdefault(place, self.count)
                self.last[place] = self.count
        return self._line


def _is_noted(caller: FrameType | None) -> bool:
    """Whether the recording calls the line, such as for a comparison of records, and not the network."""
    while caller is not None:
        name = caller.f_code.co_filename
        if name.startswith(RECORDING):
            return not name.endswith("/network.py")
        caller = caller.f_back
    return False
