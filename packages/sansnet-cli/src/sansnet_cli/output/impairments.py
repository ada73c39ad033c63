"""The text of an impairment of a guest's network, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["described"]

_TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATES: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def described(fields: dict[str, Any]) -> str:
    """One line about an impairment.

    Args:
        fields: the fields of `Impairment`, as in the answer of the control socket.
    """
    parts = []
    if fields["delay"] or fields["jitter"]:
        parts.append(f"delay {_seconds(fields['delay'])}")
    if fields["jitter"]:
        reorders = ", which reorders" if fields["jitter_reorders"] else ""
        parts.append(f"jitter {_seconds(fields['jitter'])} ({fields['distribution']}{reorders})")
    if fields["rate"]:
        parts.append(f"rate {_bits(fields['rate'])}")
        if fields["queue"] is not None:
            parts.append(f"queue {fields['queue']} frames")
    for name in ("loss", "duplicate", "reorder", "corrupt"):
        if fields[name]:
            burst = f" in bursts of {fields['burst']:g}" if name == "loss" and fields["burst"] is not None else ""
            hold = f" by up to {_seconds(fields['hold'])}" if name == "reorder" and fields["hold"] is not None else ""
            parts.append(f"{name} {100 * fields[name]:.6g}%{burst}{hold}")
    return ", ".join([*parts, *_without_effect(fields)]) or "none"


def _without_effect(fields: dict[str, Any]) -> Iterator[str]:
    """The parts without effect: each needs another field."""
    if not fields["jitter"]:
        if fields["distribution"] != "uniform":
            yield f"distribution {fields['distribution']} (without jitter)"
        if fields["jitter_reorders"]:
            yield "reordering jitter (without jitter)"
    if fields["queue"] is not None and not fields["rate"]:
        yield f"queue {fields['queue']} frames (without a rate)"
    if fields["burst"] is not None and not fields["loss"]:
        yield f"bursts of {fields['burst']:g} (without a loss)"
    if fields["hold"] is not None and not fields["reorder"]:
        yield f"hold {_seconds(fields['hold'])} (without reorder)"


def _seconds(value: float) -> str:
    unit = "s" if value >= 1 or not value else "ms" if value >= 1e-3 else "us"
    return f"{value / _TIMES[unit]:.6g}{unit}"


def _bits(value: float) -> str:
    unit = next((unit for unit in ("g", "m", "k") if value >= _RATES[unit]), "")
    return f"{value / _RATES[unit]:.6g}{unit}bit"
