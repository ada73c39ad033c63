"""The last inputs in memory: bounded, and replayed from the oldest state that is left."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from sys import getsizeof
from typing import Any

import pytest

from sansnet_core.recording import Capture, RecordedNetwork, RecordingError, Replay, noting
from sansnet_core.recording.ring import Ring
from sansnet_core.testing import make_config
from tests.core.recording.sessions import Session, begun


def exchange(session: Session, count: int, size: int = 1000, pause: float = 0.05) -> None:
    """Send data there and back, with time between."""
    connection = session.connections[0]
    for _ in range(count):
        connection.send(bytes(size))
        session.wait(pause)


def with_ring(size: int, connections: int = 2) -> Session:
    session = begun(connections=connections)
    session.recorded.record(None)
    session.recorded._keep(size, session.failures.append, None)
    return session


def memory_of(network: RecordedNetwork) -> int:
    """Bytes of the ring: entries, and the payload that they refer to."""
    ring: Any = network._ring
    found = 0
    for segment in ring.segments:
        found += getsizeof(segment.entries) + len(segment.origin[2] if segment.origin else b"")
        for entry in segment.entries:
            found += getsizeof(entry)
            found += sum(getsizeof(each) for each in entry if isinstance(each, bytes))
            found += sum(getsizeof(frame) for each in entry if isinstance(each, tuple) for frame in each)
    return found


def test_the_ring_is_bounded_and_can_be_replayed_again_and_again() -> None:
    session = with_ring(400_000)
    sizes = []
    for _ in range(12):
        exchange(session, 60)
        sizes.append(memory_of(session.recorded))
        replay = Replay(session.recorded.last_inputs())
        assert replay.can_replay
        replay.run()
        assert str(replay.network.statistics()) == str(session.recorded.statistics())
        assert replay.network.flows() == session.recorded.flows()
    assert max(sizes) < 2 * 400_000
    assert replay.began > 1000.0  # not from the beginning


def test_a_network_with_much_state_has_no_checkpoints() -> None:
    session = with_ring(1_500_000, connections=250)
    exchange(session, 30)
    recording = session.recorded.last_inputs()
    replay = Replay(recording)
    assert not replay.can_replay
    assert replay.run() > 100
    with pytest.raises(RecordingError, match="begins in the middle"):
        _ = replay.network
    steps = list(Replay(recording))
    assert any(step.received for step in steps)
    replay = Replay(recording)
    capture = Capture(replay)
    captured = b"".join(capture.packets(step) for step in replay)
    assert b": receive_frames" in captured
    assert b"flow: " not in captured, "which flow a frame belongs to is not known"


def test_saving_states_takes_a_share_of_the_time() -> None:
    ring = Ring(8000, None, 0.0)
    saved: list[float] = []

    def save(limit: int) -> tuple[str, int]:
        saved.append(now)
        return "state", 20_000

    for tick in range(10_000):
        now = tick / 1000
        ring.begin_segment(now, 1000, save)
    # 20 kB take about 1 ms
    assert all(after - before >= 0.0999 for before, after in pairwise(saved))
    assert len(saved) >= 80


def test_a_copy_begins_to_keep_inputs_and_records_nothing() -> None:
    session = begun()
    network = session.recorded
    for other in (copy.copy(network), pickle.loads(pickle.dumps(network))):
        assert isinstance(other, RecordedNetwork)
        assert other.recorded == 0
        assert other.statistics() == network.statistics()
        other.handle_deadline(session.now)
        assert not Replay(other.last_inputs()).can_replay
        parts: list[bytes] = []
        other.record(parts.append)
        other.take_frames()
        other.record(None)
        assert Replay(b"".join(parts)).run() == 1


def test_the_first_state_costs_nothing() -> None:
    network = RecordedNetwork(make_config(), now=0.0, secret=bytes(16))
    assert len(network.last_inputs()) < 1000


def test_a_state_that_is_too_large_is_tried_less_and_less_often() -> None:
    ring = Ring(8000, None, 0.0)
    tried: list[float] = []

    def save(limit: int) -> None:
        tried.append(now)

    for tick in range(1000):
        now = tick / 2
        ring.begin_segment(now, 1000, save)
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert 60 <= pauses[-1] < 70


def test_a_state_with_too_many_connections_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    network = begun(connections=3).recorded
    limit = 3 * noting._LEAST_PER_FLOW
    tried: list[int | None] = []

    def save(network: RecordedNetwork, limit: int | None) -> bytes:
        tried.append(limit)
        return b"state"

    monkeypatch.setattr(RecordedNetwork, "_save", save)
    assert network._checkpoint(limit - 1) is None
    assert not tried
    assert network._checkpoint(limit) is not None
    assert tried == [limit]


@pytest.mark.parametrize("quiet", [False, True])
def test_each_connection_makes_the_state_larger_by_the_least_size(quiet: bool) -> None:
    sizes = []
    for count in (10, 40):
        session = begun(connections=count)
        if quiet:
            session.wait(3.0)
            assert all(flow.resting for flow in session.recorded._tcp._flows.values())
        sizes.append(len(session.recorded._save(None)))
    assert sizes[1] - sizes[0] >= 30 * noting._LEAST_PER_FLOW
