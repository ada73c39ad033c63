"""Targets with known faults, to test that fuzzing finds them. They are not among those of `fuzz/targets`."""

from __future__ import annotations

from fuzz.registry import target

__all__ = ["divides", "is_sound", "spins"]


@target(max_size=64)
def is_sound(data: bytes) -> None:
    """Has no fault."""


@target(max_size=64, words=(b"key",))
def divides(data: bytes) -> None:
    """Fails for a byte behind a word."""
    at = data.find(b"key")
    assert at < 0 or data[at + 3 : at + 4] < b"\7", "a fault"


@target(max_size=64, seconds=0.2)
def spins(data: bytes) -> None:
    """Never ends for some inputs."""
    while b"!" in data:
        pass
