"""When TCP memory is short: what is freed, what is accepted all the same, and which streams are resumed."""

from __future__ import annotations

from errno import ECONNRESET

import pytest

from sansnet_core import Limits, LinkConfig, ResumeStream, SendStream
from sansnet_core.proto.tcp.memory import MIN_ROOM
from sansnet_core.testing import HostStream, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, PSH, RST
from tests.core.recording.accounts import wrong_accounts

LARGE = LinkConfig(mtu=65520, max_frame_size=65535)


def _connections(pair: Pair, count: int, *, scale: int | None = 7) -> list[tuple[ManualConnection, HostStream]]:
    found = []
    for port in range(50_000, 50_000 + count):
        peer = ManualConnection(pair, port=port)
        peer.open(mss=1460, scale=scale)
        pair.host.stream.blocked = True
        found.append((peer, pair.host.stream))
    return found


def _hold(pair: Pair, stream: HostStream, size: int) -> None:
    """The host sends data that the guest does not acknowledge."""
    pair.network.stream_received(stream.socket, bytes(size), pair.now)
    pair._outputs(pair.now)


def _resumed(pair: Pair) -> list[int]:
    return [order.socket for order in pair.host.orders if isinstance(order, ResumeStream)]


@pytest.mark.parametrize(("count", "memory"), [(1, 30_000), (8, 400_000), (30, 100_000)])
def test_what_fills_a_gap_finds_room_although_all_memory_lies_beyond_gaps(count: int, memory: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=memory, tcp_window=65536)))
    connections = _connections(pair, count)
    for number in range(1, 46):
        for peer, _ in connections:
            peer.send(ACK | PSH, bytes(1400), sequence=peer.sequence + 1400 * number)
    assert memory - 1500 < pair.network.statistics().tcp_held <= memory
    for peer, stream in connections:
        stream.blocked = False
        for answer in peer.send(ACK | PSH, bytes(1400)):
            assert answer.acknowledgment >= peer.sequence + 1400

    assert all(len(stream.received) >= 1400 for _, stream in connections)


RESERVE = 16384
"""Bytes in order that each connection may hold at the limit (docs/tcp.md)."""


def _dropped(pair: Pair) -> dict[str, int]:
    return {reason.name: count for reason, count in pair.network.statistics().drops.items() if count}


def test_a_segment_larger_than_the_reserve_is_taken_whole_if_nothing_is_held() -> None:
    """Else the guest repeats the rest after its timeout, which doubles for each segment."""
    pair = Pair(make_config(LARGE, Limits(tcp_memory=100_000)))
    (_, other), (peer, stream) = _connections(pair, 2)
    _hold(pair, other, 100_000)
    (answer,) = peer.send(ACK | PSH, bytes(60_000))
    assert answer.acknowledgment - peer.sequence == 60_000 == len(stream.unsent)
    assert _dropped(pair) == {}


def test_beyond_an_eighth_of_the_limit_it_is_taken_in_part() -> None:
    """It must not be refused as a whole, for the guest repeats it in the same size."""
    pair = Pair(make_config(LARGE, Limits(tcp_memory=100_000)))
    (_, other), (second, _), (peer, stream) = _connections(pair, 3)
    _hold(pair, other, 100_000)
    second.send(ACK | PSH, bytes(60_000))
    (answer,) = peer.send(ACK | PSH, bytes(60_000))
    assert answer.acknowledgment - peer.sequence == RESERVE == len(stream.unsent)
    assert _dropped(pair) == {"TCP_MEMORY": 1}


def test_what_overlaps_the_gap_counts_as_in_order() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=30_000)))
    (_, other), (peer, _) = _connections(pair, 2)
    peer.data(b"known")
    _hold(pair, other, 29_990)
    peer.send(ACK | PSH, b"known and new", sequence=peer.sequence - 5)
    pair.wait(0.01)

    assert peer.take()[-1].acknowledgment == peer.sequence + 8


