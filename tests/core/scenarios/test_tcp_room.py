"""Connections that the guest has no more make room for others: only if that helps, and no more than are needed."""

from __future__ import annotations

from errno import EADDRINUSE, ENOBUFS

from sansnet_core import Endpoint, FlowRefused, Limits, NetworkConfig, Reason
from sansnet_core.policy import Action, Rule
from sansnet_core.records import replace
from sansnet_core.testing import HostScript, HostStream, ManualConnection, Pair, make_config
from sansnet_core.testing.packets import ACK, FIN
from tests.core.recording.accounts import wrong_accounts

ANOTHER = Endpoint(bytes([198, 51, 100, 77]), 4000)
PROGRAM = Endpoint(bytes([10, 0, 2, 2]), 7000)


def draining(config: NetworkConfig) -> tuple[Pair, HostStream]:
    """The guest has ended an inbound connection, and the host has not taken all data of it."""
    pair = Pair(config)
    connection, stream = pair.accepted()
    stream.blocked = True
    connection.send(b"the last data")
    connection.shutdown()
    pair.host.end(stream)
    pair.wait(pair.config.limits.tcp_linger + 1)
    pair.guest.connections.clear()
    assert not stream.closed
    return pair, stream


def in_time_wait(pair: Pair, port: int) -> None:
    """A connection of the guest is in TIME-WAIT."""
    peer = ManualConnection(pair, port=port)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    peer.send(FIN | ACK)
    peer.sequence += 1
    pair.wait(0.01)
    peer.accept(peer.take())


def outsider(pair: Pair, port: int) -> bool:
    """Whether another connection from outside may open."""
    stream = pair.host.accept(ANOTHER, port, pair.now)
    pair.settle()
    return stream is not None


def program(pair: Pair, port: int) -> int:
    """The program connects; its errno."""
    stream = pair.host.connect(port, pair.now, source=PROGRAM)
    pair.settle()
    return stream if isinstance(stream, int) else 0


def _refusals(pair: Pair) -> list[Reason | None]:
    return [notice.reason for notice in pair.notices if isinstance(notice, FlowRefused)]


def test_outsiders_that_rules_refuse_end_none() -> None:
    allowed = Rule(action=Action.ALLOW, inbound=True, destinations=("198.51.100.7",))
    others = Rule(action=Action.REFUSE, inbound=True)
    pair, stream = draining(replace(make_config(limits=Limits(tcp_inbound_flows=1)), rules=(allowed, others)))
    assert not outsider(pair, 80)
    assert _refusals(pair) == [Reason.REFUSED]
    assert not stream.closed


def test_questions_beyond_the_limit_end_none() -> None:
    allowed = Rule(action=Action.ALLOW, inbound=True, destinations=("198.51.100.7",))
    ask = Rule(action=Action.ASK, inbound=True)
    pair, stream = draining(replace(make_config(limits=Limits(tcp_flows=2, undecided_flows=1)), rules=(allowed, ask)))
    assert outsider(pair, 80)
    assert not outsider(pair, 81)
    assert _refusals(pair) == [Reason.UNDECIDED_LIMIT]
    assert not stream.closed


def test_a_program_whose_endpoint_is_in_use_ends_none() -> None:
    pair, stream = draining(make_config(limits=Limits(tcp_flows=2)))
    assert program(pair, 80) == 0
    assert program(pair, 80) == EADDRINUSE
    assert not stream.closed
    assert program(pair, 81) == 0
    assert stream.aborted
    assert program(pair, 82) == ENOBUFS


def test_outsiders_beyond_their_limit_do_not_end_time_wait_of_the_guest() -> None:
    pair, stream = draining(make_config(limits=Limits(tcp_inbound_flows=1, tcp_linger=100.0)))
    in_time_wait(pair, 50001)
    assert outsider(pair, 80)
    assert stream.aborted
    assert not outsider(pair, 81)
    assert sorted(flow.state for flow in pair.network.flows()) == ["ESTABLISHED", "TIME_WAIT"]
    assert wrong_accounts(pair.network) == []


def test_an_outsider_ends_time_wait_of_outsiders_before_what_drains() -> None:
    pair, stream = draining(make_config(limits=Limits(tcp_inbound_flows=2, tcp_linger=100.0)))
    connection, second = pair.accepted(port=81)
    pair.host.end(second)
    pair.settle()
    connection.shutdown()
    pair.wait(0.01)
    assert second.closed
    assert outsider(pair, 80)
    assert not stream.closed
    assert outsider(pair, 81)
    assert stream.aborted


def test_one_connect_that_is_given_up_makes_room_for_both_limits() -> None:
    pair, stream = draining(make_config(limits=Limits(tcp_flows=2, tcp_pending=1)))
    pair.host.script = HostScript(connect=None)
    ManualConnection(pair, port=50001).syn()
    waiting = pair.host.stream
    ManualConnection(pair, port=50002).syn()
    assert waiting.aborted
    assert not stream.closed
    assert pair.tcp_flows == 2
    assert wrong_accounts(pair.network) == []


def test_an_outsider_without_room_does_not_end_time_wait_of_the_guest_with_the_same_ends() -> None:
    pair = Pair(make_config(limits=Limits(tcp_inbound_flows=1, tcp_linger=100.0)))
    in_time_wait(pair, 50001)
    [flow] = pair.network.flows()
    pair.accepted(port=81)
    assert pair.host.accept(flow.remote, flow.guest.port, pair.now) is None
    assert sorted(flow.state for flow in pair.network.flows()) == ["ESTABLISHED", "TIME_WAIT"]


def test_time_wait_of_the_guest_makes_room_for_an_outsider_in_a_full_table() -> None:
    pair = Pair(make_config(limits=Limits(tcp_flows=1, tcp_inbound_flows=1, tcp_linger=100.0)))
    in_time_wait(pair, 50001)
    pair.accepted(port=81)
    assert [flow.state for flow in pair.network.flows()] == ["ESTABLISHED"]
    assert wrong_accounts(pair.network) == []
