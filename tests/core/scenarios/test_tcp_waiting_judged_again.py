"""Connections that wait for a verdict or for a name are judged again when the rules change, each on its own."""

from __future__ import annotations

from errno import ECONNREFUSED, EHOSTUNREACH
from typing import Any

import pytest

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Endpoint,
    FlowRefused,
    OpenStream,
    Reason,
    Rule,
)
from sansnet_core.orders import SocketId
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER
from tests.core.direct import Direct
from tests.core.named import LEASE, NAME, OTHER, OTHER_LEASE, PUBLIC, PUBLIC_B, TcpGuest, named, opened

ASK, ALLOW, REFUSE = (Rule(action=action) for action in (Action.ASK, Action.ALLOW, Action.REFUSE))
SECOND = Endpoint(SERVER, 1000)


def other_rules(bench: Direct, *rules: Rule, **fields: Any) -> None:
    """Change the rules; the orders before are forgotten."""
    bench.take()
    bench.network.reconfigure(replace(bench.config, rules=rules, **fields), bench.now)
    bench.collect()


def wait(bench: Direct, remote: Endpoint = OUTSIDER, port: int = 80) -> SocketId:
    """A connection of an outsider, about which the program is asked."""
    socket = bench.network.stream_accepted(remote, None, port, bench.now)
    bench.collect()
    assert socket is not None
    assert isinstance(bench.orders[-1], DecideFlow)
    return socket


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ((REFUSE,), [True, True]),
        ((Rule(action=Action.REFUSE, inbound=False), ASK), [False, False]),
        ((Rule(action=Action.REFUSE, inbound=True), ASK), [True, True]),
        ((Rule(action=Action.REFUSE, protocols=("udp",)), ALLOW), [False, False]),
        ((Rule(action=Action.REFUSE, destinations=(SERVER,)), ASK), [False, True]),
        ((Rule(action=Action.REFUSE, ports=(80,)), ASK), [True, False]),
        ((Rule(action=Action.REFUSE, ports=(81,)), ALLOW), [False, True]),
    ],
)
def test_an_outsider_is_judged_by_its_address_and_the_guests_port(rules: tuple[Rule, ...], refused: list[bool]) -> None:
    bench, _ = named(ASK)
    sockets = [wait(bench), wait(bench, SECOND, 81)]
    other_rules(bench, *rules)
    closed = [order.socket for order in bench.take() if isinstance(order, CloseSocket)]
    assert [socket in closed for socket in sockets] == refused
    for socket, gone in zip(sockets, refused, strict=True):
        bench.network.flow_decided(socket, Allow(), bench.now)
        bench.collect()
        assert len(bench.packets) == (not gone)
        bench.packets.clear()


def test_the_rule_that_refuses_an_outsider_is_told() -> None:
    bench, _ = named(ASK)
    socket = wait(bench)
    other_rules(bench, Rule(action=Action.REFUSE, inbound=True, errno=ECONNREFUSED, label="no"))
    assert bench.take() == [CloseSocket(socket, True, ECONNREFUSED)]
    ends = bench.network.statistics().last_drops[Reason.REFUSED][0]
    assert (ends.source, ends.destination.port) == (OUTSIDER, 80)
    notice = bench.notices[-1]
    assert isinstance(notice, FlowRefused)
    assert (notice.errno, notice.reason, notice.inbound, notice.rule) == (ECONNREFUSED, Reason.REFUSED, True, "no")


def test_each_connection_of_the_guest_is_judged_on_its_own() -> None:
    bench, _ = named(ASK)
    for port, destination in enumerate((PUBLIC, PUBLIC_B, PUBLIC), 40000):
        TcpGuest(bench, destination, source_port=port).syn()
    other_rules(bench, Rule(action=Action.ALLOW, destinations=(PUBLIC_B,)), ASK)
    closed, order = bench.take()
    assert closed == CloseSocket(SocketId(2))
    assert isinstance(order, OpenStream)
    assert (order.socket, order.remote.address) == (SocketId(4), Endpoint(PUBLIC_B, 1).address)
    assert [report.state for report in bench.network.flows()] == ["UNDECIDED", "SYN_RECEIVED", "UNDECIDED"]
    bench.network.stream_connected(SocketId(4), bench.now)
    assert bench.network.flows()[1].state == "SYN_ACK_SENT"


def test_a_verdict_counts_while_the_name_is_resolved() -> None:
    bench, bindings = named(ASK)
    TcpGuest(bench).syn()
    question = bench.one(DecideFlow)
    bench.network.flow_decided(question.socket, Allow(), bench.now)
    other_rules(bench, replace(ASK, label="as before"))
    assert bench.take() == []
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]


def test_a_connection_that_waits_for_its_name_keeps_its_socket() -> None:
    bench, _ = named(ALLOW)
    TcpGuest(bench).syn()
    to = Endpoint(SERVER, 5433)
    other_rules(bench, Rule(action=Action.ALLOW, names=(NAME,), to=to))
    assert [(order.socket, order.remote) for order in opened(bench)] == [(SocketId(1), to)]


def test_a_destination_that_stands_for_another_name_meanwhile_is_unreachable() -> None:
    bench, bindings = named(ALLOW)
    guest = TcpGuest(bench)
    guest.syn()
    bindings.rename(LEASE, OTHER)
    bindings.know(NAME, PUBLIC)
    bench.collect()
    notice = bench.notices[-1]
    assert isinstance(notice, FlowRefused)
    assert (notice.reason, notice.errno, notice.rule) == (Reason.NAME_UNRESOLVED, EHOSTUNREACH, None)
    assert len(guest.errors()) == 1
    assert bench.take() == []


def test_what_waits_for_another_name_goes_on() -> None:
    bench, bindings = named(ALLOW)
    TcpGuest(bench).syn()
    TcpGuest(bench, OTHER_LEASE, source_port=40001).syn()
    other_rules(bench, Rule(action=Action.REFUSE, names=(NAME,)), ALLOW)
    assert [report.name for report in bench.network.flows()] == [OTHER]
    bindings.know(OTHER, PUBLIC)
    bench.collect()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]


@pytest.mark.parametrize(("address", "ends"), [(OUTSIDER.address, True), (Endpoint(SERVER, 1).address, False)])
def test_an_open_connection_of_an_outsider_is_judged_by_its_address(address: bytes, ends: bool) -> None:
    bench = named(ALLOW)[0]
    assert bench.network.stream_accepted(OUTSIDER, None, 80, bench.now) is not None
    bench.collect()
    other_rules(bench, Rule(action=Action.REFUSE, inbound=True, destinations=(address,)), ALLOW)
    assert len(bench.network.flows()) == (not ends)


def test_a_connection_through_a_proxy_is_judged_without_the_proxys_address() -> None:
    proxy = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=Endpoint("10.0.0.9", 1080))
    via = Rule(action=Action.ALLOW, names=(NAME,), via="office")
    bench, _ = named(via, proxies=(proxy,))
    TcpGuest(bench).syn()
    other_rules(bench, Rule(action=Action.REFUSE, destinations=("10.0.0.9",)), via)
    assert bench.take() == []
    assert len(bench.network.flows()) == 1
