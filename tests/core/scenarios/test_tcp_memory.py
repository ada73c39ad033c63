"""The memory that a connection really holds, against what is counted for it."""

from __future__ import annotations

import pytest

from sansnet_core import Limits, LinkConfig, Order, SendStream
from sansnet_core.testing import ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, PSH, RST
from tests.sim.memory import Memory


def _core_only(pair: Pair) -> None:
    """Drop every reference but those of the network."""
    pair.sent.clear()
    pair.notices.clear()
    pair.host.orders.clear()
    pair.guest.strays.clear()


def test_reset_connections_let_go_of_their_buffers() -> None:
    """Out-of-order data, then RST: the flow stays in the timers' heap until its keepalive deadline (2 h)."""
    pair = Pair()
    with Memory() as memory:
        for port in range(50000, 50060):
            peer = ManualConnection(pair, port=port)
            peer.open()
            pair.wait(1.1)  # past the SYN-ACK's timer: the idle deadline is queued now
            base = peer.sequence
            for i in range(44):
                peer.send(ACK | PSH, bytes(1400), sequence=base + 1 + 1400 * i)
            peer.send(RST)
            pair.host.streams.clear()
            pair.host.closed.clear()
            _core_only(pair)
        assert pair.tcp_flows == 0
        assert pair.network.statistics().tcp_held == 0
        del peer
    assert memory.held < 60 * 20_000, f"{memory.held >> 10} KiB held by {pair.tcp_flows} connections"


def test_a_byte_not_acknowledged_does_not_keep_the_whole_read() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(scale=7)
    peer.send(window=65535)
    stream = pair.host.stream
    with Memory() as memory:
        pair.network.stream_received(stream.socket, bytes(256 << 10), pair.now)
        pair._outputs(pair.now)
        pair.settle()
        peer.take()
        _core_only(pair)
        peer.expected += (256 << 10) - 1
        peer.send(window=65535)
        _core_only(pair)
        assert pair.network.statistics().tcp_held == 1
    assert memory.held < 20_000, f"{memory.held} bytes for 1 byte counted"


def test_single_bytes_from_the_host_cost_what_is_counted() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(scale=7)
    peer.send(window=65535)
    stream = pair.host.stream
    with Memory() as memory:
        for _ in range(20_000):
            pair.network.stream_received(stream.socket, bytes(bytearray(b"\xff\xfe"[:1])), pair.now)
            pair.network.take_orders()
            pair.network.take_frames()
        counted = pair.network.statistics().tcp_held
        assert counted == 20_000
    assert memory.held < 4 * counted, f"{memory.held} bytes held, {counted} counted"


def test_pieces_beyond_a_gap_cost_what_is_counted() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    with Memory() as memory:
        for n in range(1024):
            pair.network.receive_frames(
                [pair.guest._ethernet(peer.segment(ACK, b"\xaa\xbb", sequence=peer.sequence + 10 + 4 * n).ip())],
                pair.now,
            )
            pair.network.take_frames()
        held = pair.network.statistics().tcp_held
    assert memory.held < 8 * held, f"{memory.held} bytes for {held} counted, on each connection"


@pytest.mark.parametrize("old", [0, 60_000], ids=["beyond the window", "known already"])
def test_a_byte_of_a_large_segment_does_not_keep_its_frame(old: int) -> None:
    """One byte of each segment is new, or in the window."""
    pair = Pair(make_config(LinkConfig(mtu=65520, max_frame_size=65535), Limits(tcp_window=61_000)))
    peer = ManualConnection(pair)
    peer.open(mss=65480)
    pair.host.stream.blocked = True
    peer.data(bytes(60_000))
    if not old:
        peer.data(bytes(999))
    held: list[Order] = []  # as a driver does for a host that takes nothing
    with Memory() as memory:
        for number in range(200):
            data = bytes(old) + bytes([number % 251])
            if not old:
                data += bytes(60_000)
            sequence = peer.sequence + number - old
            frame = pair.guest._ethernet(peer.segment(ACK, data, sequence=sequence).ip())
            pair.network.receive_frames([frame], pair.now)
            held += pair.network.take_orders()
            pair.network.take_frames()
            del frame, data
    taken = [order for order in held if isinstance(order, SendStream)]
    assert len(taken) == (200 if old else 1)
    assert memory.held < 100_000


def test_a_segment_not_acknowledged_does_not_keep_the_whole_read() -> None:
    """The same for data that the guest's window has no room for."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(scale=7)
    peer.send(window=65535)
    with Memory() as memory:
        pair.network.stream_received(pair.host.stream.socket, bytes(256 << 10), pair.now)
        pair._outputs(pair.now)
        pair.settle()
        peer.take()
        _core_only(pair)
        peer.expected += (256 << 10) - 4000
        peer.send(window=65535)
        _core_only(pair)
        assert pair.network.statistics().tcp_held == 4000
    assert memory.held < 24_000, f"{memory.held} bytes for 4000 counted"
