"""One direction of a bad network, which is random from a seed.

Theory of operation. A frame meets, in this sequence, loss, duplication, corruption, a queue that the rate empties, and
the delay. The time of its arrival is known when it is put in. Frames wait in a heap until then; with equal times they
keep their order. A frame that is not held back arrives no sooner than the one before it.

A frame with segmentation offload stands for many, and a cable carries those, so it is split first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, log, pi, sqrt
from random import Random
from typing import Final, NamedTuple

from sansnet_core.impairment.segments import corrupted, split
from sansnet_core.impairment.settings import Distribution, Impairment
from sansnet_core.orders import Frame
from sansnet_core.wire import virtio_net

__all__ = ["Netem", "NetemStatistics"]

_HOLD: Final = 0.003
"""Seconds; default of `Impairment.hold`."""
_HELD_FRAMES: Final = 3
"""Frames at the rate; the same."""
_PARETO_SHAPE: Final = 3.0
_PARETO_MEAN: Final = 1.5
_PARETO_DEVIATION: Final = sqrt(0.75)
"""Mean and standard deviation of the Pareto distribution of shape 3 from 1 on."""
MEMORY: Final = 64 << 20
"""Bytes that one direction may hold."""
_OVERHEAD: Final = 200
"""Bytes that a frame takes in addition to its own."""


@dataclass(frozen=True, slots=True)
class NetemStatistics:
    """Counters of one direction.

    Attributes:
        frames: frames that were put in; one with segmentation offload counts as many.
        lost: frames that vanished by chance.
        overflowed: frames that vanished because the queue was full, or too much memory was in use.
        duplicated: frames that came twice.
        reordered: frames that were held back.
        corrupted: frames with a wrong bit.
        waiting: frames that have not arrived yet.
    """

    frames: int = 0
    lost: int = 0
    overflowed: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    waiting: int = 0


class _Planned(NamedTuple):
    """A frame on its way.

    Attributes:
        arrives: seconds.
        number: a different one for each, in order.
        leaves: seconds; when it has left the queue.
        held: whether it was held back.
        frame: the frame.
    """

    arrives: float
    number: int
    leaves: float
    held: bool
    frame: bytes


class Netem:
    """One direction of a bad network, like the queueing discipline of this name (tc-netem(8)).

    Args:
        impairment: its delay, rate and faults; None for a perfect one.
        seed: the beginning of the sequence of random numbers.
        vnet_header: whether each frame begins with a `virtio_net_hdr`. Then frames with segmentation offload are split
            into the segments that they stand for.
        drops: whether frames are lost if the queue is full. Otherwise the queue grows, and `is_full` tells it.
        memory: bytes that may be on the way, approximately; further frames are lost.

    Attributes:
        impairment: the present one.
        lost, overflowed: see `NetemStatistics`, as for the other counters.
    """

    def __init__(
        self,
        impairment: Impairment | None = None,
        seed: int = 0,
        *,
        vnet_header: bool = False,
        drops: bool = True,
        memory: int = MEMORY,
    ) -> None:
        self.impairment = impairment or Impairment()
        self.frames = self.lost = self.overflowed = self.duplicated = self.reordered = self.corrupted = 0
        self._header = virtio_net.HEADER_SIZE if vnet_header else 0
        self._memory = memory
        self._drops = drops
        self._held = 0
        """Bytes on the way."""
        self._random = Random(seed).random
        self._planned: list[_Planned] = []
        self._queue: deque[float] = deque()
        """When the frames leave the queue that have not left it."""
        self._number = 0
        self._now = 0.0
        self._free_at = 0.0
        """When the last frame will have left the queue."""
        self._last = 0.0
        """When the last frame arrives that was not held back."""
        self._in_a_row = 0
        self._bad = False
        """The last frame was lost in a burst."""

    def become(self, impairment: Impairment) -> None:
        """Have another delay, rate and faults from now on.

        Frames that wait for the rate leave at the new rate. Those that have left arrive as planned.
        """
        before, self.impairment = self.impairment, impairment
        if before.rate != impairment.rate:
            self._plan_again(impairment.rate)

    def _plan_again(self, rate: float) -> None:
        now = self._now
        self._queue.clear()
        self._free_at = self._last = 0.0
        again = []
        for arrives, number, leaves, held, frame in sorted(self._planned, key=lambda planned: planned.number):
            if leaves > now:
                waits = arrives - leaves
                leaves = self._free_at = max(now, self._free_at) + (self._bits(frame) / rate if rate else 0.0)
                self._queue.append(leaves)
                arrives = leaves + waits
                if not (held or self.impairment.jitter_reorders):
                    arrives = max(arrives, self._last)
            if not held:
                self._last = max(arrives, self._last)
            again.append(_Planned(arrives, number, leaves, held, frame))
        heapq.heapify(again)
        self._planned = again

    def put(self, frames: Iterable[Frame], now: float) -> None:
        """Send frames.

        Args:
            frames: Ethernet frames, each behind a `virtio_net_hdr` if there are any.
            now: seconds; not before the time of the last call.
        """
        self._now = now
        for frame in frames:
            whole = b"".join(frame) if isinstance(frame, tuple) else bytes(frame)
            if self._header and whole[1:2] != b"\0":
                for segment in split(whole):
                    self._send(segment, now)
            else:
                self._send(whole, now)

    def take(self, now: float, most: int | None = None) -> list[bytes]:
        """The frames that arrive by `now`, in seconds, in order of arrival.

        Args:
            now: seconds; not before the time of the last call.
            most: most frames to take; None for all.
        """
        self._now = now
        planned = self._planned
        arrived: list[bytes] = []
        while planned and planned[0].arrives <= now and (most is None or len(arrived) < most):
            frame = heapq.heappop(planned).frame
            self._held -= len(frame) + _OVERHEAD
            arrived.append(frame)
        return arrived

    def next_deadline(self) -> float | None:
        """The time when the next frame arrives; None if there is none on its way."""
        return self._planned[0].arrives if self._planned else None

    def is_full(self, now: float) -> bool:
        """Whether as many frames wait for the rate as may at a time, in seconds."""
        queue = self._queue
        while queue and queue[0] <= now:
            queue.popleft()
        return len(queue) >= self.impairment.queue_frames

    def room_at(self) -> float | None:
        """The time from which on the queue is not full; None if it is not full."""
        excess = len(self._queue) - self.impairment.queue_frames
        return self._queue[excess] if excess >= 0 else None

    def statistics(self) -> NetemStatistics:
        """The present counters."""
        return NetemStatistics(
            frames=self.frames,
            lost=self.lost,
            overflowed=self.overflowed,
            duplicated=self.duplicated,
            reordered=self.reordered,
            corrupted=self.corrupted,
            waiting=len(self._planned),
        )

    def _send(self, frame: bytes, now: float) -> None:
        how, random = self.impairment, self._random
        self.frames += 1
        if how.loss and self._is_lost(how):
            self.lost += 1
            return
        self._pass(frame, now)
        if how.duplicate and random() < how.duplicate:
            self.duplicated += 1
            self._pass(frame, now)

    def _is_lost(self, how: Impairment) -> bool:
        """The next state of the model of Gilbert, whose state `bad` loses all frames; or a state without memory."""
        if how.burst is None:
            bad = self._random() < how.loss
        elif self._bad:
            bad = self._random() >= 1 / how.burst
        else:
            bad = self._random() < how.loss / (how.burst * (1 - how.loss))
        if bad and how.longest_loss is not None and self._in_a_row >= how.longest_loss:
            bad = False
        self._in_a_row = self._in_a_row + 1 if bad else 0
        self._bad = bad
        return bad

    def _pass(self, frame: bytes, now: float) -> None:
        """Let a frame that is not lost pass the queue, and plan its arrival."""
        how, random = self.impairment, self._random
        if how.corrupt and random() < how.corrupt:
            self.corrupted += 1
            frame = corrupted(frame, random(), self._header)
        leaves, taken = now, len(frame) + _OVERHEAD
        if self._held + taken > self._memory:
            self.overflowed += 1
            return
        if how.rate:
            if self._drops and self.is_full(now):
                self.overflowed += 1
                return
            leaves = self._free_at = max(now, self._free_at) + self._bits(frame) / how.rate
            self._queue.append(leaves)
        arrives = leaves + (max(0.0, how.delay + self._deviation(how)) if how.jitter else how.delay)
        held = how.reorder > 0 and random() < how.reorder
        if held:
            self.reordered += 1
            arrives = max(arrives, self._last) + random() * self._hold(how, frame)
        else:
            if not how.jitter_reorders:
                arrives = max(arrives, self._last)
            self._last = max(arrives, self._last)
        self._number += 1
        self._held += taken
        heapq.heappush(self._planned, _Planned(arrives, self._number, leaves, held, frame))

    def _bits(self, frame: bytes) -> int:
        return 8 * (len(frame) - self._header)

    def _hold(self, how: Impairment, frame: bytes) -> float:
        if how.hold is not None:
            return how.hold
        return max(_HOLD, _HELD_FRAMES * self._bits(frame) / how.rate if how.rate else 0.0)

    def _deviation(self, how: Impairment) -> float:
        """Seconds by which a delay differs from the mean."""
        random = self._random
        if how.distribution is Distribution.UNIFORM:
            return how.jitter * (2 * random() - 1)
        if how.distribution is Distribution.NORMAL:  # by the method of Box and Muller
            return how.jitter * sqrt(-2 * log(1 - random())) * cos(2 * pi * random())
        far: float = (1 - random()) ** (-1 / _PARETO_SHAPE)
        return how.jitter * (far - _PARETO_MEAN) / _PARETO_DEVIATION
