"""The guest's side of a connection is over, and the host has not taken all data yet (RFC 9293, 3.6 and 3.10.7.4)."""

from __future__ import annotations

from errno import EACCES, ECONNRESET, ENOBUFS, ETIMEDOUT

import pytest

from sansnet_core import CloseSocket, FlowClosed, Limits, Reason
from sansnet_core.policy import Action, Rule
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, HostScript, HostStream, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN, RST, SYN
from tests.core.recording.accounts import wrong_accounts

SIZE = 2000
FAR = 100_000
"""The distance of the numbers of another connection."""

first_to_end = pytest.mark.parametrize("first", ["guest", "host"])


def _fin(pair: Pair, peer: ManualConnection) -> None:
    peer.send(FIN | ACK)
    peer.sequence += 1
    pair.wait(0.01)
    peer.accept(peer.take())


def _host_fin(pair: Pair, peer: ManualConnection, stream: HostStream) -> None:
    pair.host.end(stream)
    pair.settle()
    peer.accept(peer.take())


def left(first: str, limits: Limits | None = None, *, waits: bool = True) -> tuple[Pair, ManualConnection, HostStream]:
    """Both ends have closed and acknowledged everything, but the host's socket has taken none of `SIZE` bytes.

    Args:
        first: the end that closes first.
        limits: of the network.
        waits: until TIME-WAIT is over.
    """
    pair = Pair(make_config(limits=limits or Limits()))
    peer = ManualConnection(pair)
    peer.open()
    stream = pair.host.stream
    stream.blocked = True
    peer.data(bytes(1000))
    peer.data(bytes(SIZE - 1000))
    pair.wait(0.01)
    peer.take()
    if first == "guest":
        _fin(pair, peer)
        _host_fin(pair, peer, stream)
        peer.send()
    else:
        _host_fin(pair, peer, stream)
        _fin(pair, peer)
    if waits:
        pair.wait(pair.config.limits.tcp_linger)
    assert peer.take() == []
    return pair, peer, stream


def _closes(pair: Pair) -> list[CloseSocket]:
    return [order for order in pair.host.orders if isinstance(order, CloseSocket)]


def _take_all(pair: Pair, stream: HostStream) -> None:
    stream.blocked = False
    pair.settle()
    assert len(stream.received) == SIZE
    assert (stream.closed, stream.aborted) == (True, False)
    assert wrong_accounts(pair.network) == []


@first_to_end
def test_the_host_takes_all_data_at_last(first: str) -> None:
    pair, peer, stream = left(first)
    assert [flow.state for flow in pair.network.flows()] == ["CLOSING"]
    assert pair.tcp_flows == 1
    pair.wait(3600.0)

    _take_all(pair, stream)
    assert pair.tcp_flows == 0
    assert peer.take() == []
    assert [notice.errno for notice in pair.notices if isinstance(notice, FlowClosed)] == [0]


@first_to_end
def test_a_guest_that_is_done_is_neither_probed_nor_heard(first: str) -> None:
    pair, peer, stream = left(first, Limits(tcp_keepalive=100.0))
    pair.wait(50.0)
    peer.send(RST)  # as a guest answers what belongs to no connection
    peer.send(RST | ACK)
    pair.wait(45.0)

    assert peer.take() == []
    assert _closes(pair) == []
    _take_all(pair, stream)


def test_a_reset_in_time_wait_does_not_reset_the_host() -> None:
    """A guest in CLOSED resets the acknowledgment of what it has sent twice, as by a tail loss probe (RFC 8985)."""
    pair, peer, stream = left("host", Limits(tcp_linger=10.0), waits=False)
    assert [flow.state for flow in pair.network.flows()] == ["TIME_WAIT"]
    (answer,) = peer.send(FIN | ACK, sequence=peer.sequence - 1)
    peer.send(RST, sequence=answer.acknowledgment)

    assert [flow.state for flow in pair.network.flows()] == ["CLOSING"]
    _take_all(pair, stream)


