"""A capture of a replay, in which each packet has comments."""

from __future__ import annotations

from sansnet_core.recording.replay import Replay, Step

__all__ = ["Capture"]


class Capture:
    """Writes the frames of a replay as pcapng. Comments of a packet tell its input, why it was dropped, its flow, and
    the orders that it caused.

    Args:
        replay: the replay.

    Attributes:
        header: the beginning of the file.
    """

    header: bytes

    def __init__(self, replay: Replay) -> None:
        self.header = b""
        self._replay = replay

    def packets(self, step: Step) -> bytes:
        """The packets of a step, to be put behind those of the step before."""
        return b""
