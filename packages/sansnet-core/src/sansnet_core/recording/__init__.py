"""Records the inputs of a network, and replays them.

`RecordedNetwork` is a `Network` that keeps its last inputs in memory, records all of them if asked to, and goes on
after an exception of its own. `Replay` runs a recording again, and `conversation` describes it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sansnet_core.recording.capture import Capture
    from sansnet_core.recording.failure import Failure
    from sansnet_core.recording.lines import conversation
    from sansnet_core.recording.network import RecordedNetwork
    from sansnet_core.recording.replay import Effect, RecordingError, Replay, ReplayDifference, Step

__all__ = [
    "Capture",
    "Effect",
    "Failure",
    "RecordedNetwork",
    "RecordingError",
    "Replay",
    "ReplayDifference",
    "Step",
    "conversation",
]

_HOMES = {
    "capture": ("Capture",),
    "failure": ("Failure",),
    "lines": ("conversation",),
    "network": ("RecordedNetwork",),
    "replay": ("Effect", "RecordingError", "Replay", "ReplayDifference", "Step"),
}
"""Module -> the names here that it defines."""

if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a name when it is first used (PEP 562): a running network needs one of them."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
