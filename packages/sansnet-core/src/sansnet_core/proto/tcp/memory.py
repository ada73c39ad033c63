"""A bound on the data that all connections hold together, so that many slow readers cannot exhaust the host's memory.

Theory of operation. Data that was acknowledged, or read from a host, must be kept. Data beyond a gap need not be: the
guest sends it again (RFC 2018, 8). So such pieces only use spare memory. Above the limit they are freed, one piece of
each connection in turn. The amounts that may be read from hosts, or taken from the guest in order, are computed as if
all of them were free.

A stream that was refused memory waits in a queue. When memory becomes free, only as many streams are resumed, from the
head of the queue, as there is room for. The room is promised to them for a moment, so that streams that did not wait
cannot take it first. A resumed stream may have nothing to read, so after that moment the next ones get the room. If it
is read later than that, since the driver was busy, it gets room nevertheless: otherwise streams could pass the room on
to each other for ever, and none would be read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import inf
from typing import Final, Protocol

from sansnet_core.mypyc import mypyc_attr

__all__ = ["MIN_ROOM", "RESERVE", "Holder", "Memory"]

RESERVE: Final = 16384
"""Bytes in order that a connection may hold for the host even if the limit is reached, so that every one progresses."""
MIN_ROOM: Final = 1460
"""Bytes: the payload of a segment on most links. Streams wait if there is less room, unless the whole limit is tiny."""
PROMISE: Final = 0.001
"""Seconds for which room is kept for a stream that was resumed."""


class Holder(Protocol):
    """A connection."""

    def discard_piece(self) -> tuple[int, bool]:
        """Free the last piece beyond a gap; the bytes freed, and whether there are more pieces."""

    def schedule_flush(self) -> None:
        """Have the connection flushed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Memory:
    """Counts the payload bytes that all connections hold, and divides the room among them.

    Args:
        limit: most bytes to hold.

    Attributes:
        limit: most bytes to hold.
        held: bytes held now, in either direction. Connections count them and call `make_room` above the limit.
        beyond: those of them beyond a gap, with the cost of keeping each piece.
        waiting: connections that were refused memory, in order.
        promised: connections that were resumed a moment ago and have read nothing yet.
    """

    __slots__ = ("_holders", "_late", "_min_room", "_promised_at", "beyond", "held", "limit", "promised", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.beyond = 0
        self._min_room = max(min(MIN_ROOM, limit >> 2), 1)
        self._promised_at = -inf
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        """Connections with pieces beyond a gap, the next one to free a piece first."""
        self.promised: dict[Holder, None] = {}
        self._late: dict[Holder, None] = {}
        """Connections that were resumed before, and have not asked for room since."""
        self.waiting: OrderedDict[Holder, None] = OrderedDict()

    def window(self, limit: int, mss: int) -> int:
        """The largest window of a connection: `limit`, or less if half of the memory is in use.

        It has room for two segments of `mss` bytes even then: a guest waits for a timer before it sends smaller ones
        (RFC 9293, 3.8.6.2.1).
        """
        return limit if self.held < self.limit >> 1 else min(limit, 2 * max(RESERVE, mss))

    def make_room(self) -> None:
        """Free pieces until the limit is kept, or there are none."""
        holders = self._holders
        while self.held > self.limit and holders:
            holder = next(iter(holders))
            freed, more = holder.discard_piece()
            self.held -= freed
            self.beyond -= freed
            if more:
                holders.move_to_end(holder)
            else:
                del holders[holder]

    # guest to host

    def room_in_order(self, unsent: int, mss: int) -> int:
        """How many bytes in order may be taken from the guest.

        At the limit, a connection that holds nothing may take a whole segment: a guest sends the rest of one that was
        taken in part only after its timeout, which doubles each time. All of them share an eighth of the limit.

        Args:
            unsent: bytes that the connection holds for the host.
            mss: the guest's segment size.
        """
        held, limit = self.held - self.beyond, self.limit
        room = max(limit - held, RESERVE - unsent)
        return room if unsent or held >= limit + (limit >> 3) else max(room, mss)

    def keep(self, holder: Holder, change: int, queued: int) -> None:
        """The bytes that a connection keeps beyond a gap, a part of `held`, have changed by `change`, to `queued`."""
        self.beyond += change
        if queued:
            self._holders[holder] = None
        else:
            self._holders.pop(holder, None)

    # host to guest

    def room(self, holder: Holder, wanted: int) -> int:
        """How many of `wanted` bytes a stream may read from its host; if 0, it waits until `resume`."""
        left = self.limit - self.held + self.beyond
        if holder in self._late:
            del self._late[holder]
        elif self.promised:
            left -= self._min_room * (len(self.promised) - (holder in self.promised))
        if self.waiting:
            left = max(left // (len(self.waiting) + 1), min(left, self._min_room))
        if left < self._min_room:
            self.waiting[holder] = None
            return 0
        if self.waiting:
            self.waiting.pop(holder, None)
        return left if left < wanted else wanted

    def resume(self, now: float) -> None:
        """Resume as many streams at the head of the queue as there is room for."""
        waiting, promised = self.waiting, self.promised
        if now >= self._promised_at + PROMISE:
            self._late |= promised
            promised.clear()
        left = self.limit - self.held + self.beyond
        while waiting and left >= self._min_room * (len(promised) + 1):
            holder, _ = waiting.popitem(last=False)
            holder.schedule_flush()
            promised[holder] = None
            self._promised_at = now

    def resume_at(self) -> float:
        """When to call `resume` again even if nothing happens before; infinity for never."""
        left = self.limit - self.held + self.beyond
        return self._promised_at + PROMISE if self.waiting and self.promised and left >= self._min_room else inf

    def forget(self, holder: Holder, held: int, queued: int) -> None:
        """Remove a connection that is over. It held `held` bytes, of which `queued` were beyond a gap."""
        self.held -= held
        self.beyond -= queued
        self._holders.pop(holder, None)
        self.waiting.pop(holder, None)
        self.promised.pop(holder, None)
        self._late.pop(holder, None)

    def recount(self, held: int, holders: Mapping[Holder, int]) -> None:
        """Correct the sums.

        Args:
            held: bytes that all connections hold.
            holders: all connections, and the bytes that each has beyond a gap.
        """
        self.held, self.beyond = held, sum(holders.values())
        for flows in (self._holders, self.waiting, self.promised, self._late):
            for gone in [flow for flow in flows if flow not in holders]:
                del flows[gone]
        for holder, queued in holders.items():
            if queued:
                self._holders.setdefault(holder, None)
            else:
                self._holders.pop(holder, None)
