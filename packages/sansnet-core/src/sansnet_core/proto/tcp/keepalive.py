"""Keepalive (RFC 9293, 3.8.4): the guest's probes of its peer, and sansnet's probes of the guest.

Theory of operation. A guest probes an idle peer by a segment just below the window. sansnet answers the probe, so the
answer does not show whether the peer is alive. Instead, an order makes the host's kernel probe the peer (SO_KEEPALIVE)
as often as the guest does. If the peer does not answer, the host's socket fails, and the guest's connection is reset.

Since each probe is answered, only the idle time before the guest's first probe can be observed. The interval and the
count of unanswered probes are derived from it.

sansnet itself probes a guest that has been silent for `Limits.tcp_keepalive`.
"""

from __future__ import annotations

from math import inf
from typing import Final, NamedTuple

from sansnet_core.mypyc import mypyc_attr

__all__ = ["LEAST_IDLE", "Keepalive", "Schedule", "schedule"]

LEAST_IDLE: Final = 0.9
"""Seconds of silence before a keepalive: TCP_KEEPIDLE is at least 1 s (tcp(7)), and the times are inexact."""

_MAX_ORDERS: Final = 16
"""Most orders of one connection: a guest that changes its interval all the time must not keep the driver busy."""

_MAX_IDLE: Final = 32767
"""Seconds: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL (include/net/tcp.h)."""
_INTERVAL: Final = 75
_COUNT: Final = 9
"""tcp_keepalive_intvl and tcp_keepalive_probes of Linux."""
_SHORT: Final = 10
_SHORT_COUNT: Final = 3
"""Guests that probe after less than 10 seconds expect a failure to be found within seconds. For other guests, a network
that is down for a minute must not end a connection that the guest itself would have kept."""


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
        """Whether the other schedule differs by more than the inexactness of a guest's timers."""
        return 4 * abs(other.idle - self.idle) > self.idle


def schedule(silence: float) -> Schedule:
    """The schedule for a guest that sends a probe after `silence` seconds without a segment."""
    idle = min(max(round(silence), 1), _MAX_IDLE)
    return Schedule(idle, min(max(idle // 2, 1), _INTERVAL), _SHORT_COUNT if idle < _SHORT else _COUNT)


@mypyc_attr(allow_interpreted_subclasses=True)
class Keepalive:
    """The keepalive of one connection, in both directions; made for the first probe.

    In all methods, `heard` is the time of the guest's last segment, in seconds.
    """

    __slots__ = ("_last_probe", "_orders", "_probes", "_schedule")

    def __init__(self) -> None:
        self._last_probe = -inf
        self._probes = 0
        self._orders = 0
        self._schedule: Schedule | None = None

    def new_schedule(self, silence: float) -> Schedule | None:
        """Note a probe from the guest after `silence` seconds without a segment.

        Returns:
            The schedule to order for the host's socket; None if nothing changes.
        """
        if self._orders >= _MAX_ORDERS:
            return None
        wanted = schedule(silence)
        if self._schedule is not None and not self._schedule.differs(wanted):
            return None
        self._schedule = wanted
        self._orders += 1
        return wanted

    def deadline(self, heard: float, idle: float) -> float:
        """When to probe the guest next, or to give it up: first `idle` seconds after its last segment."""
        return self._last_probe + _INTERVAL if self._last_probe > heard else heard + idle

    def count_probe(self, heard: float, now: float) -> bool:
        """The deadline has passed. Whether to send another probe; if not, too many were not answered."""
        if self._last_probe <= heard:
            self._probes = 0
        if self._probes >= _COUNT:
            return False
        self._probes += 1
        self._last_probe = now
        return True
