"""The timer of delayed acknowledgments (RFC 9293, 3.8.6.3; RFC 5681, 4.2), one for all connections.

Theory of operation. An acknowledgment waits for data of the host to travel with. All of them wait for the same time, so
the connections form a queue, and one deadline serves for all: that of the first one. A connection whose acknowledgment
has travelled with data stays in the queue, and is only found out when it gets to the head: so most acknowledgments cost
no timer operation.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Protocol

from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.proto.tcp.receiving import Receiver

__all__ = ["DelayedAcks"]


class Delaying(Protocol):
    """A connection."""

    receiver: Receiver

    def schedule_flush(self) -> None:
        """Have the connection flushed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DelayedAcks:
    """The connections whose acknowledgments are delayed.

    Args:
        context: of the network.
    """

    __slots__ = ("_context", "_queue", "deadline", "queued", "ticket")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queue: OrderedDict[Delaying, None] = OrderedDict()
        """In the order of the times that their acknowledgments are due; a plain dict is slow to give its first key."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def add(self, flow: Delaying, due: float) -> None:
        """A connection has begun to delay an acknowledgment, which is due no earlier than those of all others."""
        queue = self._queue
        queue[flow] = None
        queue.move_to_end(flow)
        if self.deadline == inf:
            self._context.timers.arm(self, due)

    def remove(self, flow: Delaying) -> None:
        """A connection is over."""
        self._queue.pop(flow, None)

    def arm_again(self) -> None:
        """Have `expire` called, if anything waits."""
        if self.deadline == inf and self._queue:
            self._context.timers.arm(self, self._context.now)

    def expire(self) -> None:
        """Have the acknowledgments sent that are due."""
        queue, now = self._queue, self._context.now
        while queue:
            flow = next(iter(queue))
            due = flow.receiver.ack_due
            if now < due < inf:
                self._context.timers.arm(self, due)
                return
            del queue[flow]
            if due < inf:
                flow.receiver.ack_timed_out()
                flow.schedule_flush()
