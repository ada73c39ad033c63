"""Reads decisions from the bytes of an input, from its beginning to its end.

Bytes behind the end are zeros. So every input means something, and a small change of it changes little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choices"]

_T = TypeVar("_T")


class Choices:
    """The decisions in an input.

    Args:
        data: the input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """The number of bytes that were not read."""
        return len(self._data) - self._at

    def number(self, below: int) -> int:
        """A number from 0, of one byte up to 256, two up to 65536, else four."""
        size = 1 if below <= 256 else 2 if below <= 65536 else 4
        return int.from_bytes(self.take(size), "big") % below

    def flag(self) -> bool:
        """True or False."""
        return bool(self.number(2))

    def pick(self, several: Sequence[_T]) -> _T:
        """One of several."""
        return several[self.number(len(several))]

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)
