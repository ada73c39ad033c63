"""A guest that is silent for long is probed (RFC 9293, 3.8.4)."""

from __future__ import annotations

import pytest

from sansnet_core import Limits
from sansnet_core.testing import OUTSIDER, SERVER, HostScript, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, RST, SYN


def test_a_silent_guest_that_answers_stays_connected() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    connection, stream = pair.established()
    pair.wait(99.0)
    assert connection.keepalives == 0
    pair.wait(2.0)
    assert connection.keepalives == 1
    pair.wait(1000.0)

    assert 5 <= connection.keepalives <= 11
    assert not stream.closed
    connection.send(b"still here")
    pair.settle()
    assert bytes(stream.received) == b"still here"


@pytest.mark.parametrize("answered", [0, 1, 8])
def test_a_guest_that_is_gone_is_reset_in_the_end(answered: int) -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    peer = ManualConnection(pair)
    peer.open()
    for _ in range(answered):
        while not peer.take():
            pair.wait(1.0)
        assert peer.send() == []
    pair.wait(2000.0)
    segments = peer.take()

    assert pair.host.stream.aborted
    assert pair.tcp_flows == 0
    *probes, reset = segments
    assert {(probe.flags, probe.sequence) for probe in probes} == {(ACK, peer.expected - 1)}
    assert len(probes) == 9, "as many as Linux sends"
    assert reset.flags & RST


@pytest.mark.parametrize("inbound", [False, True], ids=["guest's", "outsider's"])
@pytest.mark.parametrize("connect", [0, None], ids=["answered", "connecting"])
def test_only_an_open_connection_is_probed_also_by_a_late_driver(inbound: bool, connect: int | None) -> None:
    """A SYN-ACK is sent again then, and nothing of an open connection."""
    pair = Pair(make_config(limits=Limits(tcp_keepalive=0.01)), HostScript(connect=connect))
    peer = ManualConnection(pair, remote=OUTSIDER if inbound else (SERVER, 80))
    if inbound:
        pair.host.accept(OUTSIDER, peer.port, pair.now)
    else:
        peer.syn()
    for seconds in (0.005, 0.1, 3.0, 50.0):
        pair.now += seconds
        pair.network.handle_deadline(pair.now)
        pair.wait(0.4)
        if not inbound and connect is None:
            peer.syn()  # it still waits

    sent = peer.take()
    assert {segment.flags & ~ACK for segment in sent} == ({SYN} if inbound or connect == 0 else set())


def test_a_fact_without_traffic_does_not_put_it_off() -> None:
    """The connection, which was quiet, is in full in memory for a while."""
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    peer = ManualConnection(pair)
    peer.open()
    begin = pair.now
    while (deadline := pair.network.next_deadline()) is not None and deadline < begin + 99.0:
        pair.wait(deadline - pair.now)
    pair.wait(begin + 99.5 - pair.now)
    pair.network.stream_sent(pair.host.stream.socket, 0, pair.now)
    assert peer.take() == []
    pair.wait(begin + 100.1 - pair.now)
    assert len(peer.take()) == 1


def test_traffic_puts_it_off() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    connection, _ = pair.established()
    for _ in range(30):
        pair.wait(50.0)
        connection.send(b"x")
        pair.settle()

    assert connection.keepalives == 0


def test_traffic_of_the_host_that_the_guest_acknowledges_puts_it_off_too() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    connection, stream = pair.established()
    for _ in range(30):
        pair.wait(50.0)
        pair.host.produce(stream, b"x")
        pair.settle()

    assert connection.keepalives == 0


def test_a_half_closed_connection_is_asked_too() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send()
    pair.wait(2000.0)

    assert pair.host.stream.aborted
    assert pair.tcp_flows == 0


def test_a_handshake_is_not_probed() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=0.5)), HostScript(connect=None))
    peer = ManualConnection(pair)
    peer.syn()
    pair.host.accept(OUTSIDER, 8000, pair.now)
    pair.wait(300.0)

    assert peer.take() == []
    assert {segment.flags for segment in pair.guest.strays} == {SYN}
    assert pair.tcp_flows == 0


def test_retransmissions_take_the_place_of_probes() -> None:
    """A probe is below all that was sent (RFC 9293, 3.8.4), so there is none while the guest owes an acknowledgment."""
    pair = Pair(make_config(limits=Limits(tcp_keepalive=0.5)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, b"data")
    pair.wait(300.0)

    assert {segment.payload for segment in peer.take() if not segment.flags & RST} == {b"data"}
    assert pair.tcp_flows == 0


def test_a_late_driver_leaves_the_guest_time_to_answer() -> None:
    pair = Pair(make_config(limits=Limits(tcp_keepalive=100.0)))
    peer = ManualConnection(pair)
    peer.open()
    pair.now += 100_000.0  # as if the process had been stopped
    pair.step()

    assert len(peer.take()) == 1
    deadline = pair.network.next_deadline()
    assert deadline is not None
    assert deadline > pair.now + 10
    assert pair.tcp_flows == 1
