"""Windows in both directions: scaled, respected, closed, probed and opened again."""

from __future__ import annotations

import itertools

import pytest

from sansnet_core import Limits, ResumeStream
from sansnet_core.testing import GuestTcpOptions, HostScript, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, PSH


def test_a_window_of_16_mib_is_used_in_full() -> None:
    pair = Pair(make_config(limits=Limits(tcp_send_buffer=32 << 20)))
    peer = ManualConnection(pair)
    peer.open(scale=8)
    peer.send(window=65535)
    pair.host.produce(pair.host.stream, bytes(20 << 20))
    pair.settle()
    sent = sum(len(segment.payload) for segment in peer.take())

    assert sent <= 65535 << 8
    assert sent > (65535 << 8) - 1460


def test_only_the_last_segment_of_what_is_there_has_push() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=1000)
    pair.network.stream_received(pair.host.stream.socket, bytes(2500), pair.now)
    pair._outputs(pair.now)
    pair.settle()

    assert [(segment.flags, len(segment.payload)) for segment in peer.take()] == [
        (ACK, 1000),
        (ACK, 1000),
        (ACK | PSH, 500),
    ]


def test_a_window_of_16_mib_is_offered() -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=16 << 20)))
    peer = ManualConnection(pair)
    syn_ack = peer.open()
    assert syn_ack.scale is not None
    for _ in range(20):
        answers = peer.data(bytes(1460))
    pair.wait(1.0)
    (last, *_) = reversed([*answers, *peer.take()])

    assert last.window << syn_ack.scale >= (16 << 20) - (1 << syn_ack.scale) - 2920


@pytest.mark.parametrize(
    ("limit", "scale"), [(20_000, 0), (65_535, 0), (65_536, 1), (100_000, 1), (131_071, 1), (131_072, 2), (4 << 20, 7)]
)
def test_the_scale_is_the_smallest_that_fits_and_applies_behind_the_handshake(limit: int, scale: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=limit)))
    peer = ManualConnection(pair)
    syn_ack = peer.open(scale=7)
    peer.data(bytes(1460))
    (answer,) = peer.data(bytes(1460))

    assert (syn_ack.scale, syn_ack.window) == (scale, min(limit, 65_535))
    assert answer.window == limit - 1460 >> scale


@pytest.mark.parametrize("window", [1 << 16, 16 << 20, 1 << 30])
def test_the_scale_is_never_above_14(window: int) -> None:
    """RFC 7323, 2.3."""
    syn_ack = ManualConnection(Pair(make_config(limits=Limits(tcp_window=window)))).open()

    assert syn_ack.scale is not None
    assert syn_ack.scale <= 14


@pytest.mark.parametrize("window", [1, 100, 536, 1460, 5000, 65535])
def test_the_guests_window_is_never_exceeded(window: int) -> None:
    """The simulated guest asserts it for every segment; here the window is small and the reader slow."""
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(window=window, scale=None, autoread=False))
    data = bytes(range(256)) * 8
    pair.host.produce(stream, data)
    pair.settle()

    assert len(connection.received) <= window
    read = bytearray()
    for _ in range(10_000):
        read += connection.read(window)
        pair.wait(0.05)
        if len(read) == len(data):
            break
        pair.step()
    assert bytes(read) == data


def test_a_closed_window_is_probed_until_it_opens() -> None:
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(window=4000, scale=None, autoread=False))
    pair.host.produce(stream, bytes(range(250)) * 40)
    pair.wait(600.0)

    assert len(connection.received) == 4000
    assert connection.probes_received >= 5
    assert not stream.closed, "a guest that answers probes is alive (RFC 9293, 3.8.6.1)"


def test_probes_come_at_growing_intervals() -> None:
    pair = Pair()
    _, stream = pair.established(GuestTcpOptions(window=4000, scale=None, autoread=False))
    pair.host.produce(stream, bytes(10_000))
    pair.settle()
    before = len(pair.sent)
    pair.wait(600.0)
    times = [when for when, _ in pair.sent[before:]]

    assert len(times) < 40
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) == pytest.approx(60.0, abs=0.1)


