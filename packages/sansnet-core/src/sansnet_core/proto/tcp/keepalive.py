"""Keepalive (RFC 9293, 3.8.4): the guest's probes, whose purpose the host's socket takes over, and our own.

Theory of operation. A guest that wants to know whether its peer still lives sends a segment just below the window.
sansnet answers it, so the answer says nothing about the peer. Instead the host's kernel is told to probe the peer
(SO_KEEPALIVE) as often as the guest does. If the peer is gone the host's socket fails, which resets the guest.

Since each probe is answered, the only thing to be seen is how long the guest waits before its first one. Its interval
and count for probes without an answer are derived from that.

A guest that is silent for very long is probed by sansnet in turn.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Keepalive", "Schedule", "schedule"]

_MAX_ORDERS: Final = 16
"""For one connection: a guest that changes its interval all the time must not keep the driver busy."""

_MAX_IDLE: Final = 32767
"""Seconds: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL (include/net/tcp.h)."""
_INTERVAL: Final = 75
_COUNT: Final = 9
"""tcp_keepalive_intvl and tcp_keepalive_probes of Linux."""
_SHORT: Final = 10
_SHORT_COUNT: Final = 3
"""A guest that probes after less than that many seconds wants to know within seconds. For others, a network that is
down for a minute must not end a connection that the guest itself would have kept."""


class Schedule(NamedTuple):
    """When the host's kernel probes a peer: TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT (tcp(7)).

    Attributes:
        idle: seconds of silence before the first probe.
        interval: seconds between probes.
        probes: probes without an answer that end the connection.
    """

    idle: int
    interval: int
    probes: int

    def differs(self, other: Schedule) -> bool:
        """Whether the other one differs by more than the timers of a guest are inexact."""
        return 4 * abs(other.idle - self.idle) > self.idle


def schedule(silence: float) -> Schedule:
    """The schedule for a guest that sends a probe after so many seconds of silence."""
    idle = min(max(round(silence), 1), _MAX_IDLE)
    return Schedule(idle, min(max(idle // 2, 1), _INTERVAL), _SHORT_COUNT if idle < _SHORT else _COUNT)


class Keepalive:
    """The keepalive of one connection, in both directions."""

    __slots__ = ("_last_segment", "_orders", "_probes", "_schedule")

    def __init__(self, now: float) -> None:
        self._last_segment = now
        self._probes = 0
        self._orders = 0
        self._schedule: Schedule | None = None

    def segment_received(self, now: float) -> float:
        """The guest has sent a segment; the seconds since its last one."""
        silence = now - self._last_segment
        self._last_segment = now
        self._probes = 0
        return silence

    def new_schedule(self, silence: float) -> Schedule | None:
        """The guest has sent a probe after so many seconds of silence.

        Returns:
            The order for the host's socket, or None if nothing changes.
        """
        if self._orders >= _MAX_ORDERS:
            return None
        wanted = schedule(silence)
        if self._schedule is not None and not self._schedule.differs(wanted):
            return None
        self._schedule = wanted
        self._orders += 1
        return wanted

    def deadline(self, idle: float) -> float:
        """When to send the next probe of our own, or to give up: `idle` seconds after the guest's last segment."""
        return self._last_segment + idle + self._probes * _INTERVAL

    def count_probe(self) -> bool:
        """The deadline has passed: whether to send another probe; otherwise the guest has left too many unanswered."""
        if self._probes >= _COUNT:
            return False
        self._probes += 1
        return True
