"""A bad network: delay, jitter, a low rate, and frames that are lost, doubled, reordered or corrupted.

`Impairment` says how bad one direction is. `Netem` applies it to frames: frames and the time go in, and the frames that
arrive by a time come out. It has a seed, so the same frames at the same times meet the same faults again.
"""

from __future__ import annotations

from sansnet_core.impairment.netem import Netem, NetemStatistics
from sansnet_core.impairment.settings import Distribution, Impairment

__all__ = ["Distribution", "Impairment", "Netem", "NetemStatistics"]
