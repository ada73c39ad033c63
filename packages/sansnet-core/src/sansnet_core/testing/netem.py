"""Cables for the kit: `sansnet_core.impairment`."""

from __future__ import annotations

from sansnet_core.impairment import Impairment, Netem

__all__ = ["Impairment", "Netem"]
