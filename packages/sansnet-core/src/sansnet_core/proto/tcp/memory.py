"""The bound on what all connections hold together, so that many slow readers cannot exhaust the host's memory.

Theory of operation. Data that was acknowledged, or read from a host, must be kept. Data beyond a gap need not be: the
guest sends it again (RFC 2018, 8). So such pieces live in what is spare, and are given up, one of each connection in
turn, as soon as the limit is passed. How much may be read from hosts, or taken from the guest in order, is reckoned
as if they were given up already.

A stream that was refused memory waits in line. As room appears, those at the head are resumed, as many as there is room
for, so that a crowd is not woken for a few bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

__all__ = ["LEAST", "RESERVE", "Holder", "Memory"]

RESERVE: Final = 16384
"""Bytes in order that a connection may hold for the host even when all together hold too much, so that none starves."""
LEAST: Final = 1460
"""Less memory than this is not given to a stream, unless the whole limit is less: a segment that most links carry."""


class Holder(Protocol):
    """A connection."""

    def give_up(self) -> tuple[int, bool]:
        """Let go of the last piece beyond a gap; bytes freed, and whether there are more pieces."""

    def touch(self) -> None:
        """Have the connection flushed."""


class Memory:
    """Counts payload bytes.

    Args:
        limit: most bytes to hold.

    Attributes:
        limit: most bytes to hold.
        held: bytes held now, in either direction. The connections count; above the limit they call `make_room`.
        beyond: those of them that wait beyond a gap, with what keeping a piece costs by itself.
        waiting: connections that were refused memory, by time.
    """

    __slots__ = ("_holders", "_least", "beyond", "held", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.beyond = 0
        self._least = min(LEAST, limit)
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        """Connections with pieces beyond a gap, by turn."""
        self.waiting: OrderedDict[Holder, None] = OrderedDict()

    @property
    def is_short(self) -> bool:
        """Whether connections should hold less than they might."""
        return self.held >= self.limit >> 1

    def window(self, limit: int) -> int:
        """What a connection may offer whose own limit is `limit`."""
        return min(limit, 2 * RESERVE) if self.is_short else limit

    def make_room(self) -> None:
        """Give up pieces until the limit is kept, or there are none."""
        holders = self._holders
        while self.held > self.limit and holders:
            holder = next(iter(holders))
            freed, more = holder.give_up()
            self.held -= freed
            self.beyond -= freed
            if more:
                holders.move_to_end(holder)
            else:
                del holders[holder]

    # guest to host

    def room_in_order(self, unsent: int) -> int:
        """How many bytes in order may be taken from the guest.

        Args:
            unsent: what the connection holds for the host.
        """
        return max(self.limit - self.held + self.beyond, RESERVE - unsent)

    def keep(self, holder: Holder, change: int, queued: int) -> None:
        """The bytes that a connection keeps beyond a gap changed by `change`, to `queued`; they are part of `held`."""
        self.beyond += change
        if queued:
            self._holders[holder] = None
        else:
            self._holders.pop(holder, None)

    # host to guest

    def room(self, holder: Holder, wanted: int) -> int:
        """How many of `wanted` bytes a stream may read from its host; if 0, it waits in line until `resume`."""
        left = self.limit - self.held + self.beyond
        waiting = len(self.waiting)
        if waiting:
            left = max(left // (waiting + 1), min(left, self._least))
        if left < wanted and left < self._least:
            self.waiting[holder] = None
            return 0
        if waiting:
            self.waiting.pop(holder, None)
        return min(left, wanted)

    def resume(self) -> None:
        """Touch the streams at the head of the line, as many as there is room for."""
        waiting = self.waiting
        left = self.limit - self.held + self.beyond
        while waiting and left >= self._least:
            holder, _ = waiting.popitem(last=False)
            holder.touch()
            left -= self._least

    def forget(self, holder: Holder, held: int, queued: int) -> None:
        """A connection that held so much is over; of that, `queued` bytes wait beyond a gap."""
        self.held -= held
        self.beyond -= queued
        self._holders.pop(holder, None)
        self.waiting.pop(holder, None)
