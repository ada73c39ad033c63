"""Events of one network: its notices, for a callback and for any number of subscribers.

Theory of operation. The network makes notices only while somebody wants them: its configuration, the callback or a
subscriber. A subscriber has a buffer of a fixed size. If it is full, the oldest event is thrown away, so the buffer
always holds the latest events without a gap between them: after `Lost`, a program can ask for the present flows and
follow the events from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import Self, TypeAlias

import trio
from trio.lowlevel import ParkingLot

from sansnet_core import Notice
from sansnet_core.orders import value_class
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["Event", "EventPublisher", "Lost", "Subscription"]


@value_class
class Lost:
    """A subscriber was too slow, and its buffer was full. The lost events are those before the next one."""

    count: int
    """Number of lost events."""
    time: float
    """Seconds of the network's clock, when the last one was lost."""

    def __str__(self) -> str:
        return f"lost {self.count} event{'' if self.count == 1 else 's'}"


Event: TypeAlias = Notice | Lost
"""An element of a `Subscription`: a notice of `sansnet_core.notices`, or `Lost`."""


class Subscription(Uncopyable, AsyncIterator[Event]):
    """The events of one subscriber; made by `GuestNetwork.subscribe`.

    Iterate over it with `async for`. The iteration ends when the network has ended, after the events that are left. A
    cancelled wait loses no event. If several tasks iterate over one subscription, each event goes to one of them.
    """

    def __init__(self, buffer: int) -> None:
        self._events: deque[Notice] = deque(maxlen=buffer)
        self._size = buffer
        self._lost: Lost | None = None
        self._closed = False
        self._waiting = ParkingLot()

    def __repr__(self) -> str:
        return f"<Subscription: {len(self._events)} events wait{', closed' if self._closed else ''}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not (self._events or self._closed):
            await self._waiting.park()
        if self._lost:
            lost, self._lost = self._lost, None
            return lost
        if self._events:
            return self._events.popleft()
        raise StopAsyncIteration

    def add(self, notices: Sequence[Notice], now: float) -> None:
        """Called by the driver. Add notices; throw the oldest ones away if there are too many."""
        lost = len(self._events) + len(notices) - self._size
        if lost > 0:
            self._lost = Lost(lost + (self._lost.count if self._lost else 0), now)
        self._events.extend(notices)
        self._waiting.unpark(count=len(notices))

    def close(self) -> None:
        """Called by the driver. No more events will come."""
        self._closed = True
        self._waiting.unpark_all()


class EventPublisher:
    """Hands the notices of one network to a callback and to subscribers.

    Args:
        switch: switches the network's notices on or off (`Network.report_notices`).
        callback: called by `deliver` with the notices that came since the last call; None if there is none.
    """

    def __init__(self, switch: Callable[[bool], None], callback: Callable[[Sequence[Notice]], None] | None) -> None:
        self._switch = switch
        self._callback = callback
        self._undelivered: list[Notice] = []
        self._subscriptions: dict[Subscription, None] = {}
        self._closed = False
        if callback is not None:
            switch(True)

    def publish(self, notices: Sequence[Notice], now: float) -> None:
        """Give notices to the subscribers, and keep them for the callback. Any task may call this."""
        if notices:
            for subscription in self._subscriptions:
                subscription.add(notices, now)
            if self._callback is not None:
                self._undelivered += notices

    def deliver(self) -> None:
        """Called in the driver's task: call the callback if there are notices for it. Its exception is raised."""
        if self._undelivered and self._callback is not None:
            notices, self._undelivered = self._undelivered, []
            self._callback(notices)

    def next_deadline(self) -> float | None:
        """A time in the past if notices wait for the callback: the driver must wake up."""
        return -inf if self._undelivered else None

    def handle_deadline(self, now: float) -> None:
        """Nothing to do: the driver calls `deliver` whenever it has worked."""

    def subscribe(self, buffer: int) -> AbstractAsyncContextManager[Subscription]:
        """See `Driver.subscribe`."""
        if not isinstance(buffer, int) or buffer < 1:
            raise ValueError(f"buffer: {buffer!r} is not a number of events; give 1 or more")
        return self._subscribed(Subscription(buffer))

    @asynccontextmanager
    async def _subscribed(self, subscription: Subscription) -> AsyncIterator[Subscription]:
        if self._closed:
            subscription.close()
        elif not self._subscriptions and self._callback is None:
            self._switch(True)
        self._subscriptions[subscription] = None
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            subscription.close()
            if not self._subscriptions and self._callback is None:
                self._switch(False)

    def close(self) -> None:
        """The network has ended: so do all iterations, once they have had the events that are left."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
