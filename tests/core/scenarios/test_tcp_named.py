"""TCP connections to names: they wait for the addresses, and go only to those that the rules allow."""

from __future__ import annotations

import copy
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH

import pytest

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Drop,
    Endpoint,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    LinkConfig,
    OpenStream,
    Reason,
    Refuse,
    Rule,
    Serve,
    ServeStream,
    Verdict,
)
from sansnet_core.addresses import packed
from sansnet_core.orders import SocketId
from sansnet_core.policy import Group
from sansnet_core.proto.tcp.permission import Permission
from sansnet_core.records import replace
from sansnet_core.testing.packets import ACK, RST, TCP
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, Direct
from tests.core.named import LEASE, LEASE6, NAME, OTHER_LEASE, PUBLIC, PUBLIC6, TcpGuest, named, opened
from tests.core.scenarios.test_tcp_no_connection import OFFLOADS

RULE = Rule(action=Action.ALLOW, names=(NAME,), ports=(5432,), label="database")
ASK = Rule(action=Action.ASK, names=(NAME,), label="unsure")


def refused(bench: Direct) -> FlowRefused:
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    return notice


# waiting for addresses


@pytest.mark.parametrize("lease", [LEASE, LEASE6])
@pytest.mark.parametrize("host", [PUBLIC, PUBLIC6])
def test_a_syn_waits_for_the_addresses_of_the_name(lease: str, host: str) -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench, lease)
    guest.syn()
    guest.syn()
    assert (bench.take(), bench.packets, bindings.asked) == ([], [], [NAME])
    (report,) = bench.network.flows()
    assert (report.state, report.remote) == ("UNDECIDED", Endpoint(packed(lease), 5432))
    bindings.know(NAME, host)
    bench.collect()
    (order,) = opened(bench)
    assert (order.remote, order.destination, order.name) == (Endpoint(packed(host), 5432), report.remote, NAME)
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.name, notice.rule, notice.host) == (NAME, "database", order.remote)
    bench.network.stream_connected(order.socket, bench.now)
    bench.collect()
    guest.accept()
    (report,) = bench.network.flows()
    assert (report.state, report.name, report.rule) == ("ESTABLISHED", NAME, "database")


def test_a_known_name_is_connected_to_at_once() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC)
    TcpGuest(bench).syn()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]


def test_a_name_may_be_resolved_within_the_call() -> None:
    bench, bindings = named(RULE)
    bindings.at_once[NAME] = (PUBLIC,)
    TcpGuest(bench).syn()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]


@pytest.mark.parametrize("lease", [LEASE, LEASE6])
def test_a_name_without_an_address_is_unreachable(lease: str) -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench, lease)
    guest.syn()
    bindings.know(NAME)
    bench.collect()
    assert guest.errors() == [(3, 1) if lease == LEASE else (1, 3)]
    notice = refused(bench)
    assert (notice.reason, notice.errno, notice.name, notice.host) == (Reason.NAME_UNRESOLVED, EHOSTUNREACH, NAME, None)
    assert bench.drops() == {Reason.NAME_UNRESOLVED: 1}
    assert bench.network.flows() == []
    guest.syn()
    assert guest.errors(), "the answer may have been lost"
    assert len(bench.notices) == 1


def test_the_wait_for_a_name_has_an_end() -> None:
    bench, bindings = named(RULE, limits=Limits(decision_time=5.0))
    guest = TcpGuest(bench)
    guest.syn()
    bench.wait(3.0)
    guest.syn()  # it still waits
    bench.wait(2.5)
    assert guest.errors() == [(3, 1)]
    assert refused(bench).reason is Reason.NAME_UNRESOLVED
    assert (bench.take(), bench.network.flows()) == ([], []), "nobody was asked, so there is nothing to withdraw"
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []


def test_a_guest_that_gives_up_is_not_connected() -> None:
    bench, bindings = named(RULE)
    TcpGuest(bench).syn()
    bench.wait(60.0)  # no SYN was repeated
    assert (bench.network.flows(), bindings._waiting) == ([], [])
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []
    assert not bindings.pins


def test_the_names_of_a_connection_are_released_once() -> None:
    bench, bindings = named(RULE)
    permission = Permission()
    permission.pin(bench.network._context.targets, Endpoint(LEASE, 80))
    assert bindings.pins
    permission.unpin()
    permission.unpin()  # as after a mistake at the end of the connection
    assert not bindings.pins
    assert not permission.pinned


