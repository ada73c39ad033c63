"""Keeps the recording of one network in a file."""

from __future__ import annotations

from typing import Final

import trio

from sansnet_core.recording import RecordedNetwork
from sansnet_trio.recording.file import RecordingFile

__all__ = ["Recorder"]

_INTERVAL: Final = 1.0
"""Seconds within which an input is in the file, so that little is missing if this process is killed."""


class Recorder:
    """Records one network to a file.

    Args:
        network: the network.
        file: the file. It stays open at the end.
    """

    def __init__(self, network: RecordedNetwork, file: RecordingFile) -> None:
        self._network = network
        self._file = file
        self._full = trio.Event()
        file.on_full = lambda: self._full.set()
        self._begin()

    async def run(self) -> None:
        """Write regularly, and begin another file when one is full, until cancelled or the file fails.

        It runs between two pieces of work of the driver, never within an input.
        """
        while not self._file.failed:
            with trio.move_on_after(_INTERVAL):
                await self._full.wait()
            if self._full.is_set():
                self._full = trio.Event()
                self._network.flush_recording()
                self._begin()
            else:
                self._network.flush_recording()
                self._file.push()
        self._network.record(None)

    def _begin(self) -> None:
        try:
            self._file.begin(self._network.record)
        except Exception as error:  # there may be too little memory for a copy of the state
            self._file.fail(f"the network's state cannot be saved: {type(error).__name__}", "allow more memory")

    def close(self) -> None:
        """End the recording."""
        self._network.record(None)
        self._file.on_full = lambda: None
