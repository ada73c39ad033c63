"""Pings to names, and the bounds of pings where there are rules."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    DecideFlow,
    ExtendedError,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    LinkConfig,
    OpenEcho,
    Reason,
    Rule,
    SendEcho,
    Serve,
)
from sansnet_core.addresses import packed
from sansnet_core.orders import ORIGIN_ICMPV6, ORIGIN_LOCAL
from sansnet_core.records import replace
from sansnet_core.testing import make_config
from sansnet_core.testing.packets import Ip, echo_request
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

NAME = "db.example.org"
LEASE, LEASE6 = "198.18.0.1", "fd73:616e:736e:6574::1"
PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07::1"
RULE = Rule(action=Action.ALLOW, names=(NAME,), protocols=("ping",), label="database")
IDENTIFIER = 0x1234


def named(**fields: Any) -> tuple[Direct, FakeBindings]:
    """A network whose rules allow pings to one name, and the bindings of that name's own addresses."""
    bench = Direct(
        replace(make_config(), link=LinkConfig(), **({"rules": (RULE,), "default_action": Action.REFUSE} | fields))
    )
    bindings = FakeBindings({LEASE: NAME, LEASE6: NAME})
    bindings.attach(bench)
    return bench, bindings


def ping(destination: str = LEASE, *, sequence: int = 1, data: bytes = b"data", identifier: int = IDENTIFIER) -> Ip:
    address = packed(destination)
    return echo_request(GUEST if len(address) == 4 else GUEST6, address, identifier, sequence, data)


def change(bench: Direct, **fields: Any) -> None:
    bench.take()
    bench.config = replace(bench.config, **fields)
    bench.network.reconfigure(bench.config, bench.now)
    bench.collect()


@pytest.mark.parametrize("lease", [LEASE, LEASE6])
@pytest.mark.parametrize("host", [PUBLIC, PUBLIC6])
def test_a_ping_to_a_name_goes_to_the_address_of_the_name(lease: str, host: str) -> None:
    bench, bindings = named()
    bench.send(ping(lease), ping(lease, sequence=2))
    assert (bench.take(), bench.packets, bindings.asked) == ([], [], [NAME])
    bindings.know(NAME, host)
    bench.collect()
    opened, *rest = bench.take()
    assert isinstance(opened, OpenEcho)
    assert opened.remote == packed(host)
    assert [(order.remote, order.sequence) for order in rest if isinstance(order, SendEcho)] == [
        (packed(host), 1),
        (packed(host), 2),
    ]
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.host.address, notice.name, notice.rule) == (packed(host), NAME, "database")
    bench.network.echo_received(opened.socket, packed(host), 1, b"data", 60, 0, bench.now)
    bench.collect()
    assert [packet.source for packet in bench.packets] == [packed(lease)]
    assert bindings.pins == {packed(lease): 1}
    bench.wait(61)
    assert bindings.pins == {}


def test_a_ping_to_a_name_without_addresses_is_unreachable() -> None:
    bench, bindings = named()
    bench.send(ping())
    bindings.know(NAME)
    bench.collect()
    assert [packet.payload[:2] for packet in bench.packets] == [b"\3\1"]
    assert bench.drops() == {Reason.NAME_UNRESOLVED: 1}


def test_an_own_address_without_a_name_does_not_answer() -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bench.send(echo_request(GUEST, bindings.free, IDENTIFIER, 1, b"data"))
    assert [packet.payload[:2] for packet in bench.packets] == [b"\3\3"]
    assert bench.take() == []


def test_the_next_address_is_tried_if_the_first_cannot_be_reached() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(ping())
    opened, _ = bench.take()
    assert isinstance(opened, OpenEcho)
    error = ExtendedError(errno.ENETUNREACH, ORIGIN_LOCAL, 0, 0, 0, None)
    bench.network.echo_failed(opened.socket, 1, error, b"data", bench.now)
    bench.collect()
    closed, again, second = bench.take()
    assert closed == CloseSocket(opened.socket)
    assert isinstance(again, OpenEcho)
    assert isinstance(second, SendEcho)
    assert (second.remote, second.data, second.ttl) == (packed(PUBLIC), b"data", 64)
    assert bench.packets == []
    assert bindings.pins == {packed(LEASE): 1}
    bench.network.echo_failed(again.socket, 1, error, b"data", bench.now)
    bench.collect()
    assert len(bench.packets) == 1


