"""Rules and verdicts about pings, and virtual addresses that answer them."""

from __future__ import annotations

import errno

import pytest

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Drop,
    Endpoint,
    ExtendedError,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    FlowReport,
    Limits,
    LinkConfig,
    OpenEcho,
    Prefix,
    Reason,
    Refuse,
    Rule,
    SendEcho,
    Serve,
    Verdict,
)
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, SERVER, SERVER6, make_config
from sansnet_core.testing.packets import Ip, echo_request
from tests.core.direct import GUEST, GUEST6, Direct

VIRTUAL = (Prefix.of("10.9.0.0/16"), Prefix.of("fd00::/64"))
IDENTIFIER = 0x1234
OTHER = bytes((192, 0, 2, 81))


def direct(**fields: object) -> Direct:
    return Direct(replace(make_config(), virtual=VIRTUAL, **fields))


def asking(**fields: object) -> Direct:
    return direct(default_action=Action.ASK, **fields)


def ping(destination: bytes = SERVER, *, sequence: int = 1, identifier: int = IDENTIFIER, data: bytes = b"data") -> Ip:
    return echo_request(GUEST if len(destination) == 4 else GUEST6, destination, identifier, sequence, data)


def ends(destination: bytes) -> tuple[Endpoint, Endpoint]:
    return Endpoint(ping(destination).source, IDENTIFIER), Endpoint(destination, IDENTIFIER)


def decide(bench: Direct, question: DecideFlow, verdict: Verdict) -> None:
    bench.network.flow_decided(question.socket, verdict, bench.now)
    bench.collect()


def replies(bench: Direct) -> list[tuple[bytes, bytes]]:
    """Source and message of the echo replies since the last call."""
    read, bench.packets = bench.packets, []
    assert {packet.payload[0] for packet in read} <= {0, 129}
    return [(packet.source, packet.payload[4:]) for packet in read]


def reply(destination: bytes, sequence: int, data: bytes = b"data") -> tuple[bytes, bytes]:
    return destination, IDENTIFIER.to_bytes(2, "big") + sequence.to_bytes(2, "big") + data


@pytest.mark.parametrize("destination", ["10.9.1.1", "fd00::1", "10.0.2.2"])
def test_an_address_of_the_program_answers_without_a_question(destination: str) -> None:
    address = Endpoint(destination, 1).address
    bench = asking(rules=(Rule(action=Action.DROP, protocols=("ping",)),))
    bench.send(ping(address), ping(address, sequence=2))
    assert replies(bench) == [reply(address, 1), reply(address, 2)]
    assert (bench.take(), bench.network.flows(), bench.notices) == ([], [], [])


def test_a_prefix_that_becomes_virtual_answers_here() -> None:
    bench = Direct()
    inside = bytes((10, 9, 1, 1))
    bench.send(ping(inside))
    opened, _ = bench.take()
    bench.network.reconfigure(replace(make_config(), virtual=VIRTUAL), bench.now)
    bench.send(ping(inside))
    assert bench.take() == [CloseSocket(opened.socket)]
    assert replies(bench) == [reply(inside, 1)]


@pytest.mark.parametrize(("destination", "protocol"), [(SERVER, 1), (SERVER6, 58)], ids=["ipv4", "ipv6"])
def test_a_ping_that_is_asked_about_has_no_host_socket(destination: bytes, protocol: int) -> None:
    bench = asking()
    bench.send(*(ping(destination, sequence=number) for number in range(10)))
    question = bench.one(DecideFlow)
    guest, remote = ends(destination)
    assert question == DecideFlow(question.socket, protocol, guest, remote, False)
    assert bench.network.flows() == [
        FlowReport(question.socket, protocol, guest, remote, remote, False, "UNDECIDED", 0, 0)
    ]
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 2}
    decide(bench, question, Allow())
    opened, *requests = bench.take()
    assert opened == OpenEcho(opened.socket, destination, None, guest, remote)
    assert [order.sequence for order in requests if isinstance(order, SendEcho)] == list(range(8))
    assert bench.notices == [FlowOpened(opened.socket, protocol, guest, remote, remote, False, 1000.0)]
    bench.network.echo_received(opened.socket, destination, 3, b"data", 60, 0, bench.now)
    bench.collect()
    assert replies(bench) == [reply(destination, 3)]
    bench.send(ping(destination, sequence=11))
    assert bench.one(SendEcho).sequence == 11


def test_the_bytes_that_wait_are_bounded() -> None:
    bench = asking(link=LinkConfig(), limits=Limits(echo_size=65535))
    bench.send(ping(data=bytes(40000)), ping(data=bytes(40000)), ping(sequence=3))
    decide(bench, bench.one(DecideFlow), Allow())
    assert [order.sequence for order in bench.take() if isinstance(order, SendEcho)] == [1, 3]