def test_connections_that_wait_for_names_are_bounded() -> None:
    bench, bindings = named(RULE, limits=Limits(undecided_flows=2))
    for port in range(5):
        TcpGuest(bench, source_port=40000 + port).syn()
    assert len(bench.network.flows()) == 2
    assert bench.drops() == {Reason.NAME_LIMIT: 3}
    assert bench.packets == [], "the guest repeats its SYN"
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert len(opened(bench)) == 2
    TcpGuest(bench, source_port=40004).syn()
    assert len(opened(bench)) == 1


def test_a_copy_waits_by_itself() -> None:
    bench, _ = named(RULE)
    TcpGuest(bench).syn()
    other = copy.deepcopy(bench.network)
    copied = other._context.bindings
    assert isinstance(copied, FakeBindings)
    copied.know(NAME, PUBLIC)
    assert [type(order) for order in other.take_orders()] == [OpenStream]
    bench.collect()
    assert bench.take() == []


# rules


def test_a_port_that_no_rule_allows_is_refused_without_a_question() -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench, port=22)
    guest.syn()
    bindings.know(NAME, PUBLIC)
    bench.collect()
    if bindings.asked:  # the question is allowed, but the flow is not
        assert opened(bench) == []
    assert guest.errors() == [(3, 13)]
    notice = refused(bench)
    assert (notice.reason, notice.errno, notice.name) == (Reason.REFUSED, EACCES, NAME)


@pytest.mark.parametrize("action", [Action.REFUSE, Action.DROP])
def test_a_name_that_a_rule_closes_is_not_resolved(action: Action) -> None:
    bench, bindings = named(Rule(action=action, names=(NAME,), label="no"), default_action=Action.ALLOW)
    guest = TcpGuest(bench)
    guest.syn()
    assert (bindings.asked, bench.take()) == ([], [])
    assert guest.errors() == ([(3, 13)] if action is Action.REFUSE else [])
    assert (refused(bench).rule, refused(bench).name) == ("no", NAME)


HOSTILE = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "169.254.169.254",
    "224.0.0.251",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:93.184.215.14",
    "fe80::1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("host", HOSTILE)
def test_a_hostile_answer_is_not_connected_to(host: str) -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench)
    guest.syn()
    bindings.know(NAME, host)
    bench.collect()
    assert bench.take() == []
    assert guest.errors() == [(3, 13)]
    notice = refused(bench)
    assert (notice.reason, notice.name) == (Reason.NAME_UNRESOLVED, NAME)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "224.0.0.251", "::1", "::", "::ffff:127.0.0.1"])
def test_not_even_where_everything_is_open(host: str) -> None:
    """As for the address itself, which leads to the host's loopback, or to no host."""
    bench, bindings = named(default_action=Action.ALLOW)
    TcpGuest(bench).syn()
    bindings.know(NAME, host)
    bench.collect()
    assert bench.take() == []


def test_other_addresses_of_a_hostile_answer_are_used() -> None:
    bench, bindings = named(RULE)
    TcpGuest(bench).syn()
    bindings.know(NAME, "127.0.0.1", PUBLIC, "10.0.0.1")
    bench.collect()
    assert [order.remote for order in opened(bench)] == [Endpoint(PUBLIC, 5432)]
    bench.wait(2.0)
    assert bench.take() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_rule_may_open_the_loopback_to_a_name(host: str) -> None:
    bench, bindings = named(RULE, Rule(action=Action.ALLOW, groups=(Group.LOOPBACK,)))
    TcpGuest(bench).syn()
    bindings.know(NAME, host)
    bench.collect()
    assert [order.remote for order in opened(bench)] == [Endpoint(host, 5432)]


def test_a_rule_with_a_name_and_an_address_needs_both() -> None:
    bench, bindings = named(Rule(action=Action.ALLOW, names=(NAME,), destinations=("10.0.0.0/8",)))
    TcpGuest(bench).syn()
    assert bindings.asked == [NAME]
    bindings.know(NAME, PUBLIC, "10.0.0.1")
    bench.collect()
    assert [order.remote for order in opened(bench)] == [Endpoint("10.0.0.1", 5432)]


