"""A hostile guest: floods, scans and held memory stay within the limits, and drops are counted."""

from __future__ import annotations

import gc
from errno import ECONNREFUSED

import pytest

from sansnet_core import Limits, OpenStream, Reason
from sansnet_core.proto.tcp.gap import PIECE_COST
from sansnet_core.testing import OUTSIDER, SERVER, HostScript, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, Ip, Segment, fragments, udp
from tests.core.recording.accounts import wrong_accounts
from tests.sim.memory import Memory


def _syn(pair: Pair, port: int, remote_port: int = 80, sequence: int = 1) -> Segment:
    return Segment(pair.guest.ipv4, port, SERVER, remote_port, sequence=sequence, flags=SYN, mss=1460)


def test_a_flood_of_syns_is_bounded_by_the_limit_of_pending_connections() -> None:
    pair = Pair(make_config(limits=Limits(tcp_pending=100)), HostScript(connect=None))
    for port in range(1000, 3000):
        pair.guest.send(_syn(pair, port).ip())
    pair.settle()

    assert sum(not stream.closed for stream in pair.host.streams.values()) == 100
    assert pair.network.statistics().drops[Reason.TCP_LIMIT] == 1900


def test_pending_connections_end_and_make_room() -> None:
    pair = Pair(make_config(limits=Limits(tcp_pending=10)), HostScript(connect=None))
    for port in range(1000, 1010):
        pair.guest.send(_syn(pair, port).ip())
    pair.settle()
    for port in range(1000, 1010):
        pair.guest.send(Segment(pair.guest.ipv4, port, SERVER, 80, sequence=2, flags=RST).ip())
    pair.settle()
    assert pair.tcp_flows == 0
    pair.host.script = HostScript()
    connection, _ = pair.established()

    assert connection.established


@pytest.mark.parametrize("inbound", [False, True], ids=["of the guest", "from outside"])
def test_ended_connections_make_room_for_new_ones(inbound: bool) -> None:
    limits = Limits(tcp_flows=8, tcp_inbound_flows=4, tcp_pending=4, tcp_linger=1000.0)
    pair = Pair(make_config(limits=limits))
    ended, opened = 20, limits.tcp_inbound_flows if inbound else limits.tcp_flows
    for number in range(ended + opened):
        connection, stream = pair.accepted(port=2000 + number) if inbound else pair.established()
        if number < ended:
            pair.host.end(stream)
            pair.settle()
            connection.shutdown()
            pair.settle()
    assert pair.network.statistics().drops == {}
    assert wrong_accounts(pair.network) == []
    if inbound:  # those that are open stay
        assert pair.host.accept(OUTSIDER, 3000, pair.now) is None
    else:
        pair.guest.send(_syn(pair, 3000).ip())
        pair.settle()
    assert pair.network.statistics().drops == {Reason.TCP_LIMIT: 1}
    assert pair.tcp_flows == opened


@pytest.mark.slow
def test_a_scan_of_all_ports_is_bounded_and_forgotten() -> None:
    """Half the ports are silent, half refuse: the network keeps a flow only while the host's connect is under way."""
    pair = Pair(make_config(limits=Limits(tcp_pending=1000)), HostScript(connect=None))
    largest = 0
    gc.collect()
    objects = len(gc.get_objects())
    for remote_port in range(1, 65536):
        frame = pair.guest._ethernet(_syn(pair, 40000, remote_port).ip())
        pair.network.receive_frames([frame], pair.now)
        for order in pair.network.take_orders():
            if isinstance(order, OpenStream) and remote_port % 2:
                pair.network.stream_failed(order.socket, ECONNREFUSED, None, pair.now)
        pair.network.take_frames()
        pair.network.take_notices()
        largest = max(largest, pair.tcp_flows)
    gc.collect()

    assert largest <= 1000
    assert len(gc.get_objects()) - objects < 1000 * 20


def test_established_connections_are_bounded_by_the_limit_of_flows() -> None:
    pair = Pair(make_config(limits=Limits(tcp_flows=50)))
    peers = [ManualConnection(pair, port=50_000 + number) for number in range(60)]
    for peer in peers[:50]:
        peer.open()
    for peer in peers[50:]:
        assert peer.syn() == []
    assert pair.tcp_flows == 50
    peers[0].send(RST)
    peers[50].open()

    assert pair.tcp_flows == 50


