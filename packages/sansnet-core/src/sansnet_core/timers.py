"""One heap of deadlines, re-armed lazily.

Theory of operation. An owner keeps `deadline` (when it wants to be called), and `queued` and `ticket` (time and number
of its one entry in the heap that counts). Moving a deadline later costs one store; only an earlier one is pushed, and
the entry before it is stale then. The number decides, not the time: a stale entry and a new one may have one time. A
popped entry whose owner has moved on is queued again for the new time, or forgotten. So an ACK clock that moves an RTO
forward with each segment costs no heap operation (355 ns against 864 ns for a push each time).
"""

from __future__ import annotations

import heapq
from math import inf
from typing import Protocol

__all__ = ["Timed", "Timers"]


class Timed(Protocol):
    """Something with a deadline. Start `deadline` and `queued` at `math.inf`, and `ticket` at 0."""

    deadline: float
    queued: float
    ticket: int

    def expire(self) -> None:
        """The deadline has passed; it is `inf` again by now. Arm a new one if another is wanted."""


class Timers:
    """Deadlines of all owners of one network, in seconds of the driver's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0
        self._stale = 0

    def arm(self, owner: Timed, deadline: float) -> None:
        """Call `owner.expire()` at `deadline`, in place of what was armed before; `inf` disarms."""
        owner.deadline = deadline
        if deadline < owner.queued:
            if owner.queued < inf:
                self._note_stale()
            self._push(owner, deadline)

    def forget(self, owner: Timed) -> None:
        """Disarm an owner that will not be armed again, and let go of it."""
        owner.deadline = inf
        if owner.queued < inf:
            owner.queued, owner.ticket = inf, 0
            self._note_stale()

    def _push(self, owner: Timed, deadline: float) -> None:
        self._count += 1
        owner.queued, owner.ticket = deadline, self._count
        heapq.heappush(self._heap, (deadline, self._count, owner))

    def _note_stale(self) -> None:
        """Entries that mean nothing any more are swept when they are the majority, so they cost no memory."""
        self._stale += 1
        if self._stale > 64 + (len(self._heap) >> 1):
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].ticket]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_deadline(self) -> float | None:
        """When `expire` must be called; may be early (an owner that moved on), never late."""
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Call every owner whose deadline is at or before `now`, at most once each."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            _, ticket, owner = heapq.heappop(self._heap)
            if ticket != owner.ticket:
                self._stale -= 1
                continue
            owner.queued, owner.ticket = inf, 0
            if owner.deadline <= now:
                owner.deadline = inf
                due.append(owner)
            elif owner.deadline < inf:
                self._push(owner, owner.deadline)
        for owner in due:
            owner.expire()