def test_in_time_wait_the_window_needs_no_update() -> None:
    pair, peer, stream = left("host", Limits(tcp_linger=10.0, tcp_window=SIZE + 500), waits=False)
    _take_all(pair, stream)

    assert peer.take() == []
    assert [flow.state for flow in pair.network.flows()] == ["TIME_WAIT"]


@first_to_end
@pytest.mark.parametrize("waits", [False, True])
def test_the_guest_connects_again_from_the_same_port(first: str, waits: bool) -> None:
    pair, peer, stream = left(first, waits=waits)
    (answer,) = peer.send(SYN, sequence=peer.sequence + FAR, acknowledgment=0, mss=1460)
    assert (answer.flags, answer.acknowledgment) == (SYN | ACK, peer.sequence + FAR + 1)
    assert pair.tcp_flows == 2
    assert wrong_accounts(pair.network) == []

    second = pair.host.stream
    assert second is not stream
    peer.sequence += FAR + 1
    peer.expected = answer.sequence + 1
    peer.send()
    peer.data(b"second")
    _take_all(pair, stream)
    assert bytes(second.received) == b"second"
    assert pair.tcp_flows == 1


@first_to_end
def test_a_host_that_never_takes_the_data_is_given_up(first: str) -> None:
    pair, peer, stream = left(first, Limits(tcp_keepalive=100.0))
    pair.wait(101.0)

    assert _closes(pair) == [CloseSocket(stream.socket, abort=True, errno=ETIMEDOUT)]
    assert peer.take() == []
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])
    assert [notice.errno for notice in pair.notices if isinstance(notice, FlowClosed)] == [ETIMEDOUT]


@pytest.mark.parametrize("waits", [False, True])
@first_to_end
def test_what_drains_counts_as_a_connection_but_makes_room(first: str, waits: bool) -> None:
    pair, _, stream = left(first, Limits(tcp_flows=2, tcp_inbound_flows=1), waits=waits)
    ManualConnection(pair, port=50001).open()
    assert (pair.tcp_flows, _closes(pair)) == (2, [])

    ManualConnection(pair, port=50002).open()
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (2, [])
    assert _closes(pair) == [CloseSocket(stream.socket, abort=True, errno=ENOBUFS)]
    assert pair.network.statistics().drops == {}
    [end] = [notice for notice in pair.notices if isinstance(notice, FlowClosed)]
    assert (end.errno, end.reason) == (ENOBUFS, Reason.TCP_LIMIT)

    assert ManualConnection(pair, port=50003).syn() == []
    assert pair.network.statistics().drops == {Reason.TCP_LIMIT: 1}


def test_all_in_time_wait_make_room_before_what_drains() -> None:
    """The first one in TIME-WAIT makes none, since its host has not taken all data yet."""
    pair, _, stream = left("host", Limits(tcp_flows=2, tcp_inbound_flows=1, tcp_linger=100.0), waits=False)
    stream_of_another = _end_second(pair)
    assert (pair.tcp_flows, stream_of_another.closed) == (2, True)

    ManualConnection(pair, port=50002).open()
    assert pair.tcp_flows == 2
    _take_all(pair, stream)


def _end_second(pair: Pair) -> HostStream:
    """Open another connection and end it, so that it is in TIME-WAIT."""
    peer = ManualConnection(pair, port=50001)
    peer.open()
    stream = pair.host.stream
    _host_fin(pair, peer, stream)
    _fin(pair, peer)
    return stream


def test_an_outsider_makes_none_of_the_guests_own_end() -> None:
    pair, _, stream = left("guest", Limits(tcp_flows=8, tcp_inbound_flows=1))
    connection, inbound = pair.accepted()
    assert pair.host.accept(OUTSIDER, 81, pair.now) is None

    inbound.blocked = True
    connection.send(b"the last data")
    connection.shutdown()
    pair.host.end(inbound)
    pair.wait(pair.config.limits.tcp_linger + 1)
    assert (connection.closed, inbound.closed) == (True, False)
    pair.guest.connections.clear()
    pair.accepted(port=82)
    assert inbound.aborted
    assert wrong_accounts(pair.network) == []
    _take_all(pair, stream)


