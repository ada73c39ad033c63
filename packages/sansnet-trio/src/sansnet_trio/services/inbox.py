"""The datagrams that have arrived for the program and that no task has received."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["Inbox"]

_T = TypeVar("_T")

_ROOM: Final = 1 << 20
"""Bytes that may wait from one driver, so that one guest cannot keep another one out."""
_OVERHEAD: Final = 256
"""Bytes by which a datagram counts in addition to its payload."""


class Inbox(Generic[_T]):
    """A bounded queue. Datagrams that find no room are dropped, as by the kernel.

    Attributes:
        dropped: how many datagrams were dropped.
    """

    __slots__ = ("_error", "_failure", "_held", "_lot", "_queue", "dropped")

    def __init__(self) -> None:
        self._queue: deque[tuple[object, int, _T]] = deque()
        self._held: Counter[object] = Counter()
        self._lot = trio.lowlevel.ParkingLot()
        self._error: Callable[[], Exception] | None = None
        self._failure: Exception | None = None
        self.dropped = 0

    def put(self, owner: object, size: int, item: _T) -> None:
        """Add a datagram of `size` bytes that came from one driver."""
        cost = size + _OVERHEAD
        if self._error is not None or self._held[owner] + cost > _ROOM:
            self.dropped += 1
            return
        self._held[owner] += cost
        self._queue.append((owner, cost, item))
        self._lot.unpark()

    async def get(self) -> _T:
        """Take the oldest datagram; wait until there is one.

        Raises:
            Exception: the one that `fail` was called with, once; the one that the function of `close` makes, if there
                is no datagram.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not self._queue or self._failure is not None:
            if (failure := self.take_failure()) is not None:
                raise failure
            if self._error is not None:
                raise self._error()
            waited = True
            await self._lot.park()
        owner, cost, item = self._queue.popleft()
        self._held[owner] -= cost
        if not self._held[owner]:
            del self._held[owner]
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return item

    def fail(self, failure: Exception) -> None:
        """Let one task raise an exception, before it takes a datagram. A later failure replaces this one."""
        if self._error is None:
            self._failure = failure
            self._lot.unpark()

    def take_failure(self) -> Exception | None:
        """The exception to raise now; it is returned once."""
        failure, self._failure = self._failure, None
        return failure

    def close(self, error: Callable[[], Exception], *, discard: bool) -> None:
        """Take no more datagrams; `get` raises what `error` makes once there are none left."""
        if self._error is None:
            self._error = error
        if discard:
            self._failure = None
            self._queue.clear()
            self._held.clear()
        self._lot.unpark_all()
