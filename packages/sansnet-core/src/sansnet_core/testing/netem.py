"""A cable with delay, bandwidth and faults, which are random from a seed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

__all__ = ["Impairment", "Netem"]


@dataclass(frozen=True, slots=True)
class Impairment:
    """The delay, bandwidth and faults of a cable.

    Attributes:
        loss: probability that a frame vanishes.
        longest_loss: most frames that vanish in a row, so that no retransmission limit is ever reached by chance.
        duplicate: probability that a frame comes twice.
        reorder: probability that a frame is held back by up to `hold`.
        delay: seconds for every frame.
        hold: most seconds that a frame is held back.
        bandwidth: bytes per second, those of the Ethernet header included; 0 for no limit.
        queue: most frames that wait for the bandwidth; further ones are lost.
    """

    loss: float = 0.0
    longest_loss: int = 2
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    hold: float = 0.003
    bandwidth: float = 0.0
    queue: int = 1000

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: a probability is not between 0 and 1, or another field is negative.
        """
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Impairment.{name} is {getattr(self, name)}; use a probability from 0 to 1")
        for name in ("longest_loss", "delay", "hold", "bandwidth", "queue"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Impairment.{name} is {getattr(self, name)}; use 0 or more")


class Netem:
    """One direction of a cable, like the queueing discipline of this name (tc-netem(8)).

    Args:
        impairment: its delay, bandwidth and faults.
        seed: the beginning of the sequence of random numbers; the same frames meet the same faults again.

    Attributes:
        lost: how many frames vanished.
    """

    def __init__(self, impairment: Impairment = Impairment(), seed: int = 0) -> None:
        self._impairment = impairment
        self._random = Random(seed)
        self._queue: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._lost_in_a_row = 0
        self._free_at = 0.0
        """The time when the last frame will be sent, which the bandwidth determines."""
        self.lost = 0

    def put(self, frames: Iterable[bytes], now: float) -> None:
        """Send frames at the time `now`, in seconds."""
        how = self._impairment
        for frame in frames:
            if self._random.random() < how.loss and self._lost_in_a_row < how.longest_loss:
                self._lost_in_a_row += 1
                self.lost += 1
                continue
            self._lost_in_a_row = 0
            self._push(frame, now)
            if self._random.random() < how.duplicate:
                self._push(frame, now)

    def become(self, impairment: Impairment) -> None:
        """Have other faults from now on; frames that were sent before arrive as planned."""
        self._impairment = impairment

    def _push(self, frame: bytes, now: float) -> None:
        how = self._impairment
        held = self._random.uniform(0, how.hold) if self._random.random() < how.reorder else 0.0
        if how.bandwidth:
            if len(self._queue) >= how.queue and self._waiting(now) >= how.queue:
                self.lost += 1
                return
            self._free_at = now = max(now, self._free_at) + len(frame) / how.bandwidth
        self._count += 1
        heapq.heappush(self._queue, (now + how.delay + held, self._count, frame))

    def _waiting(self, now: float) -> int:
        """How many frames wait for the bandwidth."""
        return sum(arrival - self._impairment.delay > now for arrival, _, _ in self._queue)

    def take(self, now: float) -> list[bytes]:
        """The frames that arrive by `now`, in order of arrival."""
        arrived = []
        while self._queue and self._queue[0][0] <= now:
            arrived.append(heapq.heappop(self._queue)[2])
        return arrived

    def next_deadline(self) -> float | None:
        """The time when the next frame arrives; None if there is none on the cable."""
        return self._queue[0][0] if self._queue else None
