"""A cable that loses, duplicates, delays and reorders frames at random, from a seed."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

__all__ = ["Impairment", "Netem"]


@dataclass(frozen=True, slots=True)
class Impairment:
    """The faults of a cable.

    Attributes:
        loss: probability that a frame vanishes.
        longest_loss: most frames that vanish in a row, so that no retransmission limit is ever reached by chance.
        duplicate: probability that a frame comes twice.
        reorder: probability that a frame is held back by `hold`.
        delay: seconds for every frame.
        hold: seconds more for a frame that is held back.
    """

    loss: float = 0.0
    longest_loss: int = 2
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    hold: float = 0.003


class Netem:
    """One direction of a cable."""

    def __init__(self, impairment: Impairment = Impairment(), seed: int = 0) -> None:
        self._impairment = impairment
        self._random = Random(seed)
        self._queue: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._lost_in_a_row = 0
        self.lost = 0

    def put(self, frames: Iterable[bytes], now: float) -> None:
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
        self._count += 1
        heapq.heappush(self._queue, (now + how.delay + held, self._count, frame))

    def take(self, now: float) -> list[bytes]:
        """The frames that arrive by `now`, in order of arrival."""
        arrived = []
        while self._queue and self._queue[0][0] <= now:
            arrived.append(heapq.heappop(self._queue)[2])
        return arrived

    def next_deadline(self) -> float | None:
        return self._queue[0][0] if self._queue else None