def test_a_request_that_an_icmp_error_quotes_in_part_is_not_sent_again() -> None:
    """The guest's next request goes to the next address."""
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(ping())
    opened, _ = bench.take()
    assert isinstance(opened, OpenEcho)
    error = ExtendedError(errno.EHOSTUNREACH, ORIGIN_ICMPV6, 1, 3, 0, packed(PUBLIC6))
    bench.network.echo_failed(opened.socket, 1, error, b"da", bench.now)
    bench.collect()
    assert [type(order) for order in bench.take()] == [CloseSocket, OpenEcho]
    bench.send(ping(sequence=2))
    (sent,) = bench.take()
    assert isinstance(sent, SendEcho)
    assert (sent.remote, sent.sequence) == (packed(PUBLIC), 2)


def test_a_verdict_may_come_before_the_name_is_resolved() -> None:
    bench, bindings = named(rules=(), default_action=Action.ASK)
    bench.send(ping())
    question = bench.one(DecideFlow)
    assert (question.name, bindings.asked) == (NAME, [])
    bench.network.flow_decided(question.socket, Serve(), bench.now)
    bench.collect()
    assert [packet.source for packet in bench.packets] == [packed(LEASE)]
    assert (bench.take(), bindings.asked) == ([], [])


@pytest.mark.parametrize("destination", [LEASE, "192.0.2.80", "2001:db8::80"])
def test_open_flows_end_if_the_rules_do_not_allow_them_any_more(destination: str) -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bindings.know(NAME, PUBLIC)
    bench.send(ping(destination), ping("192.0.2.99"))
    opened, _, _, _ = bench.take()
    assert isinstance(opened, OpenEcho)
    kept = Rule(action=Action.ALLOW, destinations=("192.0.2.99",))
    change(bench, rules=(kept,), default_action=Action.REFUSE)
    assert bench.one(CloseSocket) == CloseSocket(opened.socket)
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert closed.reason is Reason.REFUSED
    assert bindings.pins == {}
    bench.send(ping(destination, sequence=2))
    assert bench.take() == []
    assert isinstance(bench.notices[-1], FlowRefused)


def test_an_address_that_new_rules_close_is_not_tried_next() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(ping())
    opened, _ = bench.take()
    assert isinstance(opened, OpenEcho)
    change(bench, rules=(Rule(action=Action.REFUSE, destinations=(PUBLIC,)), RULE))
    error = ExtendedError(errno.ENETUNREACH, ORIGIN_LOCAL, 0, 0, 0, None)
    bench.network.echo_failed(opened.socket, 1, error, b"data", bench.now)
    bench.collect()
    assert bench.take() == []
    assert len(bench.packets) == 1


# bounds


def sequences(bench: Direct) -> list[int]:
    return [order.sequence for order in bench.take() if isinstance(order, SendEcho)]


def test_where_there_are_no_rules_pings_have_no_bounds() -> None:
    bench, _ = named(rules=(), default_action=None)
    bench.send(*(ping("192.0.2.80", sequence=number) for number in range(500)), ping("192.0.2.80", data=bytes(8000)))
    assert len(sequences(bench)) == 501
    assert bench.drops() == {}


@pytest.mark.parametrize("destination", ["192.0.2.80", "2001:db8::80"])
def test_rules_bound_the_rate_of_pings(destination: str) -> None:
    bench, _ = named(rules=(Rule(action=Action.ALLOW),), limits=Limits(echo_rate=10, echo_burst=20))
    bench.send(
        *(ping(destination, sequence=number, identifier=number % 7) for number in range(100)),
    )
    assert sequences(bench) == list(range(20))
    assert bench.drops() == {Reason.ECHO_RATE: 80}
    bench.wait(1)
    bench.send(*(ping(destination, sequence=number) for number in range(100)))
    assert len(sequences(bench)) == 10


@pytest.mark.parametrize(("destination", "most"), [("192.0.2.80", 1472), ("2001:db8::80", 1452)])
def test_rules_bound_the_size_of_pings(destination: str, most: int) -> None:
    bench, _ = named(rules=(Rule(action=Action.ALLOW),))
    bench.send(ping(destination, data=bytes(most)), ping(destination, sequence=2, data=bytes(most + 1)))
    assert sequences(bench) == [1]
    assert bench.drops() == {Reason.ECHO_RATE: 1}


def test_rules_of_a_running_network_bound_pings_at_once() -> None:
    bench, _ = named(rules=(), default_action=None)
    change(bench, rules=(Rule(action=Action.ALLOW),))
    bench.send(*(ping("192.0.2.80", sequence=number) for number in range(200)))
    assert len(sequences(bench)) == Limits().echo_burst


def test_pings_that_are_answered_here_have_no_bounds() -> None:
    bench, _ = named(limits=Limits(echo_burst=1))
    bench.send(*(ping("10.0.2.2", sequence=number, data=bytes(2000)) for number in range(10)))
    assert len(bench.packets) == 10