def test_a_redirected_name_is_not_resolved() -> None:
    elsewhere = Endpoint("127.0.0.1", 8443)
    bench, bindings = named(Rule(action=Action.ALLOW, names=(NAME,), to=elsewhere))
    TcpGuest(bench).syn()
    assert ([order.remote for order in opened(bench)], bindings.asked) == ([elsewhere], [])


def test_a_literal_address_needs_a_rule_of_its_own() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC)
    guest = TcpGuest(bench, PUBLIC)
    guest.syn()
    assert (bench.take(), guest.errors()) == ([], [(3, 13)])


def test_a_real_address_stands_for_its_names() -> None:
    bench, bindings = named(RULE, real={PUBLIC: ["shared.example.com", NAME]})
    TcpGuest(bench, PUBLIC).syn()
    (order,) = opened(bench)
    assert (order.remote, order.name) == (Endpoint(PUBLIC, 5432), NAME)
    assert bindings.pins == {packed(PUBLIC): 1}
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.name, notice.rule) == (NAME, "database")


@pytest.mark.parametrize("action", [Action.REFUSE, Action.DROP, Action.ASK])
@pytest.mark.parametrize("others", [[], ["other.example.org"]])
def test_a_rule_about_a_name_holds_for_its_real_addresses(action: Action, others: list[str]) -> None:
    """The address is not judged as one without a name, which the default action would allow."""
    rule = Rule(action=action, names=(NAME, "other.example.org"), ports=(5432,))
    bench, _ = named(rule, real={PUBLIC: [NAME, *others]}, default_action=Action.ALLOW)
    TcpGuest(bench, PUBLIC).syn()
    orders = bench.take()
    assert [type(order) for order in orders] == ([DecideFlow] if action is Action.ASK else [])
    TcpGuest(bench, PUBLIC, 5433).syn()
    (order,) = opened(bench)
    assert (order.remote, order.name) == (Endpoint(PUBLIC, 5433), NAME)


@pytest.mark.parametrize("link", [LinkConfig(), OFFLOADS])
def test_an_own_address_without_a_name_answers_as_a_closed_port(link: LinkConfig) -> None:
    bench, _ = named(RULE, default_action=Action.ALLOW, link=link)
    guest = TcpGuest(bench, "198.18.255.1")
    guest.syn()
    (reset,) = guest.segments()
    assert (reset.flags, reset.acknowledgment, reset.window, reset.payload) == (RST | ACK, 1001, 0, b"")
    assert (refused(bench).reason, bench.drops()) == (Reason.OWN_ADDRESS, {Reason.OWN_ADDRESS: 1})


# verdicts


def test_the_driver_is_asked_by_name_before_it_is_resolved() -> None:
    bench, bindings = named(ASK)
    guest = TcpGuest(bench)
    guest.syn()
    remote = Endpoint(LEASE, 5432)
    assert bench.take() == [DecideFlow(SocketId(1), TCP, Endpoint(GUEST, 40000), remote, False, NAME)]
    assert bindings.asked == []
    bench.network.flow_decided(SocketId(1), Allow(), bench.now)
    bench.collect()
    assert (bench.take(), bindings.asked) == ([], [NAME])
    bindings.know(NAME, PUBLIC)
    bench.collect()
    (order,) = opened(bench)
    assert (order.socket, order.remote, order.name) == (1, Endpoint(PUBLIC, 5432), NAME)
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.name, notice.rule) == (NAME, "unsure")


@pytest.mark.parametrize("host", HOSTILE)
def test_a_verdict_by_name_does_not_open_a_hostile_answer(host: str) -> None:
    bench, bindings = named(ASK)
    guest = TcpGuest(bench)
    guest.syn()
    bench.network.flow_decided(SocketId(1), Allow(), bench.now)
    bindings.know(NAME, host)
    bench.collect()
    assert [type(order) for order in bench.take()] == [DecideFlow]
    assert guest.errors() == [(3, 13)]


def test_a_name_that_is_not_resolved_after_the_verdict() -> None:
    bench, _ = named(ASK, limits=Limits(decision_time=4.0))
    guest = TcpGuest(bench)
    guest.syn()
    bench.network.flow_decided(SocketId(1), Allow(), bench.now)
    bench.wait(4.5)
    assert guest.errors() == [(3, 1)]
    assert (refused(bench).reason, refused(bench).rule) == (Reason.NAME_UNRESOLVED, "unsure")
    assert [type(order) for order in bench.take()] == [DecideFlow], "the question was answered"


