"""Open connections are judged again when the rules change: those that are closed now are reset, on both sides."""

from __future__ import annotations

from errno import EACCES

import pytest

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Endpoint,
    FlowClosed,
    FlowRefused,
    OpenStream,
    Reason,
    Rule,
)
from sansnet_core.config import ResolverConfig
from sansnet_core.orders import SocketId
from sansnet_core.policy import Group
from sansnet_core.records import replace
from sansnet_core.testing import (
    GATEWAY,
    OUTSIDER,
    OUTSIDER6,
    SERVER,
    GuestConnection,
    GuestTcpOptions,
    HostScript,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, FIN
from tests.core.named import LEASE, NAME, OTHER_LEASE, PUBLIC, PUBLIC6, PUBLIC_B, TcpGuest, named, opened

ALL = Rule(action=Action.ALLOW)


def is_reset(connection: GuestConnection) -> bool:
    return connection.reset


def other_rules(pair: Pair, *rules: Rule, **fields: object) -> None:
    pair.network.reconfigure(replace(pair.config, **{"rules": rules, **fields}), pair.now)
    pair.settle()


def established(pair: Pair, family: int = 4) -> GuestConnection:
    connection = pair.connect(family=family)
    pair.settle()
    assert connection.established
    return connection


def closings(pair: Pair) -> list[CloseSocket]:
    return [order for order in pair.host.orders if isinstance(order, CloseSocket)]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "rule",
    [
        Rule(action=Action.REFUSE),
        Rule(action=Action.DROP, protocols=("tcp",)),
        Rule(action=Action.REFUSE, ports=(80,)),
        Rule(action=Action.REFUSE, destinations=("192.0.2.80", "2001:db8:ffff::80")),
        Rule(action=Action.REFUSE, inbound=False),
    ],
    ids=str,
)
def test_an_open_connection_that_is_closed_now_is_reset(rule: Rule, family: int) -> None:
    pair = Pair(make_config(), HostScript(echo=True))
    connection = established(pair, family)
    connection.send(b"hello")
    pair.settle()
    other_rules(pair, rule)
    assert is_reset(connection)
    assert closings(pair) == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]
    closed = pair.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.reason, closed.errno, closed.sent, closed.received) == (Reason.REFUSED, EACCES, 5, 5)
    assert (pair.tcp_flows, pair.network.statistics().tcp_held) == (0, 0)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(action=Action.REFUSE, protocols=("udp", "ping")),
        Rule(action=Action.REFUSE, ports=(81,)),
        Rule(action=Action.REFUSE, destinations=("192.0.2.81",)),
        Rule(action=Action.REFUSE, inbound=True),
        Rule(action=Action.REFUSE, groups=(Group.LOOPBACK,)),
        Rule(action=Action.ASK),
    ],
    ids=str,
)
def test_others_go_on(rule: Rule) -> None:
    pair = Pair(make_config(), HostScript(echo=True))
    connection = established(pair)
    other_rules(pair, rule)
    connection.send(b"goes on")
    pair.settle()
    assert bytes(connection.received) == b"goes on"


def test_new_rules_leave_a_connection_in_time_wait_alone() -> None:
    """Both sides have ended it; it only answers what the guest repeats."""
    pair = Pair(make_config())
    peer = ManualConnection(pair)
    peer.open()
    pair.host.end(pair.host.stream)
    pair.settle()
    peer.accept(peer.take())
    fin = peer.segment(ACK | FIN)
    peer.send(ACK | FIN)
    assert [flow.state for flow in pair.network.flows()] == ["TIME_WAIT"]
    before = list(pair.host.orders)
    other_rules(pair, Rule(action=Action.REFUSE))
    assert (pair.host.orders, peer.take()) == (before, [])
    pair.guest.send(fin.ip())
    pair.settle()
    assert [segment.flags for segment in peer.take()] == [ACK]


def test_flows_may_be_kept() -> None:
    pair = Pair(make_config(), HostScript(echo=True))
    connection = established(pair)
    rules = (Rule(action=Action.REFUSE),)
    pair.network.reconfigure(replace(pair.config, rules=rules), pair.now, keep_flows=True)
    connection.send(b"goes on")
    pair.settle()
    assert bytes(connection.received) == b"goes on"
    other = pair.connect()
    pair.settle()
    assert not other.established