@pytest.mark.parametrize("distance", [-1400, -1399, -5, 0, 1, 1400])
def test_nothing_is_taken_once_memory_and_the_reserve_are_used_up(distance: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=40_000)))
    (_, other), (peer, stream) = _connections(pair, 2)
    for _ in range(20):
        peer.data(bytes(1000))
    _hold(pair, other, 25_000)
    pair.wait(0.1)
    peer.take()
    (answer,) = peer.send(ACK | PSH, bytes(1400), sequence=peer.sequence + distance)

    assert (answer.acknowledgment, answer.sack) == (peer.sequence, ())
    assert len(stream.unsent) == 20_000


@pytest.mark.parametrize("room", [1399, 1400])
def test_a_piece_that_memory_has_just_room_for_is_kept_instead_of_others(room: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=30_000)))
    (_, other), (first, _), (second, _) = _connections(pair, 3)
    first.send(ACK | PSH, bytes(1400), sequence=first.sequence + 1400)
    _hold(pair, other, 30_000 - pair.network.statistics().tcp_held - room)
    (answer,) = second.send(ACK | PSH, bytes(1400), sequence=second.sequence + 1400)

    assert answer.sack == (((second.sequence + 1400, second.sequence + 2800),) if room == 1400 else ())


@pytest.mark.parametrize("options", [b"", b"\1\1\1\1"], ids=["predicted", "with options"])
@pytest.mark.parametrize(
    ("size", "padding", "is_copied"),
    [
        (1, 4, True),
        (1023, 4, True),
        (1024, 4, False),
        (1456, 4, False),
        (2000, 1945, False),
        (2000, 1946, False),
        (2000, 1948, True),
    ],
)
def test_a_payload_that_is_short_or_less_than_half_of_its_frame_is_copied(
    size: int, padding: int, is_copied: bool, options: bytes
) -> None:
    """So the memory that a frame holds is at most about twice as much as is counted."""
    pair = Pair(make_config(LARGE))
    ((peer, _),) = _connections(pair, 1)
    segment = peer.segment(ACK, bytes(size), raw_options=options)
    frame = pair.guest._ethernet(segment.ip()) + bytes(padding - len(options))
    pair.network.receive_frames([frame], pair.now)
    (data,) = (order.data for order in pair.network.take_orders() if isinstance(order, SendStream))

    assert len(data) == size
    assert isinstance(data, bytes) == is_copied


def test_what_is_held_for_the_guest_does_not_use_up_the_reserve_towards_the_host() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=100_000)))
    (_, other), (peer, stream) = _connections(pair, 2)
    _hold(pair, stream, 17_000)
    _hold(pair, other, 83_000)
    stream.blocked = False
    for _ in range(20):
        peer.data(bytes(1000))

    assert len(stream.received) == 20_000


def test_pieces_are_given_up_by_all_connections_in_turn_and_the_last_first() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=100_000)))
    (_, other), *connections = _connections(pair, 4)
    for number in range(1, 11):
        for peer, _ in connections:
            peer.send(ACK | PSH, bytes([number]) * 1400, sequence=peer.sequence + 1400 * number)
    _hold(pair, other, 70_000)
    assert pair.network.statistics().tcp_held <= 100_000
    assert wrong_accounts(pair.network) == []
    for peer, stream in connections:
        stream.blocked = False
        peer.send(ACK | PSH, bytes(1400))
        assert 1400 * 6 <= len(stream.received) <= 1400 * 8
        assert bytes(stream.received) == b"".join(
            bytes([number]) * 1400 for number in range(len(stream.received) // 1400)
        )


def test_pieces_that_were_given_up_are_no_longer_reported() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=20_000)))
    (_, other), (peer, _) = _connections(pair, 2)
    start = peer.sequence
    for number in range(1, 11):
        answers = peer.send(ACK | PSH, bytes(1400), sequence=start + 1400 * number)
    assert answers[-1].sack == ((start + 1400, start + 1400 * 11),)
    _hold(pair, other, 12_000)
    answers = peer.send(ACK | PSH, bytes(1400), sequence=start + 1400)

    ((first, last),) = answers[-1].sack
    assert (first, last) == (start + 1400, start + 1400 * 6)


