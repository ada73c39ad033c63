"""A recording that cannot be written costs the network nothing."""

from __future__ import annotations

import pytest

from sansnet_core.recording import Failure, RecordedNetwork, Replay
from sansnet_core.testing import SECRET, make_config

LARGE = [bytes(1514)] * 50
"""Frames that fill a block of the recording, so that it is written at once."""


class Disk:
    """Takes a recording; the next part raises `error`, if there is one."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.error: Exception | None = None

    def write(self, part: bytes) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.parts.append(part)


@pytest.mark.parametrize("ring", [0, 1 << 20])
def test_an_error_of_writing_ends_the_recording_and_is_told(ring: int) -> None:
    disk, failures = Disk(), list[Failure]()
    network = RecordedNetwork(make_config(), now=1.0, secret=SECRET, ring=ring, failed=failures.append)
    network.record(disk.write)
    error = disk.error = OSError("the disk is full")
    network.receive_frames(LARGE, 2.0)
    network.receive_frames(LARGE, 3.0)

    assert [(one.error, one.goes_on) for one in failures] == [(error, True)]
    assert "recording" in failures[0].entry
    assert network.recorded == 0
    assert len(disk.parts) == 2, "the first line and the beginning"


def test_an_error_of_writing_needs_nobody_to_be_told() -> None:
    disk = Disk()
    network = RecordedNetwork(make_config(), now=1.0, secret=SECRET)
    network.record(disk.write)
    disk.error = OSError("the disk is full")
    network.receive_frames(LARGE, 2.0)

    assert network.recorded == 0


def test_a_recording_goes_on_with_the_state_if_memory_was_too_short_for_a_part() -> None:
    disk, failures = Disk(), list[Failure]()
    network = RecordedNetwork(make_config(), now=1.0, secret=SECRET, failed=failures.append)
    network.record(disk.write)
    now = 2.0
    disk.error = MemoryError()
    network.receive_frames(LARGE, now)
    for _ in range(3):
        network.receive_frames(LARGE[:1], now)
    network.record(None)
    replay = Replay(b"".join(disk.parts))
    times = [step.time for step in replay]

    assert failures == []
    assert [replay.began + time for time in times] == [now, now]
    assert str(replay.network.statistics()) == str(network.statistics())