@pytest.mark.parametrize(
    "fields", [{"default_action": Action.REFUSE}, {"rules": (Rule(action=Action.REFUSE, groups=(Group.HOST,)),)}]
)
def test_the_default_and_groups_count(fields: dict[str, object]) -> None:
    pair = Pair(make_config())
    connection = established(pair)
    pair.network.reconfigure(replace(pair.config, host_addresses=(SERVER,), **fields), pair.now)
    pair.settle()
    assert is_reset(connection)


def test_an_address_of_the_host_that_is_new_counts() -> None:
    pair = Pair(replace(make_config(), rules=(Rule(action=Action.REFUSE, groups=(Group.HOST,)),)))
    connection = established(pair)
    pair.network.reconfigure(replace(pair.config, host_addresses=(SERVER,)), pair.now)
    pair.settle()
    assert is_reset(connection)


@pytest.mark.parametrize("port", [53, 853])
def test_a_connection_to_a_name_server_ends_once_our_own_resolver_takes_its_place(port: int) -> None:
    """Otherwise the guest could ask for any name on it."""
    pair = Pair(replace(make_config(), dns_servers=(SERVER,)))
    connection = pair.connect(port=port)
    pair.settle()
    assert connection.established
    other_rules(pair, Rule(action=Action.REFUSE, names=("evil.example",)), ALL, resolver=ResolverConfig())
    assert is_reset(connection)


def test_the_same_rules_end_nothing() -> None:
    """Not even a flow that a `decide` function has redirected, or one of a moved network."""
    pair = Pair(replace(make_config(), default_action=Action.ASK))
    connection = pair.connect()
    pair.settle()
    pair.host.decide(SocketId(1), Allow(Endpoint("127.0.0.1", 9)), pair.now)
    pair.settle()
    pair.settle()
    assert connection.established
    for rules in ((), (Rule(action=Action.REFUSE, groups=(Group.LOOPBACK,)),)):
        pair.network.reconfigure(replace(pair.config, rules=rules, dns_search=("new.example",)), pair.now)
        pair.settle()
        assert not is_reset(connection)


def test_a_connect_under_way_is_refused() -> None:
    pair = Pair(make_config(), HostScript(connect=None))
    connection = pair.connect()
    pair.settle()
    other_rules(pair, Rule(action=Action.REFUSE))
    assert closings(pair) == [CloseSocket(SocketId(1), abort=True, errno=EACCES)]
    assert not connection.established
    refused = [notice for notice in pair.notices if isinstance(notice, FlowRefused)]
    assert [(notice.errno, notice.reason) for notice in refused] == [(EACCES, Reason.REFUSED)]
    assert pair.tcp_flows == 0


def test_a_redirected_connection_ends_with_its_rule() -> None:
    rule = Rule(action=Action.ALLOW, to=Endpoint("203.0.113.5", 8080))
    pair = Pair(replace(make_config(), rules=(rule,)))
    connection = established(pair)
    other_rules(pair, rule, ALL)
    assert not is_reset(connection)
    other_rules(pair, replace(rule, to=Endpoint("203.0.113.6", 8080)))
    assert is_reset(connection)
    connection = established(pair)
    other_rules(pair, ALL)
    assert is_reset(connection), "the guest would get to another server now"


@pytest.mark.parametrize("outsider", [OUTSIDER, OUTSIDER6])
@pytest.mark.parametrize("accepted", [True, False])
def test_connections_from_outside_are_judged_by_their_direction(outsider: Endpoint, accepted: bool) -> None:
    pair = Pair(make_config())
    if accepted:
        pair.guest.listening[80] = GuestTcpOptions()
    stream = pair.host.accept(outsider, 80, pair.now)
    assert stream is not None
    if accepted:
        pair.settle()
    other_rules(pair, Rule(action=Action.REFUSE, inbound=False), Rule(action=Action.REFUSE, inbound=True, ports=(81,)))
    assert closings(pair) == []
    other_rules(pair, Rule(action=Action.REFUSE, inbound=True, ports=(80,)))
    assert stream.closed
    assert stream.aborted
    assert pair.tcp_flows == 0


