"""A recording that is replayed gives the same outputs, from wherever it begins."""

from __future__ import annotations

import inspect
import pickle
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core import LinkConfig, Network, Reason, Rule, SendStream, SocketId
from sansnet_core.errors import ConfigError, UsageError
from sansnet_core.policy import Action
from sansnet_core.recording import Capture, RecordedNetwork, RecordingError, Replay, ReplayDifference, conversation
from sansnet_core.recording.calls import ARGUMENTS, METHODS, Call, Ending, Raised
from sansnet_core.recording.differences import difference_texts, outcome_text
from sansnet_core.recording.format import Counted
from sansnet_core.recording.texts import value_text
from sansnet_core.recording.values import Digest
from sansnet_core.records import replace
from sansnet_core.summary import summary
from sansnet_core.testing import OUTSIDER, Impairment, make_config
from tests.core.recording.sessions import SESSIONS, SETUPS, Session, begun

OFFLOADS: Final = LinkConfig(
    mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
)
OUTPUTS: Final = ("next_deadline", "flows", "statistics", "stream_endpoints", "program_addresses")
OUTPUTS_TOO: Final = ("stream_unacknowledged",)


def finished(name: str) -> Session:
    session = Session(*SETUPS[name])
    SESSIONS[name](session)
    session.recorded.record(None)
    return session


def test_every_method_that_changes_a_network_is_recorded() -> None:
    """With its arguments by the same names, `now` apart."""
    public = {name: method for name, method in inspect.getmembers(Network, callable) if not name.startswith("_")}
    assert set(METHODS.values()) == public.keys() - {*OUTPUTS, *OUTPUTS_TOO}
    assert list(METHODS) == list(range(1, 1 + len(METHODS)))
    for number, name in METHODS.items():
        parameters = inspect.signature(public[name]).parameters
        assert inspect.signature(getattr(RecordedNetwork, name)) == inspect.signature(public[name])
        assert set(ARGUMENTS[number]) == parameters.keys() - {"self", "now"}, name


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_replayed(name: str) -> None:
    session = finished(name)
    replay = Replay(b"".join(session.recording))
    replay.run()
    assert replay.differences == 0
    assert str(replay.network.statistics()) == str(session.recorded.statistics())
    assert replay.network.flows() == session.recorded.flows()
    assert replay.network.next_deadline() == session.recorded.next_deadline()


@pytest.mark.parametrize("name", SESSIONS)
def test_the_last_inputs_are_replayed(name: str) -> None:
    session = finished(name)
    replay = Replay(session.recorded.last_inputs())
    replay.run()
    assert str(replay.network.statistics()) == str(session.recorded.statistics())


@pytest.mark.parametrize("link", [None, LinkConfig(mtu=65520), OFFLOADS], ids=["small", "large", "offloads"])
def test_losses_and_all_links(link: LinkConfig | None) -> None:
    impaired = Impairment(loss=0.05, delay=0.01, jitter=0.01)
    session = begun(make_config(link), 3, up=impaired, down=impaired, seed=5)
    for connection in session.connections:
        connection.send(bytes(range(256)) * 400)
        connection.shutdown()
    session.drive(lambda: all(one.closed for one in session.connections))
    session.recorded.record(None)
    replay = Replay(b"".join(session.recording))
    replay.run()
    assert str(replay.network.statistics()) == str(session.recorded.statistics())


@settings(max_examples=30)
@given(data=st.data())
def test_a_recording_may_begin_at_any_input_and_come_in_any_pieces(data: st.DataObject) -> None:
    session = begun(connections=2)
    session.recorded.record(None)
    recordings: list[list[bytes]] = []
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=5))
    for size in sizes:
        recordings.append([])
        session.recorded.record(recordings[-1].append)
        session.connections[0].send(bytes(size))
        session.drive(lambda: len(session.connections[0].received) == sum(sizes[: len(recordings)]))
        states = str(session.recorded.statistics())
    session.recorded.record(None)
    for recording in recordings:
        whole = b"".join(recording)
        step = data.draw(st.integers(1, len(whole)))
        replay = Replay(whole[at : at + step] for at in range(0, len(whole), step))
        replay.run()
    assert str(replay.network.statistics()) == states


