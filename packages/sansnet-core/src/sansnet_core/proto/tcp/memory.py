"""The bound on what all connections hold together, so that many slow readers cannot exhaust the host's memory.

Theory of operation. Data that was acknowledged, or read from a host, must be kept. Data beyond a gap need not be: the
guest sends it again (RFC 2018, 8). So such pieces live in what is spare, and are given up, one of each connection in
turn, as soon as the limit is passed. How much may be read from hosts, or taken from the guest in order, is reckoned
as if they were given up already.

A stream that was refused memory waits in line. As room appears, those at the head are resumed, as many as there is room
for, so that a crowd is not woken for a few bytes. The room is promised to them for a moment, so that streams that never
waited do not take it first; then, for they may have nothing to read, it is the next one's turn.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final, Protocol

__all__ = ["LEAST", "RESERVE", "Holder", "Memory"]

RESERVE: Final = 16384
"""Bytes in order that a connection may hold for the host even when all together hold too much, so that none starves."""
LEAST: Final = 1460
"""Less memory than this is not given to a stream, unless the whole limit is less: a segment that most links carry."""
PROMISE: Final = 0.001
"""Seconds for which room is kept for a stream that was resumed."""


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
        promised: connections that were resumed a moment ago and read nothing yet.
    """

    __slots__ = ("_holders", "_least", "_promised_at", "beyond", "held", "limit", "promised", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.beyond = 0
        self._least = min(LEAST, limit)
        self._promised_at = -inf
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        """Connections with pieces beyond a gap, by turn."""
        self.promised: dict[Holder, None] = {}
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
        if self.promised:
            left -= self._least * (len(self.promised) - (holder in self.promised))
        waiting = len(self.waiting)
        if waiting:
            left = max(left // (waiting + 1), min(left, self._least))
        if left < wanted and left < self._least:
            self.waiting[holder] = None
            return 0
        if waiting:
            self.waiting.pop(holder, None)
        return min(left, wanted)

    def resume(self, now: float) -> float:
        """Touch the streams at the head of the line, as many as there is room for.

        Returns:
            When to try again, although nothing may happen until then; infinity for never.
        """
        waiting, promised = self.waiting, self.promised
        if now >= self._promised_at + PROMISE:
            promised.clear()
        left = self.limit - self.held + self.beyond
        while waiting and left >= self._least * (len(promised) + 1):
            holder, _ = waiting.popitem(last=False)
            holder.touch()
            promised[holder] = None
            self._promised_at = now
        return self._promised_at + PROMISE if waiting and promised and left >= self._least else inf

    def forget(self, holder: Holder, held: int, queued: int) -> None:
        """A connection that held so much is over; of that, `queued` bytes wait beyond a gap."""
        self.held -= held
        self.beyond -= queued
        self._holders.pop(holder, None)
        self.waiting.pop(holder, None)
        self.promised.pop(holder, None)
