"""How much of the guest's data the host has not taken: `FlowReport.undelivered` and `NetworkStatistics.tcp_lost`."""

from __future__ import annotations

from errno import ECONNRESET

from sansnet_core import FlowReport
from sansnet_core.policy import Action, Rule
from sansnet_core.records import replace
from sansnet_core.testing import HostStream, ManualConnection, Pair
from sansnet_core.testing.packets import ACK, FIN, RST

SIZE = 1000


def connected() -> tuple[Pair, ManualConnection, HostStream]:
    pair = Pair()
    peer = ManualConnection(pair)
    peer.open()
    return pair, peer, pair.host.stream


def blocked() -> tuple[Pair, ManualConnection, HostStream]:
    """The host's socket has taken nothing of `SIZE` bytes."""
    pair, peer, stream = connected()
    stream.blocked = True
    peer.data(bytes(SIZE))
    pair.wait(0.1)
    peer.accept(peer.take())
    return pair, peer, stream


def only(pair: Pair) -> FlowReport:
    (flow,) = pair.network.flows()
    return flow


def fin(pair: Pair, peer: ManualConnection) -> None:
    peer.send(FIN | ACK)
    peer.sequence += 1
    pair.wait(0.1)
    peer.accept(peer.take())


def test_data_from_the_host_do_not_count() -> None:
    pair, _, stream = connected()
    pair.host.produce(stream, bytes(SIZE))
    pair.settle()
    assert pair.network.statistics().tcp_held == SIZE
    assert only(pair).undelivered == 0


def test_data_count_until_the_host_has_taken_them() -> None:
    pair, _, stream = blocked()
    assert (only(pair).undelivered, only(pair).sent) == (SIZE, SIZE)
    stream.blocked = False
    pair.settle()
    assert (only(pair).undelivered, only(pair).sent) == (0, SIZE)
    assert pair.network.statistics().tcp_lost == 0


def test_the_guest_has_ended_if_its_fin_has_come() -> None:
    pair, peer, stream = blocked()
    pair.host.end(stream)  # its own end is not that of the guest
    pair.wait(0.1)
    peer.accept(peer.take())
    assert (only(pair).state, only(pair).ended) == ("CLOSING", False)
    fin(pair, peer)
    assert only(pair).ended


def test_a_host_that_fails_loses_data() -> None:
    pair, _, stream = blocked()
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()
    assert pair.network.flows() == []
    assert pair.network.statistics().tcp_lost == SIZE


def test_a_host_that_fails_in_time_wait_loses_data_once() -> None:
    pair, peer, stream = blocked()
    pair.host.end(stream)
    pair.wait(0.1)
    peer.accept(peer.take())
    fin(pair, peer)
    assert (only(pair).state, only(pair).undelivered) == ("TIME_WAIT", SIZE)
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()
    assert (only(pair).state, only(pair).undelivered) == ("TIME_WAIT", 0)
    pair.wait(pair.config.limits.tcp_linger + 1.0)
    assert pair.network.flows() == []
    assert pair.network.statistics().tcp_lost == SIZE


def test_new_rules_lose_data() -> None:
    pair, _, _ = blocked()
    pair.network.reconfigure(replace(pair.config, rules=(Rule(action=Action.REFUSE),)), pair.now)
    assert pair.network.flows() == []
    assert pair.network.statistics().tcp_lost == SIZE


def test_a_guest_that_resets_wants_no_delivery() -> None:
    pair, peer, _ = blocked()
    peer.send(RST)
    pair.settle()
    assert pair.network.flows() == []
    assert pair.network.statistics().tcp_lost == 0
