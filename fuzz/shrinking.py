"""Makes an input smaller and simpler while a property of it stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

__all__ = ["shrink"]


class _Spent(Exception):
    """All attempts were made."""


class _Shrinking:
    def __init__(self, data: bytes, still_holds: Callable[[bytes], bool], attempts: int) -> None:
        self.best = data
        self._still_holds = still_holds
        self._left = attempts

    def _try(self, data: bytes) -> bool:
        if not self._left:
            raise _Spent
        self._left -= 1
        if not self._still_holds(data):
            return False
        self.best = data
        return True

    def shorten(self) -> None:
        """Leave out pieces, large ones first."""
        size = len(self.best)
        while size:
            start = 0
            while start < len(self.best):
                if not self._try(self.best[:start] + self.best[start + size :]):
                    start += size
            size //= 2

    def lower(self) -> None:
        """Replace single bytes by lower ones."""
        for place in range(len(self.best)):
            byte = self.best[place]
            for value in sorted({0, byte // 2, max(byte - 1, 0)} - {byte}):
                if self._try(self.best[:place] + bytes([value]) + self.best[place + 1 :]):
                    break

    def run(self) -> None:
        """Until nothing gets better."""
        before = None
        while before != self.best:
            before = self.best
            self.shorten()
            self.lower()


def shrink(data: bytes, still_holds: Callable[[bytes], bool], *, attempts: int = 5000) -> bytes:
    """The smallest and lowest input that was found.

    Args:
        data: an input with the property.
        still_holds: whether an input has the property.
        attempts: the most calls of `still_holds`.
    """
    shrinking = _Shrinking(data, still_holds, attempts)
    with suppress(_Spent):
        shrinking.run()
    return shrinking.best