def test_a_refused_stream_is_resumed_as_soon_as_there_is_room() -> None:
    """Half of the memory is held and never freed; the other half has room."""
    pair = Pair(make_config(limits=Limits(tcp_memory=200_000)))
    (_, stays), (leaves, leaving), (_, waits) = _connections(pair, 3)
    _hold(pair, stays, 100_000)
    _hold(pair, leaving, 99_500)
    assert pair.network.receive_budget(waits.socket) == 0
    leaves.send(RST)

    assert waits.socket in _resumed(pair)
    assert pair.network.receive_budget(waits.socket) > 0


def test_streams_are_resumed_in_the_order_in_which_they_were_refused() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=60_000)))
    (peer, hog), *victims = _connections(pair, 13)
    _hold(pair, hog, 60_000)
    refused = [stream.socket for _, stream in victims[5:] + victims[:5]]
    for socket in refused:
        assert pair.network.receive_budget(socket) == 0
    pair.host.orders.clear()
    peer.send(RST)

    assert _resumed(pair) == refused


def test_a_stream_whose_guest_takes_no_more_does_not_wait_for_memory() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=126_000)))
    (peer, hog), (_, full), (_, other) = _connections(pair, 3, scale=None)
    _hold(pair, full, 65_000)
    _hold(pair, hog, 60_000)
    assert [pair.network.receive_budget(stream.socket) for stream in (full, other)] == [0, 0]
    pair.host.orders.clear()
    peer.expected += 1500
    peer.send()
    assert _resumed(pair) == [other.socket]


def test_room_is_kept_for_a_stream_that_was_resumed_until_it_has_read() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=60_000)))
    (peer, hog), (_, resumed), (_, other) = _connections(pair, 3)
    _hold(pair, hog, 60_000)
    assert pair.network.receive_budget(resumed.socket) == 0
    peer.expected += 30_000
    peer.send()
    assert _resumed(pair)[-1:] == [resumed.socket]
    assert pair.network.receive_budget(other.socket) == 30_000 - MIN_ROOM
    assert pair.network.receive_budget(resumed.socket) == 30_000
    _hold(pair, other, 500)
    _hold(pair, resumed, 500)
    assert pair.network.receive_budget(other.socket) == 29_000


def test_connections_that_are_over_wait_no_more() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=60_000)))
    (_, hog), (refused, waits), (promised, resumed) = _connections(pair, 3)
    _hold(pair, hog, 60_000)
    assert pair.network.receive_budget(waits.socket) == 0
    refused.send(RST)
    assert wrong_accounts(pair.network) == []
    assert pair.network.receive_budget(resumed.socket) == 0
    pair.host.orders.clear()
    pair.host.fail(hog, ECONNRESET, pair.now)
    pair.settle()
    assert _resumed(pair) == [resumed.socket]
    promised.send(RST)
    assert wrong_accounts(pair.network) == []
    assert pair.network.statistics().tcp_held == 0


def test_no_more_streams_are_resumed_at_once_than_there_is_room_for() -> None:
    """Otherwise each byte that is freed would wake all of them."""
    pair = Pair(make_config(limits=Limits(tcp_memory=60_000)))
    (peer, hog), *victims = _connections(pair, 20)
    _hold(pair, hog, 60_000)
    for _, stream in victims:
        pair.host.produce(stream, bytes(100_000))
    pair.settle()
    pair.host.orders.clear()
    peer.send(acknowledgment=peer.expected + 3000)

    assert 2 <= len(_resumed(pair)) <= 4


def test_streams_behind_idle_ones_are_resumed_soon() -> None:
    """The streams at the head of the queue have nothing to read, and no other event follows."""
    pair = Pair(make_config(limits=Limits(tcp_memory=60_000)))
    (peer, hog), *victims = _connections(pair, 20)
    _hold(pair, hog, 60_000)
    pair.settle()
    pair.host.produce(victims[-1][1], bytes(1000))
    peer.send(acknowledgment=peer.expected + 1500)
    pair.wait(0.1)

    assert not victims[-1][1].incoming


