"""Recordings of networks that are served: when their inputs are in the file, and where they end."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
import trio
from trio.testing import MockClock

from sansnet_core.recording import RecordedNetwork, Replay
from sansnet_trio import RecordingFile
from sansnet_trio.testing import SimulatedGuest, SimulatedOptions, open_simulated_guest

SERVER: Final = "192.0.2.80"
MIN: Final = RecordingFile.MIN_SIZE


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.send_eof()


async def talk(guest: SimulatedGuest, size: int) -> None:
    """Send data to an echo server, and read it all back."""
    async with await guest.open_tcp_stream(SERVER, 80) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(bytes(size))
            await stream.send_eof()

        nursery.start_soon(send)
        got = 0
        async for data in stream:
            got += len(data)
        assert got == size


def run(work: Callable[[SimulatedGuest], Awaitable[None]], **options: Any) -> None:
    """Run some work with a guest that records, in virtual time."""

    async def main() -> None:
        known = cast("SimulatedOptions", options)
        async with open_simulated_guest(**known) as guest:
            await guest.nursery.start(guest.host.serve_tcp, echo, 80)
            await work(guest)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def replayed(path: Path) -> int:
    """The number of inputs of a recording, all of whose outputs are the same again."""
    return Replay(path.read_bytes()).run()


def test_a_path_is_recorded_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    run(lambda guest: talk(guest, 100_000), record=path)

    assert replayed(path) > 50
    assert not Path(f"{path}.1").exists()


def test_inputs_are_in_the_file_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"

    async def work(guest: SimulatedGuest) -> None:
        await talk(guest, 10)
        await trio.sleep(1.5)
        assert replayed(path) > 10

    run(work, record=path)


def test_a_full_file_begins_again_with_the_present_state(tmp_path: Path) -> None:
    """Connections are open at that moment, with data in flight."""
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path, size=MIN)) as file:
        run(lambda guest: talk(guest, 3_000_000), record=file)

    for each in (path, Path(f"{path}.1")):
        assert replayed(each) > 0
        assert each.stat().st_size < 8 * MIN


def test_each_network_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "net.rec"
    with closing(RecordingFile(path)) as file:
        for size in (10, 100_000):
            run(partial(talk, size=size), record=file)

    assert 10 < replayed(Path(f"{path}.1")) < replayed(path)


def test_a_recording_that_cannot_go_on_ends_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(guest: SimulatedGuest) -> None:
        await talk(guest, 100_000)
        await trio.sleep(3)
        assert isinstance(guest.network.core, RecordedNetwork)
        assert guest.network.core.recorded == 0
        await talk(guest, 100_000)

    with caplog.at_level(logging.WARNING):
        run(work, record="/dev/full")

    assert [record.getMessage() for record in caplog.records] == [
        "the recording ends here (No space left on device); make room for it, or record to another file"
    ]


def test_a_state_that_cannot_be_saved_ends_only_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "net.rec"

    async def work(guest: SimulatedGuest) -> None:
        monkeypatch.setattr("sansnet_core.recording.noting.save", lambda *_: 1 / 0)
        await talk(guest, 2_000_000)
        await trio.sleep(3)
        assert isinstance(guest.network.core, RecordedNetwork)
        assert guest.network.core.recorded == 0

    with closing(RecordingFile(path, size=MIN)) as file, caplog.at_level(logging.WARNING):
        run(work, record=file)

    assert [record.getMessage() for record in caplog.records] == [
        "the recording ends here (the network's state cannot be saved: ZeroDivisionError); allow more memory"
    ]
    assert replayed(Path(f"{path}.1")) > 10


def test_a_file_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    async def never(guest: SimulatedGuest) -> None:
        raise AssertionError

    before = len(os.listdir("/proc/self/fd"))
    for record in (tmp_path / "missing" / "net.rec", tmp_path / "missing" / "net.rec"):
        with pytest.raises(FileNotFoundError):
            run(never, record=record)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_file_is_closed_after_a_failure_of_the_block(tmp_path: Path) -> None:
    async def fail(guest: SimulatedGuest) -> None:
        await talk(guest, 10)
        raise ValueError("wrong")

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="wrong"):
        run(fail, record=tmp_path / "net.rec")
    assert len(os.listdir("/proc/self/fd")) == before
    assert replayed(tmp_path / "net.rec") > 10