@pytest.mark.slow
def test_closed_connections_leave_no_memory() -> None:
    pair = Pair()

    def round_of_connections() -> None:
        for port in range(200):
            peer = ManualConnection(pair, port=50_000 + port)
            peer.open()
            peer.data(b"x" * 100)
            peer.send(RST)
        pair.sent.clear()
        pair.notices.clear()
        pair.host.streams.clear()
        pair.host.closed.clear()
        pair.host.orders.clear()
        pair.host._events.clear()

    round_of_connections()
    with Memory() as memory:
        for _ in range(4):
            round_of_connections()

    assert memory.held < 300_000, f"800 connections left {memory.held} bytes"


@pytest.mark.slow
def test_a_hoard_of_data_beyond_gaps_is_bounded() -> None:
    limits = Limits(tcp_window=1 << 20, tcp_reassembly_segments=64)
    pair = Pair(make_config(limits=limits))
    peer = ManualConnection(pair)
    peer.open()
    with Memory() as memory:
        for number in range(2000):
            peer.send(ACK, bytes(8), sequence=peer.sequence + 16 + 16 * number)
            pair.sent.clear()

    assert not pair.host.stream.received
    assert pair.network.statistics().tcp_held <= 64 * (8 + PIECE_COST)
    assert memory.held < 500_000


@pytest.mark.slow
def test_many_hoarding_connections_are_bounded_together() -> None:
    """Each connection may keep data beyond a gap, all of them together no more than `tcp_memory`."""
    limits = Limits(tcp_window=1 << 20, tcp_memory=1 << 20)
    pair = Pair(make_config(limits=limits))
    for number in range(40):
        peer = ManualConnection(pair, port=50_000 + number)
        peer.open()
        answers = peer.send()
        for block in range(200):
            answers = peer.send(ACK, bytes(1400), sequence=peer.sequence + 1 + 1400 * block) or answers
        pair.sent.clear()

    assert pair.network.statistics().tcp_held <= 2 * limits.tcp_memory


@pytest.mark.slow
def test_blocked_hosts_are_bounded_together() -> None:
    limits = Limits(tcp_window=1 << 20, tcp_memory=2 << 20)
    pair = Pair(make_config(limits=limits))
    connections = [pair.connect() for _ in range(30)]
    pair.drive(lambda: all(connection.established for connection in connections))
    for stream in pair.host.streams.values():
        stream.blocked = True
    for connection in connections:
        connection.send(bytes(1 << 20))
    pair.wait(20.0)

    assert pair.network.statistics().tcp_held <= limits.tcp_memory + 30 * 65536
    for stream in pair.host.streams.values():
        pair.host.unblock(stream)
    pair.drive(lambda: all(connection.everything_acknowledged for connection in connections), limit=3600.0)
    assert all(len(stream.received) == 1 << 20 for stream in pair.host.streams.values())


@pytest.mark.slow
def test_fragments_that_never_complete_are_bounded_and_expire() -> None:
    limits = Limits(reassembly_datagrams=16, reassembly_fragments=8, reassembly_time=30.0)
    pair = Pair(make_config(limits=limits))
    with Memory() as memory:
        for number in range(3000):
            packet = udp(pair.guest.ipv4, 1000, SERVER, 2000, bytes(4000))
            first, second, *_ = fragments(packet, 1400, number)
            pair.guest.send(first if number % 2 else second)
            pair.settle()
    assert memory.held < 500_000
    assert pair.network.statistics().drops[Reason.FRAGMENT_LIMIT] > 0
    pair.wait(31.0)

    assert pair.network.statistics().drops[Reason.FRAGMENT_TIMEOUT] > 0
    assert pair.host.orders == []


def test_a_tcp_segment_in_fragments_is_put_together() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    segment = peer.segment(ACK, bytes(range(250)) * 4)
    for part in reversed(fragments(Ip(segment.source, segment.destination, TCP, segment.emit()), 200)):
        pair.guest.send(part)
    pair.settle()

    assert bytes(pair.host.stream.received) == segment.payload


def test_frames_larger_than_the_links_largest_are_dropped() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    peer.send(ACK, bytes(4000))

    assert not pair.host.stream.received
    assert pair.network.statistics().drops[Reason.FRAME_TOO_LARGE] == 1
