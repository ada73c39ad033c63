"""How a connection ends: each direction by itself, in any order, by FIN or by reset."""

from __future__ import annotations

from collections.abc import Iterable
from errno import ECONNRESET
from functools import partial

import pytest

from sansnet_core import CloseSocket, FlowClosed, Limits, OpenStream, Reason, SendStream, ShutdownStream
from sansnet_core.proto.tcp.receiving import DELAYED_ACK
from sansnet_core.testing import OUTSIDER, GuestConnection, HostScript, HostStream, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, PSH, RST, SYN
from tests.core.recording.accounts import wrong_accounts


def _finish(pair: Pair, connection: GuestConnection, stream: HostStream) -> None:
    """Wait for the end of the connection on both sides; then the network must have forgotten it."""
    pair.drive(lambda: connection.closed and stream.closed)
    assert not connection.reset
    assert not stream.aborted
    pair.wait(pair.config.limits.tcp_linger + 1)
    assert pair.tcp_flows == 0
    assert len([notice for notice in pair.notices if isinstance(notice, FlowClosed)]) == 1
    assert connection.retransmissions == 0


def test_the_guest_ends_first_and_still_receives() -> None:
    pair = Pair()
    connection, stream = pair.established()
    connection.send(b"question")
    connection.shutdown()
    pair.settle()

    assert bytes(stream.received) == b"question"
    assert stream.shutdown
    assert not stream.closed
    at_once = connection.fin_acknowledged
    pair.wait(DELAYED_ACK)
    assert (at_once, connection.fin_acknowledged) == (False, True)
    pair.wait(30.0)
    pair.host.produce(stream, b"answer")
    pair.settle()
    assert connection.received == b"answer"
    pair.host.end(stream)
    _finish(pair, connection, stream)


def test_the_host_ends_first_and_still_receives() -> None:
    pair = Pair()
    connection, stream = pair.established()
    pair.host.produce(stream, b"greeting")
    pair.host.end(stream)
    pair.settle()

    assert connection.received == b"greeting"
    assert connection.fin_received
    assert not stream.closed
    pair.wait(30.0)
    connection.send(b"thanks")
    pair.settle()
    assert bytes(stream.received) == b"thanks"
    connection.shutdown()
    _finish(pair, connection, stream)


def test_after_the_last_ack_a_slow_host_leaves_nothing_behind() -> None:
    """The guest ended first and is done when it has acknowledged our FIN (RFC 9293, LAST-ACK): no TIME-WAIT follows."""
    pair = Pair()
    connection, stream = pair.established()
    stream.blocked = True
    connection.send(b"slowly taken")
    connection.shutdown()
    pair.host.end(stream)
    pair.settle()
    assert connection.closed
    assert pair.tcp_flows == 1
    stream.blocked = False
    pair.settle()

    assert bytes(stream.received) == b"slowly taken"
    assert (stream.closed, stream.aborted) == (True, False)
    assert pair.tcp_flows == 0


def test_fin_comes_with_the_last_data() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open(mss=1000)
    stream = pair.host.stream
    pair.network.stream_received(stream.socket, bytes(1500), pair.now)
    pair.network.stream_ended(stream.socket, pair.now)
    pair._outputs(pair.now)
    pair.settle()

    assert [(one.flags, len(one.payload)) for one in peer.take()] == [(ACK, 1000), (ACK | PSH | FIN, 500)]


def test_fin_waits_for_data_that_the_window_has_no_room_for() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.window = 1000
    peer.open()
    pair.network.stream_received(pair.host.stream.socket, bytes(1460), pair.now)
    pair.network.stream_ended(pair.host.stream.socket, pair.now)
    pair._outputs(pair.now)
    pair.settle()
    first = peer.take()
    peer.accept(first)
    rest = peer.send()

    assert [(one.flags, len(one.payload)) for one in first] == [(ACK, 1000)]
    assert [(one.flags, len(one.payload)) for one in rest] == [(ACK | PSH | FIN, 460)]