@pytest.mark.parametrize("closed_for", [0.3, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("waiting", [300, 1000, 10_000])
def test_when_the_window_opens_the_data_comes_at_once(closed_for: float, sack: bool, waiting: int) -> None:
    """However far the persist timer had backed off."""
    pair = Pair()
    options = GuestTcpOptions(window=4000, scale=None, autoread=False, sack=sack)
    connection, stream = pair.established(options)
    data = bytes(range(250)) * 16 + bytes(waiting)
    pair.host.produce(stream, data)
    pair.wait(closed_for)
    assert len(connection.received) == 4000
    opened = pair.now
    while len(connection.received) < len(data):
        connection.read(1 << 20)
        pair.settle()
        if len(connection.received) < len(data):
            pair.step()
        assert pair.now < opened + 1.5, f"only {len(connection.received)} of {len(data)} bytes came"


def test_a_lost_window_update_is_found_by_a_probe() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.window = 1000
    peer.open()
    pair.host.produce(pair.host.stream, bytes(3000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(window=0)
    pair.wait(5.0)
    probes = peer.take()

    assert probes
    assert all(len(probe.payload) <= 1 for probe in probes)
    answers = peer.send(window=65535)
    pair.wait(2.0)
    answers += peer.take()
    assert max(answer.sequence + len(answer.payload) for answer in answers) == peer.expected + 2000


def test_a_window_that_shrinks_does_no_harm() -> None:
    """RFC 9293, 3.8.6: shrinking is discouraged, but must be handled."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(range(200)) * 100)
    pair.settle()
    data = peer.accept(peer.take())
    assert len(data) == 20_000
    peer.expected -= 10_000
    peer.send(window=100)
    pair.wait(5.0)
    segments = peer.take()
    for _ in range(200):
        for segment in segments:
            if segment.sequence == peer.expected:
                peer.expected += len(segment.payload)
        segments = peer.send(window=65535)
        pair.wait(0.3)
        segments += peer.take()

    assert peer.expected == peer.syn_ack.sequence + 1 + 20_000 if peer.syn_ack else False


def test_data_in_a_window_that_shrank_is_sent_again() -> None:
    """RFC 9293, 3.8.6."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(14_600))
    pair.settle()
    assert len(peer.take()) == 10
    assert peer.send(window=1460) == []
    pair.wait(2.0)
    assert {segment.sequence for segment in peer.take()} == {peer.expected}


def test_an_old_segment_does_not_move_the_window_back() -> None:
    """SND.WL1 and SND.WL2 (RFC 9293, 3.10.7.4)."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    old = peer.segment(ACK | PSH, b"first", window=0)
    peer.data(b"first", window=65535)
    peer.data(b"second", window=65535)
    pair.guest.send(old.ip())
    pair.settle()
    peer.take()
    pair.host.produce(pair.host.stream, bytes(1000))
    pair.settle()

    assert sum(len(segment.payload) for segment in peer.take()) == 1000


def test_the_window_of_data_that_is_sent_again_counts_with_its_acknowledgment() -> None:
    """The window counts from SND.UNA (RFC 9293, 3.3.1): the two move together, although the segment is an old one."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    edge = peer.expected + 65535
    peer.send(ACK | PSH, b"second", sequence=peer.sequence + 5)  # the first was lost
    pair.host.produce(pair.host.stream, bytes(30_000))
    pair.settle()
    peer.accept(peer.take())
    peer.send(ACK | PSH, b"first", window=edge - peer.expected)
    pair.host.produce(pair.host.stream, bytes(60_000))
    pair.settle()

    assert edge - 1460 < max(segment.sequence + len(segment.payload) for segment in peer.take()) <= edge


def test_a_full_host_socket_closes_the_window_and_the_guest_never_retransmits() -> None:
    limits = Limits(tcp_window=256 << 10)
    pair = Pair(make_config(limits=limits))
    connection, stream = pair.established()
    stream.blocked = True
    connection.send(bytes(1 << 20))
    pair.wait(20.0)

    assert connection.una - 1 <= limits.tcp_window
    assert len(stream.unsent) <= limits.tcp_window
    assert connection.probes > 0
    pair.host.unblock(stream)
    opened = pair.now
    pair.drive(lambda: connection.everything_acknowledged)
    assert len(stream.received) == 1 << 20
    assert connection.retransmissions == 0
    assert pair.now - opened < 0.5, "the window opens by itself, not by the guest's next probe"


@pytest.mark.parametrize("accept", [1, 100, 1461, 40_000])
def test_a_slow_host_socket_never_costs_a_retransmission(accept: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=64 << 10)), HostScript(accept=accept, accept_interval=0.05))
    connection, stream = pair.established()
    size = min(accept * 500, 400_000)
    connection.send(bytes(size))
    connection.shutdown()
    pair.drive(lambda: stream.shutdown)

    assert len(stream.received) == size
    assert connection.retransmissions == 0


def test_the_window_offered_is_never_taken_back() -> None:
    """Except for rounding to the unit of the window scale (RFC 7323, 2.4)."""
    pair = Pair(make_config(limits=Limits(tcp_window=100_000)), HostScript(accept=3000, accept_interval=0.01))
    connection, stream = pair.established()
    connection.send(bytes(300_000))
    connection.shutdown()
    pair.drive(lambda: stream.shutdown)
    scale = connection.peer_scale or 0
    edges = [
        ((segment.acknowledgment - connection.options.sequence) % (1 << 32)) + (segment.window << scale)
        for segment in connection.segments_received[1:]
    ]

    assert all(earlier < later + (1 << scale) for earlier, later in itertools.pairwise(edges))


def test_the_window_opens_in_large_steps() -> None:
    """RFC 9293, 3.8.6.2.2: no silly windows, though the host takes byte by byte."""
    pair = Pair(make_config(limits=Limits(tcp_window=20_000)), HostScript(accept=10, accept_interval=0.001))
    connection, stream = pair.established()
    connection.send(bytes(60_000))
    connection.shutdown()
    pair.drive(lambda: stream.shutdown)

    assert len(connection.segments_received) < 200


def test_a_probe_of_the_guest_into_a_closed_window_is_answered() -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=10_000)))
    peer = ManualConnection(pair)
    syn_ack = peer.open()
    pair.host.stream.blocked = True
    scale = syn_ack.scale or 0
    window = syn_ack.window
    while window:
        pair.wait(0.5)
        size = min(1000, window)
        answers = peer.data(bytes(size))
        pair.wait(0.5)
        answers += peer.take()
        window = answers[-1].window << scale
    answers = peer.send(ACK | PSH, b"p")

    assert [(answer.acknowledgment, answer.window) for answer in answers] == [(peer.sequence, 0)]
    pair.host.unblock(pair.host.stream)
    pair.settle()
    assert [answer.window << scale >= 5000 for answer in peer.take()] == [True]


