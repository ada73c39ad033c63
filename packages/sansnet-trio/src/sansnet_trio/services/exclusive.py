"""One task at a time."""

from __future__ import annotations

import trio

__all__ = ["Exclusive"]


class Exclusive:
    """A context manager that only one task can be in.

    Args:
        message: text of the `trio.BusyResourceError` that a second task gets.
    """

    __slots__ = ("_busy", "_message")

    def __init__(self, message: str) -> None:
        self._message = message
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(self._message)
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False