@first_to_end
def test_rules_that_close_it_end_it(first: str) -> None:
    pair, peer, stream = left(first)
    pair.network.reconfigure(replace(pair.config, rules=(Rule(action=Action.REFUSE),)), pair.now)
    pair.settle()

    assert _closes(pair) == [CloseSocket(stream.socket, abort=True, errno=EACCES)]
    assert peer.take() == []
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


@first_to_end
def test_a_host_that_fails_ends_it(first: str) -> None:
    pair, peer, stream = left(first)
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()

    assert _closes(pair) == []
    assert peer.take() == []
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


def test_a_host_that_fails_in_time_wait_of_the_guest_holds_no_data_any_more() -> None:
    pair, _, stream = left("host", waits=False)
    assert pair.network.statistics().tcp_held == SIZE
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()

    assert [flow.state for flow in pair.network.flows()] == ["TIME_WAIT"]
    assert (pair.network.statistics().tcp_held, wrong_accounts(pair.network)) == (0, [])
    pair.network.stream_sent(stream.socket, SIZE, pair.now)  # the driver may be late
    pair.wait(pair.config.limits.tcp_linger)
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


@first_to_end
def test_a_host_that_takes_the_data_slowly_is_not_given_up(first: str) -> None:
    pair, _, stream = left(first, Limits(tcp_keepalive=100.0))
    stream.script = HostScript(accept=100, accept_interval=90.0)
    stream.blocked = False
    pair.wait(850.0)
    assert (len(stream.received), stream.closed) == (1000, False)

    stream.blocked = True
    pair.wait(55.0)
    assert not stream.closed
    pair.wait(20.0)
    assert stream.aborted
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


# A reset that answers our FIN, as from a guest whose last acknowledgment was lost (RFC 9293, 3.10.7.4)


def both_ended(first: str) -> tuple[Pair, ManualConnection, HostStream]:
    """As `left`, but the guest has not acknowledged our FIN: CLOSING or LAST-ACK."""
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    stream = pair.host.stream
    stream.blocked = True
    peer.data(bytes(1000))
    peer.data(bytes(SIZE - 1000))
    pair.wait(0.01)
    peer.accept(peer.take())
    if first == "host":
        pair.host.produce(stream, b"last")
        pair.host.end(stream)
        pair.settle()
    answers = peer.send(FIN | ACK)
    peer.sequence += 1
    if first == "guest":
        pair.host.produce(stream, b"last")
        pair.host.end(stream)
    pair.wait(0.1)
    assert (answers + peer.take())[-1].acknowledgment == peer.sequence
    return pair, peer, stream


@first_to_end
@pytest.mark.parametrize("how", ["reset", "silence"])
def test_the_host_gets_all_data_if_the_last_acknowledgment_never_comes(first: str, how: str) -> None:
    pair, peer, stream = both_ended(first)
    if how == "reset":
        peer.send(RST)
    pair.wait(3600.0)
    assert bool(peer.take()) == (how == "silence")
    assert [flow.state for flow in pair.network.flows()] == ["CLOSING"]
    assert pair.network.statistics().tcp_held == SIZE
    assert wrong_accounts(pair.network) == []
    assert _closes(pair) == []

    _take_all(pair, stream)
    assert _closes(pair) == [CloseSocket(stream.socket)]
    assert pair.tcp_flows == 0
    assert [notice.errno for notice in pair.notices if isinstance(notice, FlowClosed)] == [0]


@first_to_end
def test_a_host_that_took_all_data_is_closed_if_a_reset_comes_for_the_last_acknowledgment(first: str) -> None:
    pair, peer, stream = both_ended(first)
    stream.blocked = False
    pair.settle()
    peer.send(RST)

    assert _closes(pair) == [CloseSocket(stream.socket)]
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


