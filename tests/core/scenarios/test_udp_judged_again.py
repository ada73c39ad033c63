"""Open flows of UDP are judged again when the rules change: those that are closed now end."""

from __future__ import annotations

from errno import ENETUNREACH
from typing import Any

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    DecideFlow,
    Endpoint,
    ExtendedError,
    FlowClosed,
    OpenDatagram,
    Prefix,
    Reason,
    Rule,
    SendDatagram,
    Serve,
    SocketId,
)
from sansnet_core.addresses import packed
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, make_config
from sansnet_core.testing.packets import Ip, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, Direct

NAME, LEASE = "db.example.org", "198.18.0.1"
GROUP, SERVER = "239.255.255.250", "192.0.2.80"
FROM = Endpoint(GUEST, 5000)


def bench_of(**fields: Any) -> tuple[Direct, FakeBindings]:
    bench = Direct(replace(make_config(), **fields))
    bindings = FakeBindings({LEASE: NAME})
    bindings.attach(bench)
    return bench, bindings


def datagram(destination: str = SERVER) -> Ip:
    return udp(GUEST, 5000, packed(destination), 7, b"hello")


def other_rules(bench: Direct, *rules: Rule, **fields: Any) -> None:
    """Change the rules; the orders before are forgotten."""
    bench.take()
    bench.network.reconfigure(replace(bench.config, rules=rules, **fields), bench.now)
    bench.collect()


def served_by_verdict(bench: Direct, destination: str) -> SocketId:
    bench.send(datagram(destination))
    question = bench.one(DecideFlow)
    bench.network.flow_decided(question.socket, Serve(), bench.now)
    bench.collect()
    return question.socket


@pytest.mark.parametrize("action", [Action.ALLOW, Action.ASK])
@pytest.mark.parametrize("destination", [SERVER, GROUP, LEASE])
def test_a_flow_that_a_verdict_gave_to_the_program_stays_while_the_rules_leave_it_open(
    destination: str, action: Action
) -> None:
    """The addresses of a name need not be known for it."""
    bench, _ = bench_of(default_action=Action.ASK)
    served_by_verdict(bench, destination)
    other_rules(bench, Rule(action=Action.REFUSE, protocols=("tcp",)), default_action=action)
    assert bench.take() == []
    assert len(bench.network.flows()) == 1


@pytest.mark.parametrize("destination", [SERVER, GROUP, LEASE])
def test_a_flow_that_a_verdict_gave_to_the_program_ends_if_the_rules_close_it(destination: str) -> None:
    bench, _ = bench_of(default_action=Action.ASK)
    socket = served_by_verdict(bench, destination)
    other_rules(bench, Rule(action=Action.REFUSE, protocols=("udp",)))
    assert bench.one(CloseSocket) == CloseSocket(socket)
    assert bench.network.flows() == []


def test_rules_do_not_end_the_flows_of_a_service() -> None:
    """Neither those that the guest began nor those that the program began."""
    bench, _ = bench_of()
    service = bench.network.service_added(17, Prefix.of("192.0.2.0/24"), None, bench.now)
    bench.send(datagram())
    bench.network.service_sent(service, FROM, Endpoint("192.0.2.81", 7), b"news", bench.now)
    assert [report.inbound for report in bench.network.flows()] == [False, True]
    other_rules(bench, Rule(action=Action.REFUSE), default_action=Action.REFUSE)
    assert len(bench.network.flows()) == 2


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        (Rule(action=Action.REFUSE, inbound=True, destinations=(OUTSIDER.address,)), True),
        (Rule(action=Action.REFUSE, inbound=True, destinations=(SERVER,)), False),
        (Rule(action=Action.REFUSE, inbound=True, ports=(53,)), True),
        (Rule(action=Action.REFUSE, inbound=True, ports=(54,)), False),
        (Rule(action=Action.ASK, inbound=True), False),
    ],
)
def test_flows_of_outsiders_are_judged_by_their_address_and_the_guests_port(rule: Rule, ends: bool) -> None:
    bench, _ = bench_of()
    forward = bench.network.forward_added(None, 53, bench.now)
    bench.network.datagram_received(forward, OUTSIDER, b"x", 0, 60, 0, bench.now)
    other_rules(bench, rule)
    assert len(bench.network.flows()) == (not ends)
    if ends:
        closed = bench.notices[-1]
        assert isinstance(closed, FlowClosed)
        assert closed.reason is Reason.REFUSED


def test_the_addresses_that_new_rules_leave_open_are_tried_next() -> None:
    first, second, third = "93.184.215.14", "93.184.215.15", "93.184.215.16"
    named = Rule(action=Action.ALLOW, names=(NAME,))
    bench, bindings = bench_of(rules=(named,), default_action=Action.REFUSE)
    bindings.know(NAME, first, second, third)
    bench.send(datagram(LEASE))
    socket = next(order.socket for order in bench.take() if isinstance(order, OpenDatagram))
    other_rules(bench, Rule(action=Action.REFUSE, destinations=(second,)), named)
    error = ExtendedError(ENETUNREACH, 1, 0, 0, 0, None)
    bench.network.datagram_failed(socket, Endpoint(first, 7), error, b"hello", bench.now)
    bench.collect()
    assert [order.remote for order in bench.take() if isinstance(order, SendDatagram)] == [Endpoint(third, 7)]