def test_both_end_at_once() -> None:
    pair = Pair()
    connection, stream = pair.established()
    connection.send(b"up")
    pair.host.produce(stream, b"down")
    connection.shutdown()
    pair.host.end(stream)
    _finish(pair, connection, stream)

    assert bytes(stream.received) == b"up"
    assert connection.received == b"down"


def test_fins_that_cross_are_both_acknowledged() -> None:
    """Simultaneous close: the guest's FIN does not acknowledge ours yet (RFC 9293, figure 13)."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    (fin,) = peer.take()
    assert fin.flags == FIN | ACK
    (answer,) = peer.send(FIN | ACK)
    assert answer.flags == ACK
    assert answer.acknowledgment == peer.sequence + 1
    assert pair.host.stream.shutdown
    peer.sequence += 1
    peer.expected += 1
    assert peer.send() == []
    assert pair.host.stream.closed
    assert not pair.host.stream.aborted


def test_after_fins_that_crossed_a_lost_acknowledgment_is_given_again() -> None:
    """CLOSING leads to TIME-WAIT (RFC 9293, 3.10.7.4): the ACK of our FIN does not say that our own ACK arrived."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.take()
    peer.send(FIN | ACK)  # before our FIN arrives; the answer to it gets lost
    peer.send(sequence=peer.sequence + 1, acknowledgment=peer.expected + 1)
    answers = peer.send(FIN | ACK, acknowledgment=peer.expected + 1)

    assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence + 1)]


@pytest.mark.parametrize("acknowledged_first", [False, True])
def test_a_repeated_fin_is_acknowledged_again(acknowledged_first: bool) -> None:
    """The last ACK may be lost: for `tcp_linger` seconds it is repeated, instead of a reset."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    if acknowledged_first:
        peer.send()
        (answer,) = peer.send(FIN | ACK)
    else:
        (answer,) = peer.send(FIN | ACK)
    assert answer.acknowledgment == peer.sequence + 1
    pair.wait(1.0)
    answers = peer.send(FIN | ACK)

    assert [(one.flags, one.acknowledgment) for one in answers] == [(ACK, peer.sequence + 1)]


@pytest.mark.parametrize(
    ("flags", "distance", "data", "is_again"),
    [
        (FIN | ACK, 0, b"", True),
        (ACK, 1, b"", False),
        (ACK, 0, b"", False),
        (ACK, 0, b"x", False),
        (FIN | ACK, -1, b"", False),
        (FIN | ACK, 1, b"", False),
    ],
)
def test_only_the_last_segment_begins_the_lingering_again(
    flags: int, distance: int, data: bytes, is_again: bool
) -> None:
    """RFC 9293, 3.10.7.4, eighth: a repeated FIN restarts the timeout."""
    pair = Pair(make_config(limits=Limits(tcp_linger=10.0)))
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    pair.wait(6.0)
    (answer,) = peer.send(flags, data, sequence=peer.sequence + distance)
    assert (answer.flags, answer.acknowledgment) == (ACK, peer.sequence + 1)
    pair.wait(6.0)
    assert pair.tcp_flows == is_again
    pair.wait(6.0)
    assert pair.tcp_flows == 0


def test_while_lingering_acknowledgments_are_answered_at_a_limited_rate() -> None:
    """RFC 5961, 7: two stacks that both linger must not answer each other for ever."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    peer.sequence += 1
    assert sum(len(peer.send()) for _ in range(100)) == 1


def test_after_lingering_the_number_is_free_again() -> None:
    pair = Pair()
    connection, stream = pair.established()
    pair.host.end(stream)
    connection.shutdown()
    _finish(pair, connection, stream)
    peer = ManualConnection(pair, port=next(iter(pair.guest.connections.values())).local[1])

    pair.guest.connections.clear()
    assert peer.open().flags == SYN | ACK


