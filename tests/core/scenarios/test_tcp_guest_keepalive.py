"""If the guest probes its peer, the host's kernel does so too (RFC 9293, 3.8.4)."""

from __future__ import annotations

from errno import ETIMEDOUT

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import KeepAlive, Limits
from sansnet_core.proto.tcp.keepalive import schedule
from sansnet_core.testing import OUTSIDER, SERVER, SERVER6, HostScript, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN


def opened() -> tuple[Pair, ManualConnection]:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    return pair, peer


def probe(peer: ManualConnection, payload: bytes = b"") -> None:
    """Send a keepalive, which is answered."""
    answers = peer.send(ACK, payload, sequence=(peer.sequence - 1) % (1 << 32))
    assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence)]


def orders(pair: Pair) -> list[KeepAlive]:
    return [order for order in pair.host.orders if isinstance(order, KeepAlive)]


@pytest.mark.parametrize("payload", [b"", b"\0"])
@pytest.mark.parametrize(
    ("silence", "idle", "interval", "count"),
    [
        (0.95, 1, 1, 3),
        (2.1, 2, 1, 3),
        (9.0, 9, 4, 3),
        (10.0, 10, 5, 9),
        (15.0, 15, 7, 9),
        (60.3, 60, 30, 9),
        (7100.0, 7100, 75, 9),
    ],
)
def test_a_probe_has_the_host_probe_as_often(
    silence: float, idle: int, interval: int, count: int, payload: bytes
) -> None:
    pair, peer = opened()
    pair.wait(silence)
    probe(peer, payload)

    assert orders(pair) == [KeepAlive(pair.host.stream.socket, idle, interval, count)]


@given(st.floats(0, 1e9))
def test_what_is_ordered_the_kernel_takes(silence: float) -> None:
    idle, interval, count = schedule(silence)
    assert 1 <= idle <= 32767  # MAX_TCP_KEEPIDLE, and so on (include/net/tcp.h)
    assert 1 <= interval <= 32767
    assert 1 <= count <= 127


def test_probes_at_one_interval_are_one_order() -> None:
    pair, peer = opened()
    for _ in range(50):
        pair.wait(2.0)
        probe(peer)

    assert len(orders(pair)) == 1


def test_another_interval_is_another_order() -> None:
    pair, peer = opened()
    for silence in (60.0, 61.0, 45.0, 75.0, 2.0, 2.2, 30.0):  # a quarter may be the inexactness of timers
        pair.wait(silence)
        probe(peer)

    assert [order.idle for order in orders(pair)] == [60, 2, 30]


@given(silences=st.lists(st.floats(0.001, 500.0), max_size=60))
def test_orders_are_bounded(silences: list[float]) -> None:
    pair, peer = opened()
    for silence in silences:
        pair.wait(silence)
        peer.send(ACK, sequence=(peer.sequence - 1) % (1 << 32))  # not each is answered: RFC 5961, 7

    assert len(orders(pair)) <= 16


def test_a_guest_that_always_changes_its_interval_is_followed_a_while() -> None:
    pair, peer = opened()
    for number in range(40):
        pair.wait(4.0 if number % 2 else 2.0)
        probe(peer)

    assert [order.idle for order in orders(pair)] == [2, 4] * 8


def test_a_guest_that_has_probed_and_is_gone_is_reset() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    peer = ManualConnection(pair)
    peer.open()
    pair.wait(2.0)
    probe(peer)
    pair.wait(2000.0)

    assert pair.tcp_flows == 0