def test_a_stream_that_asks_for_memory_behind_an_idle_one_is_resumed_soon() -> None:
    """The room is promised to a stream with nothing to read. No other event follows, and no timer runs."""
    pair = Pair(make_config(limits=Limits(tcp_memory=8000)))
    (peer, hog), (_, idle), (_, victim) = _connections(pair, 3)
    hog.paused = idle.paused = victim.paused = True  # they ask when the test does
    for _ in range(5):
        peer.data(bytes(1400))
    assert pair.network.receive_budget(idle.socket) == 0
    pair.network.stream_sent(hog.socket, 1000, pair.now)
    pair._outputs(pair.now)
    assert _resumed(pair)[3:] == [idle.socket]
    idle.paused = True
    pair.wait(5)

    assert pair.network.receive_budget(victim.socket) == 0
    deadline = pair.network.next_deadline()
    assert deadline is not None
    assert deadline <= pair.now
    pair.wait(0.002)
    assert _resumed(pair)[4:] == [victim.socket]


def test_streams_take_turns() -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=6000)))
    connections = [pair.connect() for _ in range(20)]
    pair.drive(lambda: all(connection.established for connection in connections))
    for stream in pair.host.streams.values():
        pair.host.produce(stream, bytes(1 << 20))
    pair.drive(lambda: len(connections[0].received) > 100_000)

    assert min(len(connection.received) for connection in connections) > 50_000


@pytest.mark.parametrize("memory", [1, 10, 1000, 1459, 1460])
def test_memory_below_a_segment_is_used(memory: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=memory)))
    connection, stream = pair.established()
    pair.host.produce(stream, bytes(3000))
    connection.send(bytes(3000))
    pair.drive(lambda: len(connection.received) == len(stream.received) == 3000)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_window_of_a_byte_or_two_opens_by_itself(window: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=window)))
    connection, stream = pair.established()
    stream.blocked = True
    connection.send(bytes(20))
    pair.settle()
    stream.blocked = False
    pair.drive(lambda: len(stream.received) == 20)

    assert connection.probes == 0


@pytest.mark.parametrize(("size", "taken"), [(RESERVE, RESERVE), (RESERVE + 1, RESERVE), (60_000, RESERVE), (1, 1)])
def test_at_the_limit_exactly_the_reserve_is_taken(size: int, taken: int) -> None:
    pair = Pair(make_config(LARGE, Limits(tcp_memory=100_000)))
    (_, other), (second, _), (peer, stream) = _connections(pair, 3)
    _hold(pair, other, 100_000)
    second.send(ACK | PSH, bytes(60_000))
    answers = peer.send(ACK | PSH, bytes(size))
    pair.wait(0.1)  # little data is acknowledged later
    (answer,) = answers or peer.take()
    assert answer.acknowledgment - peer.sequence == taken == len(stream.unsent)
    assert _dropped(pair) == ({"TCP_MEMORY": 1} if taken < size else {})


def test_what_is_known_already_takes_nothing_of_the_reserve() -> None:
    pair = Pair(make_config(LARGE, Limits(tcp_memory=100_000)))
    (_, other), (peer, stream) = _connections(pair, 2)
    _hold(pair, other, 100_000)
    peer.data(bytes(10_000))
    (answer,) = peer.send(ACK | PSH, bytes(10_000 + RESERVE), sequence=peer.sequence - 10_000)
    assert answer.acknowledgment - peer.sequence == RESERVE - 10_000
    assert len(stream.unsent) == RESERVE
    assert _dropped(pair) == {"TCP_MEMORY": 1}
    peer.sequence = answer.acknowledgment
    (answer,) = peer.send(ACK | PSH, bytes(100))  # none is left
    assert answer.acknowledgment == peer.sequence
    (answer,) = peer.send(ACK | PSH, bytes(100), sequence=peer.sequence - 50)
    assert answer.acknowledgment == peer.sequence
    assert len(stream.unsent) == RESERVE


@pytest.mark.parametrize("gap", [1, 1400])
def test_at_the_limit_nothing_is_kept_beyond_a_gap(gap: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_memory=100_000)))
    (_, other), (peer, stream) = _connections(pair, 2)
    _hold(pair, other, 99_900)
    (answer,) = peer.send(ACK | PSH, bytes(101), sequence=peer.sequence + gap)
    assert answer.acknowledgment == peer.sequence
    assert answer.sack == ()
    assert _dropped(pair) == {"TCP_MEMORY": 1}
    assert not stream.unsent