@pytest.mark.parametrize(("distance", "opens"), [(-1, False), (0, False), (1, True)])
def test_only_a_syn_beyond_the_last_number_ends_the_lingering(distance: int, opens: bool) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    ManualConnection(pair, port=peer.port, sequence=peer.sequence + 1 + distance).syn()

    assert len([order for order in pair.host.orders if isinstance(order, OpenStream)]) == 1 + opens


def test_an_outsider_that_connects_again_ends_the_lingering() -> None:
    pair = Pair()
    connection, stream = pair.accepted()
    pair.host.end(stream)
    pair.settle()
    connection.shutdown()
    pair.settle()
    assert pair.tcp_flows == 1
    assert pair.host.accept(OUTSIDER, 80, pair.now) is not None
    pair.settle()

    assert pair.tcp_flows == 1
    assert wrong_accounts(pair.network) == []


def test_a_new_syn_ends_the_lingering() -> None:
    """RFC 9293, 3.10.7.4: a SYN with a higher number may reopen a connection from TIME-WAIT."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    again = ManualConnection(pair, port=peer.port, sequence=500_000)
    again.open()
    again.data(b"second life")

    assert bytes(pair.host.stream.received) == b"second life"
    assert pair.tcp_flows == 1
    assert wrong_accounts(pair.network) == []


def test_data_with_the_fin_comes_before_the_end() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    answers = peer.send(FIN | ACK | PSH, b"last words")

    assert pair.host.orders[-2:] == [SendStream(pair.host.stream.socket, b"last words"), pair.host.orders[-1]]
    assert isinstance(pair.host.orders[-1], ShutdownStream)
    assert answers == []
    pair.wait(DELAYED_ACK)
    (answer,) = peer.take()
    assert answer.acknowledgment == peer.sequence + 11


def test_the_fin_of_the_host_acknowledges_that_of_the_guest() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    assert peer.send(FIN | ACK | PSH, b"last words") == []
    pair.host.end(pair.host.stream)
    pair.settle()
    (answer,) = peer.take()
    assert answer.flags & FIN
    assert answer.acknowledgment == peer.sequence + 11
    pair.wait(DELAYED_ACK)
    assert peer.take() == []


def test_the_last_fin_is_acknowledged_at_once() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    (answer,) = peer.send(FIN | ACK)
    assert answer.acknowledgment == peer.sequence + 1


def test_a_fin_that_overtakes_data_waits_for_it() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    first = peer.segment(ACK | PSH, b"one ")
    peer.sequence += 4
    answers = peer.send(FIN | ACK | PSH, b"two")

    assert answers[-1].acknowledgment == peer.sequence - 4
    assert not pair.host.stream.shutdown_ordered
    pair.guest.send(first.ip())
    pair.settle()
    assert bytes(pair.host.stream.received) == b"one two"
    assert pair.host.stream.shutdown
    assert peer.take()[-1].acknowledgment == peer.sequence + 4


def test_the_end_waits_until_the_host_took_all_data() -> None:
    pair = Pair(script=HostScript(accept=100, accept_interval=1.0))
    connection, stream = pair.established()
    connection.send(bytes(1000))
    connection.shutdown()
    pair.settle()

    assert stream.shutdown_ordered
    assert not stream.shutdown
    pair.drive(lambda: stream.shutdown)
    assert len(stream.received) == 1000
    assert connection.retransmissions == 0


def test_a_fin_is_sent_again_without_data() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    pair.wait(1.1)
    first, *later = peer.take()

    assert later
    for fin in (first, *later):
        assert (fin.flags, fin.sequence, fin.payload) == (ACK | FIN, peer.expected, b"")


@pytest.mark.parametrize("lingers", [False, True])
def test_data_after_a_fin_is_not_delivered(lingers: bool) -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    if lingers:
        pair.host.end(pair.host.stream)
        pair.settle()
        peer.accept(peer.take())
    peer.send(FIN | ACK)
    peer.sequence += 1
    for count in (1, 2):
        answers = peer.send(ACK | PSH, b"from beyond")
        assert len(answers) == lingers
        assert pair.network.statistics().drops[Reason.TCP_SEQUENCE] == count

    assert not pair.host.stream.received
    assert pair.tcp_flows == 1


def test_a_reset_of_the_host_becomes_a_reset_for_the_guest() -> None:
    pair = Pair()
    connection, stream = pair.established()
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()

    assert connection.reset
    assert pair.tcp_flows == 0


def test_a_reset_of_the_host_with_data_in_flight_reaches_the_guest_too() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, bytes(5000))
    pair.settle()
    pair.host.fail(pair.host.stream, ECONNRESET, pair.now)
    pair.settle()
    answers = peer.take()

    assert answers[-1].flags & RST
    assert answers[-1].sequence == (peer.expected + 5000) % (1 << 32)


def test_a_reset_of_the_guest_aborts_the_hosts_socket() -> None:
    pair = Pair()
    connection, stream = pair.established()
    connection.abort(pair.now)
    pair.settle()

    assert pair.host.orders[-1] == CloseSocket(stream.socket, True, ECONNRESET)
    assert pair.guest.strays == []
    assert pair.tcp_flows == 0


def test_a_reset_behind_data_leaves_no_acknowledgment_that_is_due() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    assert peer.data(b"data") == []
    peer.send(RST)
    assert wrong_accounts(pair.network) == []


def test_a_reset_of_the_guest_after_its_fin_aborts_too() -> None:
    pair = Pair()
    connection, stream = pair.established()
    connection.shutdown()
    pair.settle()
    connection.abort(pair.now)
    pair.settle()

    assert stream.aborted


def test_facts_about_a_closed_socket_are_ignored() -> None:
    """The driver may have read from a socket before it saw the order to close it."""
    pair = Pair()
    connection, stream = pair.established()
    connection.abort(pair.now)
    pair.settle()
    network = pair.network
    network.stream_received(stream.socket, b"late", pair.now)
    network.stream_sent(stream.socket, 0, pair.now)
    network.stream_ended(stream.socket, pair.now)
    network.stream_failed(stream.socket, ECONNRESET, None, pair.now)
    network.stream_connected(stream.socket, pair.now)

    assert network.receive_budget(stream.socket) == 0
    assert network.take_frames() == []
    assert network.take_orders() == []


def test_the_closing_notice_counts_bytes() -> None:
    pair = Pair()
    connection, stream = pair.established()
    for size in (1000, 234):
        connection.send(bytes(size))
        pair.settle()
    for size in (4000, 321):
        pair.host.produce(stream, bytes(size))
        pair.settle()
    connection.shutdown()
    pair.host.end(stream)
    _finish(pair, connection, stream)
    (notice,) = (notice for notice in pair.notices if isinstance(notice, FlowClosed))

    assert (notice.sent, notice.received) == (1234, 4321)


def test_a_guest_that_vanished_with_data_in_flight_is_given_up() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.produce(pair.host.stream, b"anybody?")
    pair.wait(3600.0)
    answers = peer.take()

    assert pair.host.stream.aborted
    assert answers[-1].flags & RST
    assert pair.tcp_flows == 0
    span = pair.sent[-1][0] - 1000.0
    assert span >= 100.0, "RFC 9293, 3.8.3: R2 is at least 100 seconds"


def test_a_guest_that_vanished_after_our_fin_is_given_up() -> None:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.wait(3600.0)

    assert pair.host.stream.closed
    assert pair.tcp_flows == 0


def _all_closed(connections: Iterable[GuestConnection]) -> bool:
    return all(one.closed for one in connections)


@pytest.mark.slow
def test_ten_thousand_connections_leave_nothing_behind() -> None:
    pair = Pair(make_config(limits=Limits(tcp_linger=0.5)), HostScript(echo=True))
    for _ in range(100):
        connections = [pair.connect() for _ in range(100)]
        for connection in connections:
            connection.send(b"x")
            connection.shutdown()
        pair.drive(partial(_all_closed, connections))
        pair.guest.connections.clear()
        pair.host.streams.clear()
        pair.sent.clear()
        pair.wait(1.0)

    assert pair.tcp_flows == 0