def test_a_probe_of_a_closed_window_is_none_of_the_peer() -> None:
    """Linux sends the same segment when it has data and our window is closed."""
    pair = Pair(make_config(limits=Limits(tcp_window=20_000)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.stream.blocked = True
    for _ in range(20):
        peer.data(bytes(1000))
    pair.wait(5.0)
    peer.send(ACK, sequence=peer.sequence - 1)

    assert orders(pair) == []


def _fill(pair: Pair, peer: ManualConnection) -> None:
    """Send until the window is closed, as the guest sees it; the host takes nothing."""
    pair.host.stream.blocked = True
    assert peer.syn_ack is not None
    scale = peer.syn_ack.scale or 0
    answers = peer.data(bytes(1001))
    edge = peer.sequence + 1001
    while edge > peer.sequence:
        answers += peer.data(bytes(min(edge - peer.sequence, 1460)))
        pair.wait(0.003)
        answers += peer.take()
        edge = answers[-1].acknowledgment + (answers[-1].window << scale)


@pytest.mark.parametrize("rests", [False, True])
@pytest.mark.parametrize("window", [20_000, 100_000, 4 << 20])
def test_a_closed_window_is_probed_without_a_keepalive(window: int, rests: bool) -> None:
    """A scaled window of 0 has some bytes left, which the guest does not see (RFC 7323, 2.3)."""
    pair = Pair(make_config(limits=Limits(tcp_window=window)))
    peer = ManualConnection(pair)
    peer.open(scale=7)
    if rests:  # only a connection whose round trip was measured does
        pair.host.produce(pair.host.stream, b"x")
        pair.settle()
        peer.accept(peer.take())
        peer.send()
        pair.wait(5.0)
    for _ in range(3):
        _fill(pair, peer)
        for number in range(8):  # by Linux
            pair.wait(0.2 * 2**number)
            peer.send(ACK, sequence=peer.sequence - 1)
        pair.host.stream.blocked = False
        pair.settle()
        peer.take()
    peer.data(b"more")
    assert orders(pair) == []
    pair.wait(60.0)
    peer.take()
    probe(peer)

    assert [order.idle for order in orders(pair)] == [60]


def test_a_probe_that_crosses_the_update_of_the_window_is_none_of_the_peer() -> None:
    pair = Pair(make_config(limits=Limits(tcp_window=20_000)))
    peer = ManualConnection(pair)
    peer.open(scale=7)
    _fill(pair, peer)
    pair.wait(5.0)
    pair.host.stream.blocked = False
    pair.settle()
    assert peer.take()[-1].window == 20_000
    probe(peer)
    assert orders(pair) == []

    pair.wait(30.0)  # the guest has nothing to send, so it is idle
    probe(peer)
    assert [order.idle for order in orders(pair)] == [30]


@pytest.mark.parametrize("repeated_after", [0.0, 0.2, 0.8])
def test_a_byte_that_is_sent_again_is_no_probe(repeated_after: float) -> None:
    """Its acknowledgment was lost, or came late."""
    pair, peer = opened()
    pair.wait(5.0)
    peer.data(b"x")
    pair.wait(repeated_after)
    peer.send(ACK | PSH, b"x", sequence=peer.sequence - 1)

    assert orders(pair) == []


def test_what_is_no_probe_changes_nothing() -> None:
    pair, peer = opened()
    peer.data(b"some data")
    for flags, data, back in (
        (ACK, b"", 0),  # a repeated acknowledgment
        (ACK, b"ta", 2),  # data that came already
        (ACK, b"", 5000),
        (RST | ACK, b"", 1),
        (ACK | FIN, b"", 1),
    ):
        pair.wait(2.0)
        peer.send(flags, data, sequence=peer.sequence - back)

    assert orders(pair) == []


def test_nothing_is_ordered_before_the_host_is_connected() -> None:
    pair = Pair(script=HostScript(connect=None))
    peer = ManualConnection(pair)
    peer.syn()
    peer.send(ACK, sequence=peer.first)

    assert orders(pair) == []


@pytest.mark.parametrize("remote", [SERVER, SERVER6])
def test_a_peer_that_is_gone_resets_the_guest(remote: bytes) -> None:
    pair = Pair()
    connection = pair.connect(family=4 if remote == SERVER else 6)
    pair.drive(lambda: connection.established)
    pair.settle()
    pair.host.fail(pair.host.stream, ETIMEDOUT, pair.now)
    pair.settle()

    assert connection.reset
    assert pair.tcp_flows == 0


def test_a_guests_server_probes_who_came_from_outside() -> None:
    pair = Pair()
    stream = pair.host.accept(OUTSIDER, 80, pair.now)
    assert stream is not None
    pair.settle()
    peer = ManualConnection(pair, port=80, remote=OUTSIDER)
    [syn] = pair.guest.strays
    peer.expected = syn.sequence + 1
    peer.send(SYN | ACK, mss=1460)
    peer.sequence += 1
    peer.send()
    pair.wait(2.0)
    probe(peer)

    assert orders(pair) == [KeepAlive(stream.socket, 2, 1, 3)]
