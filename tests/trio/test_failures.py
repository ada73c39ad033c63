"""Mistakes in the core while a network is served: one flow is lost, the others go on, and the file shows why."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from sansnet_core.orders import Buffer
from sansnet_core.proto.frames import Frames
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.prediction import Prediction
from sansnet_core.recording import Replay, ReplayDifference
from sansnet_trio import NetworkFailed
from sansnet_trio.recording.failures import FailureReports
from sansnet_trio.testing import SimulatedGuest, open_simulated_guest

SERVER: Final = "192.0.2.80"
BOMB: Final = b"BOOM"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process without failures, and a home for their files."""
    monkeypatch.setattr(FailureReports, "_files", 0)
    monkeypatch.setattr(FailureReports, "_lines", 0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture(params=["ordinary path", "short cut"])
def broken(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A core that cannot handle certain data of a guest, on one of the two paths of a segment."""
    deliver, take = TcpFlow.deliver, Prediction.take

    def wrong(self: TcpFlow, ready: list[Any], taken: int, kept: int) -> None:
        if any(BOMB in bytes(piece) for piece in ready):
            raise ZeroDivisionError("injected")
        deliver(self, ready, taken, kept)

    def wrong_too(self: Prediction, flow: TcpFlow, frame: Buffer, *numbers: int) -> bool:
        taken = take(self, flow, frame, *numbers)
        if taken and BOMB in bytes(frame):
            raise ZeroDivisionError("injected")
        return taken

    if request.param == "short cut":
        monkeypatch.setattr(Prediction, "take", wrong_too)
    else:
        monkeypatch.setattr(TcpFlow, "deliver", wrong)
        monkeypatch.setattr(Prediction, "take", lambda *_: False)  # the short cut delivers by itself


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    with suppress(trio.BrokenResourceError):  # the flow was given up
        while data := await stream.receive_some():
            await stream.send_all(data)


def run(work: Callable[[SimulatedGuest], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_simulated_guest() as guest:
            await guest.nursery.start(guest.host.serve_tcp, echo, 80)
            await work(guest)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def answered(stream: trio.abc.Stream, data: bytes) -> bool:
    await stream.send_all(data)
    got = b""
    while len(got) < len(data):
        got += await stream.receive_some()
    return got == data


@pytest.mark.interpreted
def test_one_flow_is_lost_and_the_others_go_on(broken: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(guest: SimulatedGuest) -> None:
        streams = [await guest.open_tcp_stream(SERVER, 80) for _ in range(20)]
        for stream in streams:
            assert await answered(stream, b"hello")
        victim = streams.pop(7)
        await victim.send_all(BOMB)
        with pytest.raises(trio.BrokenResourceError):
            await victim.receive_some()
        for stream in streams:
            assert await answered(stream, b"again")
        assert len(guest.network.flows()) == 19
        assert await answered(await guest.open_tcp_stream(SERVER, 80), b"new")

    with caplog.at_level(logging.WARNING):
        run(work)

    (record,) = caplog.records
    assert record.getMessage().startswith("a mistake in sansnet ended ")
    assert "ZeroDivisionError in " in record.getMessage()
    assert "; the network goes on; please report it with the file " in record.getMessage()
    (path,) = tmp_path.rglob("*.rec")
    steps = list(Replay(path.read_bytes()))
    assert next(step.raised for step in steps if step.raised).startswith("ZeroDivisionError: injected")


@pytest.mark.interpreted
def test_without_the_mistake_the_replay_differs(
    broken: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So developers see from the file whether a mistake is corrected."""

    async def work(guest: SimulatedGuest) -> None:
        stream = await guest.open_tcp_stream(SERVER, 80)
        await stream.send_all(BOMB)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    run(work)
    monkeypatch.undo()
    (path,) = tmp_path.rglob("*.rec")
    with pytest.raises(ReplayDifference, match="ZeroDivisionError"):
        Replay(path.read_bytes()).run()


def test_a_mistake_outside_of_flows_loses_a_packet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(guest: SimulatedGuest) -> None:
        stream = await guest.open_tcp_stream(SERVER, 80)
        with monkeypatch.context() as changed:
            changed.setattr(Frames, "receive", lambda *_: 1 / 0)
            guest.link.send([bytes(60)])
            await trio.sleep(0.01)
        assert await answered(stream, b"hello")
        assert sum(guest.network.statistics().drops.values()) >= 1

    with caplog.at_level(logging.WARNING):
        run(work)

    assert caplog.records[0].getMessage().startswith("a mistake in sansnet lost a packet (ZeroDivisionError in ")


@pytest.mark.interpreted
def test_many_mistakes_end_the_network_with_one_sentence(broken: None, caplog: pytest.LogCaptureFixture) -> None:
    async def work(guest: SimulatedGuest) -> None:
        for _ in range(100):
            stream = await guest.open_tcp_stream(SERVER, 80)
            await stream.send_all(BOMB)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    with pytest.raises(NetworkFailed, match="a mistake in sansnet ended the network") as caught:
        run(work)

    assert "\n" not in str(caught.value)
    assert len(caplog.records) <= 10