# A guest that vanishes: it sends nothing any more, also no reset


def half_closed(limits: Limits | None = None) -> tuple[Pair, ManualConnection, HostStream]:
    """The guest is in FIN-WAIT-2, and the host's socket has taken none of `SIZE` bytes."""
    pair = Pair(make_config(limits=limits or Limits(tcp_keepalive=1000.0)))
    peer = ManualConnection(pair)
    peer.open()
    stream = pair.host.stream
    stream.blocked = True
    peer.data(bytes(1000))
    peer.data(bytes(SIZE - 1000))
    _fin(pair, peer)
    assert peer.take() == []
    return pair, peer, stream


@pytest.mark.parametrize("busy", [False, True])
def test_the_host_gets_all_data_of_a_guest_that_vanished_after_its_fin(busy: bool) -> None:
    """It is found out by probes, or because it does not acknowledge data."""
    pair, peer, stream = half_closed()
    if busy:
        pair.host.produce(stream, bytes(100_000))
    pair.wait(1000.0 if busy else 2000.0)
    assert peer.take()[-1].flags == RST | ACK
    assert [flow.state for flow in pair.network.flows()] == ["CLOSING"]
    assert pair.network.statistics().tcp_held == SIZE
    assert wrong_accounts(pair.network) == []
    assert _closes(pair) == []

    _take_all(pair, stream)
    assert _closes(pair) == [CloseSocket(stream.socket, abort=False, errno=ETIMEDOUT)]
    assert peer.take() == []
    assert pair.tcp_flows == 0
    assert [notice.errno for notice in pair.notices if isinstance(notice, FlowClosed)] == [ETIMEDOUT]


def test_a_host_that_took_all_data_of_it_is_closed_and_not_reset() -> None:
    """The kernel may still have the last data to send."""
    pair, peer, stream = half_closed()
    stream.blocked = False
    pair.wait(2000.0)

    assert peer.take()[-1].flags == RST | ACK
    assert _closes(pair) == [CloseSocket(stream.socket, abort=False, errno=ETIMEDOUT)]
    assert (pair.tcp_flows, wrong_accounts(pair.network)) == (0, [])


def test_the_host_of_a_guest_that_vanished_is_given_up_without_progress_alone() -> None:
    pair, _, stream = half_closed()
    pair.wait(1750.0)
    assert [flow.state for flow in pair.network.flows()] == ["CLOSING"]
    stream.script = HostScript(accept=100, accept_interval=900.0)
    stream.blocked = False
    pair.wait(5000.0)
    assert (len(stream.received), stream.closed) == (600, False)

    stream.blocked = True
    pair.wait(1100.0)
    assert _closes(pair) == [CloseSocket(stream.socket, abort=True, errno=ETIMEDOUT)]


def test_what_the_host_sends_to_a_guest_that_vanished_is_not_read() -> None:
    pair, peer, stream = half_closed()
    pair.wait(2000.0)
    peer.take()
    pair.host.produce(stream, b"nobody")
    assert pair.network.receive_budget(stream.socket) == 0
    pair.host.end(stream)
    pair.wait(50.0)

    assert peer.take() == []
    assert pair.network.statistics().tcp_held == SIZE
    _take_all(pair, stream)


def test_a_guest_is_not_probed_while_the_host_takes_its_last_data() -> None:
    """Its kernel may have forgotten the connection (tcp_fin_timeout), and would answer by a reset."""
    pair, peer, stream = half_closed()
    stream.script = HostScript(accept=100, accept_interval=900.0)
    stream.blocked = False
    pair.wait(8500.0)
    assert (len(stream.received), peer.take()) == (1000, [])

    stream.blocked = True
    pair.wait(1000.0)
    probe, *_ = peer.take()
    peer.send(RST, sequence=probe.acknowledgment)
    assert stream.aborted
