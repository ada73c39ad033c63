"""A queue for free descriptors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from sansnet_trio.host.poller import Poller

__all__ = ["DescriptorQueue"]

_PAUSE: Final = 0.1
"""Seconds after which all go on, since a descriptor may have been freed elsewhere."""


class DescriptorQueue:
    """Listeners or connections that wait for a free descriptor.

    For each descriptor that the epoll set frees, the first one goes on. After a moment all do. One that finds no
    descriptor then waits again, as the last one.

    Args:
        poller: the epoll set.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._waiting: deque[Callable[[], None]] = deque()
        self._ends = math.inf
        self._closed_before = 0
        """How many members the epoll set had closed when a descriptor was looked for last."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, resume: Callable[[], None], now: float) -> None:
        """Call `resume` later; no descriptor is left now."""
        if not self._waiting:
            self._ends = now + _PAUSE
        self._closed_before = self._poller.closed
        self._waiting.append(resume)

    def next_deadline(self) -> float:
        """Time of the next `handle_deadline`; infinity if nothing waits."""
        if not self._waiting:
            return math.inf
        return -math.inf if self._poller.closed > self._closed_before else self._ends

    def handle_deadline(self, now: float) -> bool:
        """Let as many go on as descriptors were freed, or all if the pause has ended.

        Returns:
            Whether the pause has ended: then those that go on may find no descriptor.
        """
        if now >= self._ends:
            self._ends = math.inf
            self.go_on(len(self._waiting))
            return True
        closed = self._poller.closed
        freed, self._closed_before = closed - self._closed_before, closed
        self.go_on(freed)
        return False

    def go_on(self, count: int) -> None:
        """Let the first ones go on."""
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft()()