def test_a_replay_stops_where_it_is_told_to() -> None:
    session = finished("plain")
    recording = b"".join(session.recording)
    replay = Replay(recording)
    assert replay.run(until=7) == 7
    assert replay.number == 7
    following = next(replay)
    assert following.number == 8
    whole = Replay(recording)
    times = [step.time for step in whole]
    assert times[0] == 0.0
    assert all(before <= after for before, after in pairwise(times))
    middle = times[len(times) // 2]
    stopped = Replay(recording)
    last = stopped.run(at=middle)
    assert times[last - 1] <= middle
    assert stopped.run() == whole.number


def test_a_difference_names_the_input_and_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    session = finished("plain")
    recording = b"".join(session.recording)
    right = Network.take_orders
    taken: list[int] = []

    def wrong(self: Network) -> Any:
        orders = right(self)
        taken.append(len(orders))
        return orders[1:] if len(taken) == 3 and orders else orders

    steps = [step for step in Replay(recording) if step.method == "take_orders"]
    third = next(number for number, step in enumerate(steps, 1) if step.orders)
    taken.extend([0] * (3 - third))
    monkeypatch.setattr(Network, "take_orders", wrong)
    replay = Replay(recording)
    with pytest.raises(ReplayDifference) as raised:
        replay.run()
    assert raised.value.number == steps[third - 1].number
    assert "OpenStream(socket=" in raised.value.recorded
    assert raised.value.call == "take_orders()"
    assert str(raised.value) == (
        f"input {raised.value.number}, take_orders(): {raised.value.where}: "
        f"the recording has {raised.value.recorded}, the replay has {raised.value.replayed}"
    )
    assert raised.value.where.startswith("order 1 of ")
    del taken[:]
    taken.extend([0] * (3 - third))
    on = Replay(recording, stop_at_difference=False)
    on.run()
    assert on.differences >= 1


def test_the_first_frame_that_differs_is_shown() -> None:
    session = finished("plain")
    frames = next(step.frames for step in Replay(b"".join(session.recording)) if len(step.frames) > 1)
    old = [b"".join(frame) if isinstance(frame, tuple) else bytes(frame) for frame in frames]
    changed = bytearray(old[1])
    changed[10] ^= 1
    new = [old[0], bytes(changed), *old[2:], old[0]]
    count = len(new)

    def texts(before: list[bytes], after: list[bytes]) -> tuple[str, str, str]:
        return difference_texts(Call.TAKE_FRAMES, (before,), (after,), vnet=False)

    where, recorded, replayed = texts(old, new)
    assert where == f"frame 2 of {count} differs at byte 10"
    assert recorded == f"`{summary(old[1])}`, {len(old[1])} bytes"
    assert replayed.endswith(f"`, {len(old[1])} bytes")
    assert texts(old, [*old, old[0]]) == (
        f"frame {count} of {count} differs",
        "none",
        f"`{summary(old[0])}`, {len(old[0])} bytes",
    )
    long = bytes(200)
    assert texts([long], [long[:-1] + b"x"])[0] == "frame 1 of 1 differs after byte 96"
    assert texts([long], [long + b"x"])[0] == "frame 1 of 1 differs after byte 96"
    assert texts([long], [long]) == ("", *[outcome_text(Call.TAKE_FRAMES, ([long],))] * 2)
    parted: Any = (long[:50], memoryview(long)[50:])
    assert texts([parted], [long])[0] == "", "a frame may come in two parts"
    assert outcome_text(Call.TAKE_ORDERS, (Counted(1),)) == "1 order"


def test_misuse_is_replayed() -> None:
    recording: list[bytes] = []
    config = make_config()
    network: Any = RecordedNetwork(config, now=5, secret=bytes(16))
    network.record(recording.append)
    wrong: list[Any] = [
        lambda: network.receive_frames([bytes(60), bytearray(60)], 6),
        lambda: network.receive_frames(b"frame", 6),
        lambda: network.receive_frames(None, 6),
        lambda: network.handle_deadline(4),
        lambda: network.handle_deadline(float("nan")),
        lambda: network.stream_sent("socket", 1, 7),
        lambda: network.flow_decided(1, object(), 7),
        lambda: network.stream_received(1, bytearray(4), 7),
        lambda: network.stream_accepted(None, None, 80, 7),
        lambda: network.stream_connected("socket", 7),
        lambda: network.stream_failed("socket", 1, None, 7),
        lambda: network.datagram_received("socket", None, b"", 0, 64, 0, 7),
        lambda: network.echo_received("socket", None, 1, b"", 64, 0, 7),
        lambda: network.service_sent("socket", None, None, b"", 7),
        lambda: network.stream_opened(1, None, 80, 7),
        lambda: network.receive_budget("socket"),
    ]
    for call in wrong:
        with pytest.raises(UsageError):
            call()
    with pytest.raises(ConfigError):
        network.reconfigure(replace(config, mac="02:00:00:00:00:99"), 8)
    network.take_frames()
    network.record(None)
    replay = Replay(b"".join(recording))
    steps = list(replay)
    assert sum(step.raised is not None for step in steps) == len(wrong) + 1
    assert replay.network.statistics() == network.statistics()


def test_arguments_may_have_any_form() -> None:
    from ipaddress import ip_address, ip_network

    recording: list[bytes] = []
    network = RecordedNetwork(replace(make_config(), virtual=("10.9.0.0/16",)), now=5.0, secret=bytes(16))
    network.record(recording.append)
    network.forward_added("10.0.2.15", 4000, 5.0, {4, 16})
    network.service_added(17, ip_network("10.9.0.0/24"), 53, 5.5)
    network.stream_opened(None, ip_address("10.0.2.15"), 80, 5.5)
    network.receive_frames((memoryview(bytes(60)) for _ in range(2)), 6.0)
    network.report_notices(True)
    network.reconfigure(replace(network.config, rules=[Rule(action=Action.REFUSE, label="no")]), 6.0, moved=True)
    network.take_orders()
    network.take_frames()
    network.record(None)
    replay = Replay(b"".join(recording))
    assert replay.run() == 8
    assert replay.network.statistics() == network.statistics()
    assert replay.network.config.rules[0].label == "no"


def test_the_conversation_has_a_line_for_each_frame_and_order() -> None:
    session = finished("plain")
    lines = [line for step in Replay(b"".join(session.recording)) for line in conversation(step)]
    assert sum(" guest  < " in line for line in lines) == session.recorded.statistics().frames_sent
    assert sum(" guest  > " in line for line in lines) == session.recorded.statistics().frames_received
    assert sum(" order    " in line for line in lines) == len(session.host.orders)
    assert any("order    OpenStream(socket=" in line for line in lines)
    assert any("fact     stream_accepted(remote=198.51.100.7:34567" in line for line in lines)
    assert any("notice   tcp " in line for line in lines)
    assert any("Flags [S]" in line for line in lines)


def test_the_conversation_leaves_out_the_header_of_offloads() -> None:
    session = begun(make_config(OFFLOADS))
    session.recorded.record(None)
    lines = [line for step in Replay(b"".join(session.recording)) for line in conversation(step)]
    assert any("guest  > IP 10.0.2.15." in line and "Flags [S]" in line for line in lines)


def test_the_conversation_shows_a_frame_without_the_whole_header() -> None:
    session = begun(make_config(OFFLOADS))
    session.recorded.receive_frames([bytes(5)], session.now)
    session.recorded.record(None)
    lines = [line for step in Replay(b"".join(session.recording)) for line in conversation(step)]
    assert [line for line in lines if line.endswith("guest  > 5 bytes, shorter than virtio_net_hdr")]


@pytest.mark.parametrize("link", [None, OFFLOADS], ids=["plain", "offloads"])
def test_a_capture_tells_why_packets_were_dropped(link: LinkConfig | None, tmp_path: Any) -> None:
    scapy = pytest.importorskip("scapy.utils")
    session = begun(make_config(link))
    session.connections[0].send(b"data" * 100)
    session.drive(lambda: len(session.connections[0].received) == 400)
    head = bytes(12) if session.config.link.vnet_header else b""
    session.recorded.receive_frames([head + b"\xff" * 6 + bytes(6) + b"\x08\x00" + bytes(46)], session.now)
    session._outputs(session.now)
    session.recorded.record(None)
    replay = Replay(b"".join(session.recording))
    capture = Capture(replay)
    file = tmp_path / "replay.pcapng"
    file.write_bytes(capture.header + b"".join(capture.packets(step) for step in replay))

    packets = scapy.rdpcap(str(file))
    statistics = session.recorded.statistics()
    assert len(packets) == statistics.frames_received + statistics.frames_sent
    comments = [b"\n".join(packet.comments or ()).decode() for packet in packets]
    assert all("input " in comment for comment in comments)
    dropped = [comment for comment in comments if "dropped: " in comment]
    assert len(dropped) == 1
    assert f"dropped: IPV4_MALFORMED: {Reason.IPV4_MALFORMED.value}" in dropped[0]
    assert any("order: SendStream(socket=1" in comment and "flow: 1: tcp 10.0.2.15:" in comment for comment in comments)
    assert packets[0].time == pytest.approx(1_700_000_000 + 1000, abs=0.01)


def test_a_recording_begins_with_what_it_needs() -> None:
    session = begun()
    replay = Replay(b"".join(session.recording))
    assert replay.config == session.config
    assert replay.began == 1000.0
    assert replay.epoch == 1_700_000_000.0
    assert replay.can_replay
    assert Call.TAKE_FRAMES in METHODS


def test_a_network_that_does_not_record_writes_nothing() -> None:
    network = RecordedNetwork(make_config(), now=1.0, secret=bytes(16), ring=0)
    network.take_frames()
    network.flush_recording()
    assert network.recorded == 0
    assert network.last_inputs() == b""
    parts: list[bytes] = []
    network.record(parts.append)
    size = network.recorded
    network.take_frames()
    assert network.recorded > size
    assert sum(map(len, parts)) == size
    network.flush_recording()
    assert sum(map(len, parts)) > size


@pytest.mark.parametrize("error", [RecordingError("wrong", 7), ReplayDifference(3, "take_orders()", "one", "none")])
def test_errors_are_copied(error: Exception) -> None:
    """Such as from one process to another."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_orders_and_arguments_have_texts() -> None:
    assert value_text(OUTSIDER) == "198.51.100.7:34567"
    assert value_text((OUTSIDER.address, bytes(5), memoryview(bytes(3)), Digest(9, b"", 0))) == (
        "(198.51.100.7, <5 bytes>, <3 bytes>, <9 bytes>)"
    )
    assert value_text(tuple(range(6))) == "(0, 1, 2, 3, ... 2 more)"
    data: Any = Digest(9, b"", 0)
    assert value_text(SendStream(SocketId(5), data)) == "SendStream(socket=5, data=<9 bytes>)"
    assert repr(Digest(20, bytes(20), 1)) == f"<20 bytes {'00' * 16}... sum 00000001>"


def test_a_replay_does_not_go_back() -> None:
    replay = Replay(b"".join(finished(next(iter(SESSIONS))).recording))
    last = replay.run()
    assert replay.ended
    assert replay.run(until=last) == last
    with pytest.raises(UsageError, match=f"until: 1 is before the last input, {last}; begin another Replay"):
        replay.run(until=1)
    with pytest.raises(UsageError, match="at: -1 is before the last input, at "):
        replay.run(at=-1)


def test_a_difference_has_no_lines_of_code() -> None:
    raised = Raised(Ending.RECOVERED, "KeyError", "5\n  File core.py\n    x[5]")
    assert outcome_text(Call.GUEST_ATTACHED, (raised,)) == "KeyError: 5"
