"""A bound on the rate of something, with bursts."""

from __future__ import annotations

from sansnet_core.mypyc import mypyc_attr

__all__ = ["TokenBucket"]


@mypyc_attr(allow_interpreted_subclasses=True)
class TokenBucket:
    """Allows `rate` events per second on average, and `burst` at once.

    Args:
        rate: per second.
        burst: also the number that is allowed at first.
        now: seconds.
    """

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled = now

    def allows(self, now: float) -> bool:
        """Whether an event is allowed."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        return self._tokens >= 1

    def take(self, now: float) -> bool:
        """Count an event, if it is allowed; whether it is."""
        allowed = self.allows(now)
        if allowed:
            self._tokens -= 1
        return allowed
