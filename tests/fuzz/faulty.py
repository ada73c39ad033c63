"""Targets with known faults, to test that fuzzing finds them. They are not among those of `fuzz/targets`."""

from __future__ import annotations

from fuzz.registry import target

__all__ = ["divides", "is_sound", "spins"]


@target(max_size=64)
def is_sound(data: bytes) -> None:
    """Has no fault."""


@target(max_size=64, words=(b"key",))
def divides(data: bytes) -> None:
    """Fails for one byte behind a word."""
    if data[2:5] == b"key" and data[5:6] == b"\7":
        assert len(data) < 3, "a fault"


@target(max_size=64, seconds=0.2)
def spins(data: bytes) -> None:
    """Never ends for some inputs."""
    while b"!" in data:
        pass
