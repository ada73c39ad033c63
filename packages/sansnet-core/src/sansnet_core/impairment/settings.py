"""How bad one direction of a network is."""

from __future__ import annotations

from enum import Enum
from math import inf

from sansnet_core.fields import Part, instance
from sansnet_core.records import Record, field

__all__ = ["Distribution", "Impairment"]

_PROBABILITIES = ("loss", "duplicate", "reorder", "corrupt")
_AMOUNTS = ("delay", "jitter", "rate", "hold")
_FRAME = 1514
"""Bytes of a frame of Ethernet's MTU."""
_QUEUE_TIME = 0.1
"""Seconds that the default queue takes to become empty."""
_LEAST_QUEUE = 20
"""Frames. TCP begins with ten segments (RFC 6928)."""


class Distribution(Enum):
    """How the delays of frames are spread around `Impairment.delay`."""

    UNIFORM = "uniform"
    """All delays from `delay - jitter` to `delay + jitter` are equally probable."""
    NORMAL = "normal"
    """The normal distribution; `jitter` is its standard deviation."""
    PARETO = "pareto"
    """Most delays are a little below the mean, and a few are far above it; `jitter` is the standard deviation."""


class Impairment(Record):
    """The delay, rate and faults of one direction of a network. The default is a perfect one.

    Attributes:
        delay: seconds that every frame takes.
        jitter: seconds by which the delay varies; see `distribution`. No delay is below 0.
        distribution: how the delays are spread.
        jitter_reorders: whether a frame with a small delay overtakes one with a large delay. Otherwise it waits, and
            all frames keep their order, as on most real networks.
        rate: bits per second, those of the Ethernet header included, without preamble and checksum; 0 for no limit.
        queue: most frames that wait for the rate, the one on its way included; further ones are lost. None for as many
            full frames as the rate takes in 100 ms, and at least 20.
        loss: probability that a frame vanishes, from 0 to 1, like the other probabilities.
        burst: mean number of frames that vanish in a row, 1 or more (the model of Gilbert); None if each frame vanishes
            or not by itself.
        longest_loss: most frames that vanish in a row; None for no limit. Tests that count on the end of
            retransmissions set it.
        duplicate: probability that a frame comes twice.
        reorder: probability that a frame is held back, so that later ones overtake it.
        hold: most seconds that a frame is held back; None for 3 ms, or the time that three such frames take at the rate
            if that is longer.
        corrupt: probability that one bit behind the Ethernet header is wrong. Checksums of the guest are verified then.
    """

    delay: float = 0.0
    jitter: float = 0.0
    distribution: Part[Distribution] = field(instance(Distribution), default=Distribution.UNIFORM)
    jitter_reorders: bool = False
    rate: float = 0.0
    queue: int | None = None
    loss: float = 0.0
    burst: float | None = None
    longest_loss: int | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    hold: float | None = None
    corrupt: float = 0.0

    def __post_init__(self) -> None:
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a probability; give 0 to 1")
        for name in _AMOUNTS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < inf:
                raise ValueError(f"{name}: {value} is not possible; give 0 or more")
        if self.queue is not None and self.queue < 1:
            raise ValueError(f"queue: {self.queue} holds no frame; give 1 or more")
        if self.longest_loss is not None and self.longest_loss < 0:
            raise ValueError(f"longest_loss: {self.longest_loss} is not possible; give 0 or more")
        if self.burst is not None:
            if not 1 <= self.burst < inf:
                raise ValueError(f"burst: {self.burst} is not a mean length; give 1 or more")
            if self.loss > (most := self.burst / (1 + self.burst)):
                raise ValueError(
                    f"burst: at least one frame passes between two bursts, so with bursts of {self.burst:g} the loss "
                    f"is at most {most:.3g}; give a longer one, or none"
                )

    @property
    def is_perfect(self) -> bool:
        """Whether all frames pass at once and unchanged."""
        return not (self.delay or self.jitter or self.rate or any(getattr(self, name) for name in _PROBABILITIES))

    @property
    def queue_frames(self) -> int:
        """Most frames that wait for the rate: `queue`, or its default."""
        return self.queue or max(_LEAST_QUEUE, round(self.rate * _QUEUE_TIME / (8 * _FRAME)))
