"""The guest's keepalive, which is answered here, and how the host's socket takes it over.

Theory of operation. A guest that wants to know whether its peer still lives sends a segment just below the window (RFC
9293, 3.8.4). It is answered here, so it says nothing about the peer. So the host's kernel is told to probe the peer
itself (SO_KEEPALIVE), as often as the guest does. If the peer is gone the host's socket fails, which resets the guest.

Since each probe is answered, what can be seen is only how long the guest waits before the first one. How often it would
repeat one that is not answered, and how many times, is taken from that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_ORDERS", "Schedule", "schedule"]

MAX_ORDERS: Final = 16
"""For one connection: a guest that changes its mind all the time must not keep the driver busy."""

_LONGEST: Final = 32767
"""Seconds: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL (include/net/tcp.h)."""
_INTERVAL: Final = 75
_COUNT: Final = 9
"""tcp_keepalive_intvl and tcp_keepalive_probes of Linux."""
_SHORT: Final = 10
_SHORT_COUNT: Final = 3
"""A guest that asks after less than that many seconds wants to know within seconds. For others, a network that is down
for a minute must not end what the guest itself would have kept."""


class Schedule(NamedTuple):
    """When the host's kernel probes a peer: TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT (tcp(7)).

    Attributes:
        idle: seconds of silence before the first probe.
        interval: seconds between probes.
        probes: unanswered ones that end the connection.
    """

    idle: int
    interval: int
    probes: int

    def differs(self, other: Schedule) -> bool:
        """Whether the other one is clearly not the same: by more than timers of a guest may be off."""
        return 4 * abs(other.idle - self.idle) > self.idle


def schedule(silence: float) -> Schedule:
    """What a guest wants that sends a probe after so many seconds of silence."""
    idle = min(max(round(silence), 1), _LONGEST)
    return Schedule(idle, min(max(idle // 2, 1), _INTERVAL), _SHORT_COUNT if idle < _SHORT else _COUNT)
