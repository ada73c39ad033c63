"""The time that connections stay in TIME-WAIT (RFC 9293, 3.6.1), one timer for all of one direction.

Theory of operation. All stay equally long, so they form a queue, and one deadline serves for all: that of the first
one. A guest that opens thousands of connections in a second has as many here, which do not make the other timers slow.
They do not keep new connections out either: the first one makes room for another (as with Linux's tcp_max_tw_buckets).
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Protocol

from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.proto.tcp.states import TIME_OVER

__all__ = ["TimeWait"]


class Waiting(Protocol):
    """A connection."""

    deadline: float
    queued: float
    ticket: int

    def expire(self) -> None:
        """A deadline of the connection itself has passed."""

    def fire(self, event: str) -> None:
        """Apply a lifecycle event."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TimeWait:
    """The connections in TIME-WAIT: those of the guest, or inbound ones.

    Args:
        context: of the network.
    """

    __slots__ = ("_context", "_queue", "deadline", "queued", "ticket")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queue: OrderedDict[Waiting, float] = OrderedDict()
        """Connection -> when it ends; in that order."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def begin(self, flow: Waiting) -> None:
        """A connection begins to wait, or again, since the guest has repeated its FIN."""
        context, queue = self._context, self._queue
        if flow in queue:
            queue.move_to_end(flow)
        else:
            context.timers.forget(flow)  # nothing else can happen to it in time
        queue[flow] = due = context.now + context.config.limits.tcp_linger
        if self.deadline == inf:
            context.timers.arm(self, due)

    def remove(self, flow: Waiting) -> None:
        """A connection is over."""
        self._queue.pop(flow, None)

    def end_first(self) -> bool:
        """End the connection that has waited for longest, so that there is room for another; whether there was one."""
        if not self._queue:
            return False
        flow, _ = self._queue.popitem(last=False)
        flow.fire(TIME_OVER)
        return True

    def arm_again(self) -> None:
        """Have `expire` called, if anything waits."""
        if self.deadline == inf and self._queue:
            self._context.timers.arm(self, self._context.now)

    def expire(self) -> None:
        """End the connections whose time is over."""
        queue, now = self._queue, self._context.now
        while queue:
            flow, due = next(iter(queue.items()))
            if now < due:
                self._context.timers.arm(self, due)
                return
            del queue[flow]
            flow.fire(TIME_OVER)