@pytest.mark.parametrize("destination", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
def test_a_served_ping_is_answered_here(destination: bytes) -> None:
    bench = asking()
    bench.send(ping(destination), ping(destination, sequence=2))
    question = bench.one(DecideFlow)
    decide(bench, question, Serve())
    bench.send(ping(destination, sequence=3))
    assert replies(bench) == [reply(destination, number) for number in (1, 2, 3)]
    bench.wait(61)
    assert bench.take() == []
    protocol = question.protocol
    assert bench.notices == [
        FlowOpened(question.socket, protocol, *ends(destination), ends(destination)[1], False, 1000.0),
        FlowClosed(question.socket, protocol, *ends(destination), ends(destination)[1], False, 12, 12, 0, 1060.0),
    ]


@pytest.mark.parametrize("rule", [Rule(action=Action.ALLOW), Rule(action=Action.ASK), Rule(action=Action.DROP)])
def test_a_served_ping_ends_by_rules_that_refuse_it(rule: Rule) -> None:
    bench = asking()
    bench.send(ping())
    decide(bench, bench.one(DecideFlow), Serve())
    bench.network.reconfigure(replace(bench.config, rules=(rule,)), bench.now)
    bench.collect()
    assert bench.network.statistics().flows["echo_flows"] == (rule.action is not Action.DROP)
    assert bench.take() == []


@pytest.mark.parametrize(
    ("verdict", "error4", "error6"),
    [
        (Refuse(), (3, 13), (1, 1)),
        (Refuse(errno.EHOSTUNREACH), (3, 1), (1, 3)),
        (Drop(), None, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("destination", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("way", ["verdict", "rule"])
def test_a_refused_ping(
    verdict: Refuse | Drop,
    error4: tuple[int, int] | None,
    error6: tuple[int, int] | None,
    destination: bytes,
    way: str,
) -> None:
    expected = error4 if len(destination) == 4 else error6
    number = verdict.errno if isinstance(verdict, Refuse) else 0
    if way == "rule":
        action = Action.REFUSE if number else Action.DROP
        bench = direct(rules=(Rule(action=action, protocols=("ping",), errno=number or errno.EACCES),))
        bench.send(ping(destination))
    else:
        bench = asking()
        bench.send(ping(destination))
        decide(bench, bench.one(DecideFlow), verdict)
    bench.send(ping(destination, sequence=2))
    assert bench.take() == []
    assert [(packet.payload[0], packet.payload[1]) for packet in bench.packets] == ([expected] * 2 if expected else [])
    assert bench.drops() == {Reason.REFUSED: 2}
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.errno, notice.reason, notice.host) == (number, Reason.REFUSED, None)


def test_a_ping_without_a_verdict_in_time_is_refused() -> None:
    bench = asking(limits=Limits(decision_time=10))
    bench.send(ping())
    question = bench.one(DecideFlow)
    bench.wait(11)
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert bench.drops() == {Reason.UNDECIDED: 1}
    assert [packet.payload[:2] for packet in bench.packets] == [b"\3\x0d"]
    decide(bench, question, Allow())
    bench.send(ping())
    assert bench.take() == []


def test_both_families_share_the_limit_of_questions() -> None:
    bench = asking(limits=Limits(undecided_flows=1))
    bench.send(ping(), ping(SERVER6))
    bench.one(DecideFlow)
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 1}
    assert bench.packets == []


def test_a_refused_ping_is_asked_about_again_later() -> None:
    bench = asking(limits=Limits(udp_idle_once=30, decision_time=100))
    bench.send(ping())
    decide(bench, bench.one(DecideFlow), Drop())
    bench.wait(29)
    bench.send(ping())
    assert bench.take() == []
    bench.wait(1)
    bench.send(ping())
    bench.one(DecideFlow)


@pytest.mark.parametrize("to", [OTHER, SERVER6], ids=["ipv4", "ipv6"])
def test_redirected_pings_are_told_apart(to: bytes) -> None:
    bench = direct(rules=(Rule(action=Action.ALLOW, inbound=False, to=Endpoint(to, 9)),))
    bench.send(ping(SERVER), ping(OTHER))
    first, _, second, _ = bench.take()
    assert isinstance(first, OpenEcho)
    assert isinstance(second, OpenEcho)
    assert first.remote == second.remote == to
    for order, destination in ((second, OTHER), (first, SERVER)):
        bench.network.echo_received(order.socket, to, 1, b"data", 60, 0, bench.now)
        bench.collect()
        assert replies(bench) == [reply(destination, 1)]
    assert [flow.host for flow in bench.network.flows()] == [Endpoint(to, IDENTIFIER)] * 2


def test_a_rule_with_ports_is_not_about_pings() -> None:
    bench = direct(rules=(Rule(action=Action.DROP, ports=((1, 65535),)),))
    bench.send(ping())
    assert [type(order) for order in bench.take()] == [OpenEcho, SendEcho]


def test_a_closed_destination_is_reported_once() -> None:
    bench = direct()
    closed = bytes((240, 0, 0, 1))
    bench.send(ping(closed), ping(closed))
    assert bench.drops() == {Reason.IP_DESTINATION: 2}
    guest, remote = ends(closed)
    assert bench.notices == [FlowRefused(1, guest, remote, None, 0, Reason.IP_DESTINATION, False, 1000.0)]
    assert len(bench.packets) == 2


def test_the_failure_of_a_ping_without_replies_is_why_it_ended() -> None:
    bench = direct()
    bench.send(ping(), ping(OTHER))
    answered, _, failed, _ = bench.take()
    error = ExtendedError(errno.EHOSTUNREACH, 2, 3, 1, 0, GATEWAY)
    for opened in (answered, failed):
        bench.network.echo_failed(opened.socket, 1, error, b"data", bench.now)
    bench.network.echo_received(answered.socket, SERVER, 1, b"data", 60, 0, bench.now)
    bench.collect()
    bench.wait(61)
    closed = [notice for notice in bench.notices if isinstance(notice, FlowClosed)]
    assert [notice.errno for notice in closed] == [0, errno.EHOSTUNREACH]


@pytest.mark.parametrize(
    ("change", "error"),
    [({"default_action": Action.REFUSE}, b"\3\x0d"), ({"virtual": (Prefix.of("192.0.2.0/24"),)}, b"\3\3")],
    ids=["rule", "virtual"],
)
def test_a_ping_that_waits_is_refused_by_the_new_configuration(change: dict[str, object], error: bytes) -> None:
    bench = asking()
    bench.send(ping())
    question = bench.one(DecideFlow)
    bench.network.reconfigure(replace(bench.config, **change), bench.now)
    bench.collect()
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert [packet.payload[:2] for packet in bench.packets] == [error]