def test_other_verdicts_about_a_name() -> None:
    bench, bindings = named(ASK)
    guests = [TcpGuest(bench, source_port=40000 + number) for number in range(4)]
    for guest in guests:
        guest.syn()
    questions = bench.take()
    elsewhere = Endpoint("127.0.0.1", 9)
    verdicts: list[Verdict] = [Refuse(ECONNREFUSED), Drop(), Serve(), Allow(elsewhere)]
    for question, verdict in zip(questions, verdicts, strict=True):
        bench.network.flow_decided(question.socket, verdict, bench.now)
    bench.collect()
    served, order = bench.take()
    assert isinstance(served, ServeStream)
    assert isinstance(order, OpenStream)
    assert (order.remote, bindings.asked) == (elsewhere, [])
    assert [segment.flags for segment in guests[0].segments()] == [RST | ACK]


# pins


def test_a_binding_is_pinned_while_a_connection_waits_and_lasts() -> None:
    bench, bindings = named(ASK)
    guest = TcpGuest(bench)
    guest.syn()
    assert bindings.pins == {packed(LEASE): 1}
    bench.network.flow_decided(SocketId(1), Allow(), bench.now)
    bindings.know(NAME, PUBLIC)
    bench.network.stream_connected(SocketId(1), bench.now)
    bench.collect()
    guest.accept()
    assert bindings.pins == {packed(LEASE): 1}
    bench.network.stream_failed(SocketId(1), ECONNREFUSED, None, bench.now)
    bench.collect()
    assert not bindings.pins


def test_nothing_stays_pinned_by_a_connection_that_is_refused() -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench)
    guest.syn()
    bindings.know(NAME)
    bench.collect()
    assert not bindings.pins


# rules that change


def test_new_rules_decide_about_a_connection_that_waits_for_a_name() -> None:
    bench, bindings = named(RULE)
    guest = TcpGuest(bench)
    guest.syn()
    bench.network.reconfigure(replace(bench.config, rules=()), bench.now)
    bench.collect()
    assert guest.errors() == [(3, 13)]
    assert refused(bench).reason is Reason.REFUSED
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []


def test_new_rules_may_ask_about_a_connection_that_waits_for_a_name() -> None:
    bench, bindings = named(RULE)
    TcpGuest(bench).syn()
    bench.network.reconfigure(replace(bench.config, rules=(ASK,)), bench.now)
    bench.collect()
    (question,) = bench.take()
    assert isinstance(question, DecideFlow)
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []
    bench.network.flow_decided(question.socket, Allow(), bench.now)
    bench.collect()
    assert len(opened(bench)) == 1


def test_new_rules_that_allow_withdraw_the_question() -> None:
    bench, bindings = named(ASK)
    TcpGuest(bench).syn()
    (question,) = bench.take()
    bench.network.reconfigure(replace(bench.config, rules=(RULE,)), bench.now)
    bench.collect()
    assert bench.take() == [CloseSocket(question.socket)]
    bench.network.flow_decided(question.socket, Drop(), bench.now)  # too late
    bindings.know(NAME, PUBLIC)
    bench.collect()
    (order,) = opened(bench)
    assert order.socket != question.socket, "that name is used up"
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert notice.socket == order.socket


def test_an_address_that_stands_for_another_name_gets_that_names_rules() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC)
    TcpGuest(bench, OTHER_LEASE).syn()
    assert bench.take() == []
    assert refused(bench).name == "files.example.net"


def test_a_connection_that_ends_has_its_name_in_the_notice() -> None:
    bench, bindings = named(RULE)
    bindings.know(NAME, PUBLIC)
    guest = TcpGuest(bench)
    guest.syn()
    (order,) = opened(bench)
    bench.network.stream_failed(order.socket, ECONNREFUSED, None, bench.now)
    bench.collect()
    assert [segment.flags for segment in guest.segments()] == [RST | ACK]
    _, failed, closed = bench.notices
    assert isinstance(failed, FlowRefused)
    assert isinstance(closed, FlowClosed)
    assert (failed.name, failed.rule, failed.errno, failed.reason) == (NAME, "database", ECONNREFUSED, None)
    assert (closed.name, closed.rule, closed.reason) == (NAME, "database", None)
