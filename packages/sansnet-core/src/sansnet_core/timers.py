"""A heap of deadlines that can be moved at little cost.

Theory of operation. An owner has a `deadline`, at which it is to be called, and one valid entry in the heap, whose time
is `queued` and whose number is `ticket`. Moving the deadline later changes only `deadline`. Moving it earlier pushes
another entry and makes the old one stale; entries are compared by number, since both may have the same time. When a
valid entry is popped before its owner's deadline, it is pushed again for that time, or discarded if there is none. So
moving a retransmission timeout later with each acknowledgment needs no heap operation (355 ns instead of 864 ns).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from math import inf
from typing import Protocol

from sansnet_core.mypyc import mypyc_attr

__all__ = ["Timed", "Timers"]


class Timed(Protocol):
    """An owner of a deadline. Start `deadline` and `queued` at `math.inf`, and `ticket` at 0."""

    deadline: float
    queued: float
    ticket: int

    def expire(self) -> None:
        """Called once the deadline has passed, and is `inf` again. Arm another one if needed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Timers:
    """Deadlines of all owners of one network, in seconds of the driver's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0
        self._stale = 0
        self._due: OrderedDict[Timed, None] = OrderedDict()
        """Owners to call now; empty unless one of them raised an exception."""

    def arm(self, owner: Timed, deadline: float) -> None:
        """Call `owner.expire()` at `deadline` instead of at its previous one; `inf` disarms."""
        owner.deadline = deadline
        if deadline < owner.queued:
            if owner.queued < inf:
                self._note_stale()
            self._push(owner, deadline)

    def forget(self, owner: Timed) -> None:
        """Disarm an owner that will not be armed again, and drop the reference to it."""
        owner.deadline = inf
        if owner.queued < inf:
            owner.queued, owner.ticket = inf, 0
            self._note_stale()
        if self._due:
            self._due.pop(owner, None)

    def _push(self, owner: Timed, deadline: float) -> None:
        self._count += 1
        owner.queued, owner.ticket = deadline, self._count
        heapq.heappush(self._heap, (deadline, self._count, owner))

    def _note_stale(self) -> None:
        """Count a stale entry. All stale entries are removed when they are the majority, which bounds the heap."""
        self._stale += 1
        if self._stale > 64 + (len(self._heap) >> 1):
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].ticket]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_deadline(self) -> float | None:
        """When to call `expire`; may be early, if an owner has moved its deadline, but never late."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Call every owner whose deadline is at or before `now`, at most once each.

        If one raises an exception, the next call begins with it, unless it was forgotten.
        """
        due = self._due
        while self._heap and self._heap[0][0] <= now:
            _, ticket, owner = heapq.heappop(self._heap)
            if ticket != owner.ticket:
                self._stale -= 1
                continue
            owner.queued, owner.ticket = inf, 0
            if owner.deadline <= now:
                owner.deadline = inf
                due[owner] = None
            elif owner.deadline < inf:
                self._push(owner, owner.deadline)
        while due:
            owner, _ = due.popitem(last=False)
            try:
                owner.expire()
            except BaseException:
                due[owner] = None
                due.move_to_end(owner, last=False)
                raise