def test_a_budget_of_zero_is_lifted_by_an_order() -> None:
    pair = Pair()
    connection, stream = pair.established(GuestTcpOptions(window=8000, scale=None, autoread=False))
    pair.host.produce(stream, bytes(100_000))
    pair.settle()

    assert pair.network.receive_budget(stream.socket) == 0
    assert stream.paused
    before = len(pair.host.orders)
    connection.read(8000)
    pair.drive(lambda: len(connection.received) > 8000)
    assert any(isinstance(order, ResumeStream) for order in pair.host.orders[before:])


def test_what_is_read_from_the_host_is_bounded_by_the_guests_window_and_the_limit() -> None:
    limits = Limits(tcp_send_buffer=50_000)
    pair = Pair(make_config(limits=limits))
    peer = ManualConnection(pair)
    peer.open(scale=10)
    peer.send(window=65535)
    pair.host.produce(pair.host.stream, bytes(1 << 20))
    pair.settle()

    assert sum(len(segment.payload) for segment in peer.take()) <= limits.tcp_send_buffer
    assert len(pair.host.stream.incoming) >= (1 << 20) - limits.tcp_send_buffer


def test_all_connections_together_hold_no_more_than_the_limit() -> None:
    limits = Limits(tcp_memory=1 << 20, tcp_send_buffer=1 << 20)
    pair = Pair(make_config(limits=limits))
    peers = [ManualConnection(pair, port=50_000 + number) for number in range(20)]
    for peer in peers:
        peer.open(scale=10)
        peer.send(window=65535)
        pair.host.produce(pair.host.stream, bytes(1 << 20))
    pair.settle()
    held = sum((1 << 20) - len(stream.incoming) for stream in pair.host.streams.values())

    assert held <= limits.tcp_memory
    acknowledged = [sum(len(segment.payload) for segment in peer.take()) for peer in peers]
    assert any(acknowledged)


def test_a_connection_that_holds_much_does_not_starve_another() -> None:
    """A guest that reads nothing holds more than half of the memory; the rest can still be used."""
    limits = Limits(tcp_memory=1 << 20, tcp_send_buffer=1 << 20)
    pair = Pair(make_config(limits=limits))
    hoarder = ManualConnection(pair)
    hoarder.open(scale=10)
    hoarder.send(window=1000)
    pair.host.produce(pair.host.stream, bytes(600_000))
    pair.settle()
    hoarder.take()
    hoarder.window = 0
    connection = pair.connect(GuestTcpOptions(window=1 << 20, scale=5))
    pair.drive(lambda: connection.established)
    pair.host.produce(pair.host.stream, bytes(2_000_000))
    for _ in range(60):
        pair.wait(0.5)
        hoarder.take()
        hoarder.send()

    assert len(connection.received) == 2_000_000


def test_starved_connections_go_on_when_memory_is_free_again() -> None:
    limits = Limits(tcp_memory=200_000)
    pair = Pair(make_config(limits=limits))
    connections = [pair.connect(GuestTcpOptions(window=60_000, scale=None, autoread=False)) for _ in range(10)]
    pair.drive(lambda: all(connection.established for connection in connections))
    for stream in pair.host.streams.values():
        pair.host.produce(stream, bytes(200_000))
    pair.wait(1.0)
    for connection in connections:
        connection.options = GuestTcpOptions(window=60_000, scale=None)

    def finished() -> bool:
        for connection in connections:
            connection.read(1 << 20)
        return all(len(connection.received) == 200_000 for connection in connections)

    pair.drive(finished)
