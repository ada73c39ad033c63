"""A bad network between a guest's link and its network: the driver's element for `sansnet_core.impairment`.

Theory of operation. There is one cable in each direction. Frames from the link go into the first, and the network gets
those that have arrived; frames of the network go into the second, and the link gets those that have arrived. So the
driver's rules about a full link hold behind the cable, and a capture shows the guest's view. The driver asks for the
next arrival as for any other deadline. If very many arrive at once, other work is done in between.

The guest's TCP adapts to a queue that overflows, so frames from it are lost then, as at a real bottleneck. TCP towards
the guest has no congestion control, since a guest's link has backpressure. So the queue in that direction does not
overflow: while it is full, no socket of the host is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from sansnet_core.errors import expect
from sansnet_core.impairment import Impairment, Netem

if TYPE_CHECKING:
    from sansnet_core import Buffer, Frame

__all__ = ["Cables"]

_BATCH: Final = 256
"""Frames that arrive at once, at most."""


class Cables:
    """The two directions between a link and a network.

    Args:
        vnet_header: whether the link's frames have a `virtio_net_hdr`.
        seed: the beginning of the random numbers; None takes one that is not known before.
        receive: called with frames that have arrived at the network, and the time.
        send: called with frames that have arrived at the guest, and the time. It is called without frames when the
            queue is not full any more.

    Attributes:
        up, down: the cables from the guest and to it.
        seed: that of `up`; `down` has the next number.
    """

    def __init__(
        self,
        *,
        vnet_header: bool,
        seed: int | None,
        receive: Callable[[Sequence[Buffer], float], None],
        send: Callable[[Sequence[Frame], float], None],
    ) -> None:
        if seed is not None:
            expect("impair_seed", seed, int, "an integer")
        self.seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        self.up = Netem(seed=self.seed, vnet_header=vnet_header)
        self.down = Netem(seed=self.seed + 1, vnet_header=vnet_header, drops=False)
        self._receive, self._send = receive, send
        self._was_full = False

    def become(self, up: Impairment | None, down: Impairment | None) -> None:
        """Have other impairments from now on; None leaves one as it is.

        Raises:
            UsageError: it is no impairment.
        """
        for name, impairment in (("up", up), ("down", down)):
            if impairment is not None:
                expect(name, impairment, Impairment, "an Impairment")
        if up is not None:
            self.up.become(up)
        if down is not None:
            self.down.become(down)

    def from_guest(self, frames: Sequence[Buffer], now: float) -> list[bytes]:
        """Put in frames from the guest; the frames that have arrived at the network."""
        self.up.put(frames, now)
        return self.up.take(now, _BATCH)

    def to_guest(self, frames: Sequence[Frame], now: float) -> list[bytes]:
        """Put in frames of the network; the frames that have arrived at the guest."""
        self.down.put(frames, now)
        return self.down.take(now, _BATCH)

    def is_full(self, now: float) -> bool:
        """Whether the queue to the guest is full, so that no socket should be read."""
        self._was_full = self.down.is_full(now)
        return self._was_full

    def next_deadline(self) -> float | None:
        """The time of the next arrival, or when the queue is not full any more; None if nothing is on its way."""
        times = [self.up.next_deadline(), self.down.next_deadline()]
        if self._was_full:
            room_at = self.down.room_at()
            times.append(-inf if room_at is None else room_at)  # None after another impairment
        return min((time for time in times if time is not None), default=None)

    def handle_deadline(self, now: float) -> None:
        """Deliver the frames that have arrived."""
        if arrived := self.up.take(now, _BATCH):
            self._receive(arrived, now)
        arrived = self.down.take(now, _BATCH)
        if arrived or (self._was_full and not self.down.is_full(now)):
            self._send(arrived, now)