def test_the_programs_own_connections_are_not_judged() -> None:
    pair = Pair(make_config(), HostScript(echo=True))
    pair.network.service_added(6, None, None, pair.now)
    pair.guest.listening[80] = GuestTcpOptions()
    served = pair.guest.connect((GATEWAY, 7), now=pair.now)
    stream = pair.host.connect(80, pair.now)
    assert not isinstance(stream, int)
    pair.settle()
    assert served.established
    other_rules(pair, Rule(action=Action.REFUSE))
    assert not is_reset(served)
    assert not stream.closed


# names


def test_a_connection_to_a_name_ends_with_the_rule_for_the_name() -> None:
    rules = Rule(action=Action.ALLOW, names=(NAME,)), Rule(action=Action.ALLOW, names=("*.example.net",))
    bench, bindings = named(*rules)
    bindings.know(NAME, PUBLIC, PUBLIC6)
    bindings.know("files.example.net", PUBLIC)
    for lease, port in ((LEASE, 40000), (OTHER_LEASE, 40001)):
        guest = TcpGuest(bench, lease, source_port=port)
        guest.syn()
        (order,) = opened(bench)
        bench.network.stream_connected(order.socket, bench.now)
        bench.collect()
        guest.accept()
        bench.take()
    bench.network.reconfigure(replace(bench.config, rules=rules[1:]), bench.now)
    bench.collect()
    assert [order.socket for order in bench.take() if isinstance(order, CloseSocket)] == [1]
    (report,) = bench.network.flows()
    assert report.name == "files.example.net"
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.name, closed.reason) == (NAME, Reason.REFUSED)


def test_attempts_to_addresses_that_are_closed_now_are_given_up() -> None:
    rule = Rule(action=Action.ALLOW, names=(NAME,))
    bench, bindings = named(rule)
    bindings.know(NAME, PUBLIC6, PUBLIC, PUBLIC_B)
    guest = TcpGuest(bench)
    guest.syn()
    bench.wait(0.3)
    first, second = opened(bench)
    closes = Rule(action=Action.REFUSE, destinations=(PUBLIC6, PUBLIC))
    bench.network.reconfigure(replace(bench.config, rules=(closes, rule)), bench.now)
    bench.collect()
    *closed, third = bench.take()
    assert closed == [CloseSocket(order.socket, abort=True, errno=EACCES) for order in (first, second)]
    assert isinstance(third, OpenStream)
    assert third.remote == Endpoint(PUBLIC_B, 5432)
    bench.network.reconfigure(replace(bench.config, rules=()), bench.now)
    bench.collect()
    assert bench.take() == [CloseSocket(third.socket, abort=True, errno=EACCES)]
    assert guest.errors() == [(3, 13)]
    assert (bench.network.flows(), bench.network._tcp._shared.further) == ([], 0)
    bench.wait(5.0)
    assert bench.take() == []


def test_a_connection_that_the_driver_has_allowed_goes_on_while_it_would_be_asked_about() -> None:
    ask = Rule(action=Action.ASK, names=(NAME,))
    bench, bindings = named(ask)
    bindings.know(NAME, PUBLIC)
    guest = TcpGuest(bench)
    guest.syn()
    (question,) = bench.take()
    assert isinstance(question, DecideFlow)
    bench.network.flow_decided(question.socket, Allow(Endpoint("127.0.0.1", 9)), bench.now)
    bench.collect()
    assert len(opened(bench)) == 1
    bench.network.reconfigure(replace(bench.config, rules=(ask, ALL)), bench.now)
    bench.collect()
    assert bench.take() == []
    bench.network.reconfigure(replace(bench.config, rules=(Rule(action=Action.DROP, names=(NAME,)), ALL)), bench.now)
    bench.collect()
    assert [type(order) for order in bench.take()] == [CloseSocket]
    assert guest.errors() == [(3, 13)]
