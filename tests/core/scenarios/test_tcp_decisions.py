"""Verdicts about new connections: by rules, and by the program that is asked."""

from __future__ import annotations

import pickle
from errno import (
    EACCES,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EMFILE,
    EMSGSIZE,
    ENETUNREACH,
    ENONET,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
    ETIMEDOUT,
)
from typing import Any, cast

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
    Network,
    OpenStream,
    Prefix,
    Reason,
    Refuse,
    Rule,
    Serve,
    ServeStream,
    UsageError,
    Verdict,
)
from sansnet_core.orders import SocketId
from sansnet_core.records import replace
from sansnet_core.testing import (
    OUTSIDER,
    OUTSIDER6,
    SECRET,
    SERVER,
    SERVER6,
    GuestTcpOptions,
    HostScript,
    ManualConnection,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import ACK, RST, SYN, TCP, Segment

ASK = Rule(action=Action.ASK)
ELSEWHERE = Endpoint("203.0.113.5", 8080)
ELSEWHERE6 = Endpoint("2001:db8:5::5", 8080)


def asking(limits: Limits | None = None, *, script: HostScript | None = None, **changes: object) -> Pair:
    """A network that asks about every flow."""
    config = make_config(limits=limits)
    return Pair(replace(config, **{"default_action": Action.ASK, **changes}), script)


def asked(pair: Pair) -> DecideFlow:
    """The only question without a verdict."""
    (question,) = pair.host.questions.values()
    return question


def decide(pair: Pair, verdict: Verdict) -> SocketId:
    socket = asked(pair).socket
    pair.host.decide(socket, verdict, pair.now)
    pair.settle()
    pair.settle()  # the host answers to the orders of the first one
    return socket


def refusals(pair: Pair) -> list[FlowRefused]:
    return [notice for notice in pair.notices if isinstance(notice, FlowRefused)]


def drops(pair: Pair) -> dict[Reason, int]:
    return dict(pair.network.statistics().drops)


def syn_of(pair: Pair, address: bytes, port: int = 40000) -> None:
    """A SYN from the guest, whose answer may be an ICMP error."""
    pair.guest.send(Segment(pair.guest.address(len(address)), port, address, 80, sequence=7, flags=SYN).ip())
    pair.settle()


def icmp_errors(pair: Pair) -> list[tuple[int, int]]:
    """Type and code of the ICMP errors that the guest got."""
    found = []
    for _, frame in pair.sent:
        start = 14 + (20 if frame[12:14] == b"\x08\x00" else 40)
        if frame[14 + 9 if frame[12:14] == b"\x08\x00" else 14 + 6] in (1, 58):
            found.append((frame[start], frame[start + 1]))
    return found


# a question


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_nothing_happens_before_the_verdict(server: bytes) -> None:
    pair = asking()
    syn_of(pair, server)
    guest, remote = Endpoint(pair.guest.address(len(server)), 40000), Endpoint(server, 80)
    assert pair.host.orders == [DecideFlow(SocketId(1), TCP, guest, remote, False, None)]
    assert (pair.sent, pair.notices) == ([], [])
    (report,) = pair.network.flows()
    assert (report.state, report.guest, report.remote, report.inbound) == ("UNDECIDED", guest, remote, False)


def test_a_connection_that_is_allowed_opens_as_any_other() -> None:
    pair = asking(script=HostScript(echo=True))
    connection = pair.connect()
    pair.wait(0.5)
    socket = decide(pair, Allow())
    assert pair.host.orders[1] == OpenStream(
        socket, Endpoint(SERVER, 80), None, asked_guest(pair), Endpoint(SERVER, 80)
    )
    (opened,) = pair.notices
    assert isinstance(opened, FlowOpened)
    assert (opened.host, opened.time) == (Endpoint(SERVER, 80), pair.now), "it opens with the verdict"
    connection.send(b"hello")
    connection.shutdown()
    pair.drive(lambda: connection.closed)
    assert bytes(connection.received) == b"hello"


def asked_guest(pair: Pair) -> Endpoint:
    order = pair.host.orders[0]
    assert isinstance(order, DecideFlow)
    return order.guest


@pytest.mark.parametrize("to", [ELSEWHERE, ELSEWHERE6])
@pytest.mark.parametrize("family", [4, 6])
def test_it_may_lead_elsewhere_and_to_the_other_family(to: Endpoint, family: int) -> None:
    local4, local6 = bytes((192, 168, 1, 5)), Endpoint("2001:db8:1::5", 0).address
    pair = asking(script=HostScript(echo=True), outbound4=local4, outbound6=local6)
    connection = pair.connect(family=family)
    pair.settle()
    decide(pair, Allow(to))
    order = pair.host.orders[1]
    assert isinstance(order, OpenStream)
    assert (order.remote, order.local) == (to, local4 if len(to.address) == 4 else local6)
    connection.send(b"hello")
    pair.settle()
    assert bytes(connection.received) == b"hello"
    (report,) = pair.network.flows()
    assert (report.host, report.remote.address) == (to, SERVER if family == 4 else SERVER6)


@pytest.mark.parametrize("family", [4, 6])
def test_a_failure_elsewhere_reaches_the_guest(family: int) -> None:
    pair = asking(script=HostScript(connect=ENETUNREACH))
    syn_of(pair, SERVER if family == 4 else SERVER6)
    decide(pair, Allow(ELSEWHERE6 if family == 4 else ELSEWHERE))
    assert icmp_errors(pair) == [(3, 0) if family == 4 else (1, 0)]


def test_the_program_may_serve_it() -> None:
    pair = asking(script=HostScript(echo=True))
    connection = pair.connect()
    pair.settle()
    socket = decide(pair, Serve())
    assert pair.host.orders[1] == ServeStream(socket, None, asked_guest(pair), Endpoint(SERVER, 80))
    connection.send(b"hello")
    pair.settle()
    assert bytes(connection.received) == b"hello"
    assert not [order for order in pair.host.orders if isinstance(order, OpenStream)]


ERRNOS = [
    (ECONNREFUSED, None, None),
    (ECONNRESET, None, None),
    (EACCES, (3, 13), (1, 1)),
    (EPERM, (3, 13), (1, 1)),
    (ENETUNREACH, (3, 0), (1, 0)),
    (EHOSTUNREACH, (3, 1), (1, 3)),
    (ENOPROTOOPT, (3, 2), (1, 3)),
    (EOPNOTSUPP, (3, 5), (1, 3)),
    (ENONET, (3, 8), (1, 3)),
    (EPROTO, (12, 0), (4, 0)),
    (ECONNABORTED, (3, 1), (1, 3)),
    (EMSGSIZE, (3, 1), (1, 3)),
]
"""errno, and the ICMP errors from which the guest's kernel makes it, or comes nearest to it; None is a reset."""


@pytest.mark.parametrize("by_rule", [False, True])
@pytest.mark.parametrize("server", [SERVER, SERVER6])
@pytest.mark.parametrize(("errno", "icmp4", "icmp6"), ERRNOS)
def test_a_refusal_has_the_errno_that_the_guest_sees(
    errno: int, icmp4: tuple[int, int] | None, icmp6: tuple[int, int] | None, server: bytes, by_rule: bool
) -> None:
    if by_rule:
        pair = asking(rules=(Rule(action=Action.REFUSE, errno=errno, protocols=("tcp",), label="no"),))
        syn_of(pair, server)
    else:
        pair = asking()
        syn_of(pair, server)
        decide(pair, Refuse(errno))
    expected = icmp4 if len(server) == 4 else icmp6
    if expected is None:
        (reset,) = pair.guest.strays
        assert (reset.flags, reset.acknowledgment) == (RST | ACK, 8)
        assert icmp_errors(pair) == []
    else:
        assert icmp_errors(pair) == [expected]
        assert pair.guest.strays == []
    assert [type(order) for order in pair.host.orders] == [DecideFlow] * (not by_rule)
    guest = Endpoint(pair.guest.address(len(server)), 40000)
    rule = "no" if by_rule else None
    assert pair.notices == [
        FlowRefused(TCP, guest, Endpoint(server, 80), None, errno, Reason.REFUSED, False, pair.now, None, rule)
    ]
    assert drops(pair) == {Reason.REFUSED: 1}
    assert pair.tcp_flows == 0


@pytest.mark.parametrize(("verdict", "errno"), [(Drop(), 0), (Refuse(ETIMEDOUT), ETIMEDOUT), (Refuse(EMFILE), EMFILE)])
def test_silence_stays_silence_and_the_repeated_syns_are_not_asked_about(verdict: Verdict, errno: int) -> None:
    pair = asking()
    connection = pair.connect(GuestTcpOptions())
    pair.settle()
    decide(pair, verdict)
    pair.wait(100.0)
    assert not connection.established
    assert pair.sent == []
    assert [type(order) for order in pair.host.orders] == [DecideFlow]
    (notice,) = refusals(pair)
    assert (notice.errno, notice.reason) == (errno, Reason.REFUSED)
    assert drops(pair)[Reason.REFUSED] > 3


def test_a_rule_that_drops_is_silent() -> None:
    pair = asking(rules=(Rule(action=Action.DROP),))
    syn_of(pair, SERVER)
    assert (pair.sent, pair.host.orders, drops(pair)) == ([], [], {Reason.REFUSED: 1})


def test_a_refusal_whose_answer_was_lost_is_repeated() -> None:
    pair = asking()
    syn_of(pair, SERVER)
    decide(pair, Refuse(EHOSTUNREACH))
    syn_of(pair, SERVER)
    assert icmp_errors(pair) == [(3, 1)] * 2
    assert len(pair.host.orders) == len(refusals(pair)) == 1


def test_another_attempt_is_asked_about_again() -> None:
    pair = asking()
    ManualConnection(pair, sequence=1000).syn()
    decide(pair, Drop())
    ManualConnection(pair, sequence=2000).syn()
    decide(pair, Allow())
    assert pair.host.stream.connected


def test_a_refusal_is_forgotten_in_time_and_by_other_rules() -> None:
    pair = asking()
    syn_of(pair, SERVER)
    decide(pair, Drop())
    pair.wait(200.0)
    syn_of(pair, SERVER)
    decide(pair, Drop())
    pair.network.reconfigure(replace(pair.config, rules=()), pair.now)
    syn_of(pair, SERVER)
    decide(pair, Allow())
    assert len(pair.host.streams) == 1


def test_nothing_of_a_refusal_is_kept_after_its_time() -> None:
    pair = asking()
    before = len(pickle.dumps(pair.network))
    for port in range(300):
        syn_of(pair, SERVER, 40000 + port)
        decide(pair, Drop())
    assert len(pickle.dumps(pair.network)) > before + 300 * 20
    pair.wait(200.0)
    assert len(pickle.dumps(pair.network)) < before + 300 * 20


def test_refusals_are_remembered_in_bounded_number() -> None:
    pair = asking(Limits(undecided_flows=3))
    for port in range(10):
        syn_of(pair, SERVER, 40000 + port)
        decide(pair, Drop())
    for port in range(7, 10):
        syn_of(pair, SERVER, 40000 + port)
        assert pair.host.questions == {}
    syn_of(pair, SERVER, 40000)
    assert asked(pair).guest.port == 40000


def test_a_service_that_begins_after_the_refusal_gets_the_repeated_syn() -> None:
    pair = asking(virtual=())
    syn_of(pair, SERVER)
    decide(pair, Drop())
    pair.network.service_added(TCP, Prefix.of("192.0.2.0/24"), None, pair.now)
    syn_of(pair, SERVER)
    assert isinstance(pair.host.orders[-1], ServeStream)


# bounds, and the end of a question


def test_the_guest_that_repeats_its_syn_is_asked_about_once() -> None:
    pair = asking()
    connection = pair.connect()
    pair.wait(20.0)
    assert len(pair.host.orders) == 1
    decide(pair, Allow())
    pair.drive(lambda: connection.established)


def test_a_guest_that_resets_withdraws_the_question() -> None:
    pair = asking()
    syn_of(pair, SERVER)
    pair.guest.send(Segment(pair.guest.ipv4, 40000, SERVER, 80, sequence=8, flags=RST).ip())
    pair.settle()
    assert pair.host.orders[1:] == [CloseSocket(SocketId(1), False, ECONNRESET)]
    (notice,) = pair.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.errno, notice.reason) == (0, None)
    pair.network.flow_decided(SocketId(1), Allow(), pair.now)
    pair.settle()
    assert len(pair.host.orders) == 2, "a late verdict is ignored"
    assert pair.tcp_flows == 0


def test_a_guest_that_gives_up_without_a_word_withdraws_it_too() -> None:
    """Linux sends nothing if a program gives up a connect."""
    pair = asking()
    syn_of(pair, SERVER)
    pair.wait(8.0)
    assert pair.host.orders[1:] == [CloseSocket(SocketId(1), False, ETIMEDOUT)]
    assert pair.tcp_flows == 0
    assert pair.sent == []


def test_another_syn_from_the_same_port_is_another_question() -> None:
    pair = asking()
    ManualConnection(pair, sequence=1000).syn()
    ManualConnection(pair, sequence=9000).syn()
    assert pair.host.orders[1] == CloseSocket(SocketId(1), False, ECONNRESET)
    decide(pair, Allow())
    assert pair.host.stream.socket == SocketId(2)


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_a_question_without_a_verdict_in_time_is_withdrawn_and_refused(server: bytes) -> None:
    pair = asking(Limits(decision_time=4.0))
    syn_of(pair, server)
    pair.wait(3.9)
    assert pair.sent == []
    pair.wait(0.2)
    assert pair.host.orders[1:] == [CloseSocket(SocketId(1))]
    assert icmp_errors(pair) == [(3, 13) if len(server) == 4 else (1, 1)]
    (notice,) = refusals(pair)
    assert (notice.errno, notice.reason) == (EACCES, Reason.UNDECIDED)
    assert drops(pair) == {Reason.UNDECIDED: 1}


def test_questions_are_bounded_in_number_and_the_next_one_is_dropped() -> None:
    pair = asking(Limits(undecided_flows=2))
    for port in range(4):
        syn_of(pair, SERVER, 40000 + port)
    assert len(pair.host.questions) == 2
    assert pair.sent == [], "the guest tries again"
    assert drops(pair) == {Reason.UNDECIDED_LIMIT: 2}
    assert [notice.reason for notice in refusals(pair)] == [Reason.UNDECIDED_LIMIT] * 2
    pair.host.decide(next(iter(pair.host.questions)), Allow(), pair.now)
    syn_of(pair, SERVER, 40002)
    assert len(pair.host.questions) == 2
    assert pair.host.accept(OUTSIDER, 80, pair.now) is not None, "outsiders have a limit of their own"


def test_withdrawn_questions_make_room_for_others() -> None:
    pair = asking(Limits(undecided_flows=2))
    for port in range(40000, 40005):
        syn_of(pair, SERVER, port)
        pair.guest.send(Segment(pair.guest.ipv4, port, SERVER, 80, sequence=8, flags=RST).ip())
        pair.settle()
    syn_of(pair, SERVER)
    assert len(pair.host.questions) == 1
    pair.wait(40.0)
    assert Reason.UNDECIDED not in drops(pair), "none of them is left to run out of time"


def test_the_oldest_question_is_withdrawn_if_there_are_too_many_connections() -> None:
    pair = asking(Limits(tcp_pending=2))
    for port in range(3):
        syn_of(pair, SERVER, 40000 + port)
    assert CloseSocket(SocketId(1), False, ETIMEDOUT) in pair.host.orders
    assert [(notice.guest.port, notice.reason) for notice in refusals(pair)] == [(40000, Reason.TCP_LIMIT)]
    assert pair.tcp_flows == 2


def test_closed_destinations_are_refused_without_a_question() -> None:
    pair = asking()
    syn_of(pair, bytes((127, 0, 0, 1)))
    syn_of(pair, bytes((240, 0, 0, 1)), 40001)
    assert pair.host.orders == []


def test_a_destination_that_became_closed_is_refused_at_once() -> None:
    pair = asking()
    syn_of(pair, SERVER)
    pair.network.reconfigure(replace(pair.config, virtual=("192.0.2.0/24",)), pair.now)
    pair.settle()
    assert pair.host.orders[1:] == [CloseSocket(SocketId(1))]
    (reset,) = pair.guest.strays
    assert reset.flags == RST | ACK
    pair.network.flow_decided(SocketId(1), Allow(), pair.now)
    pair.settle()
    assert len(pair.host.orders) == 2


@pytest.mark.parametrize("action", [Action.REFUSE, Action.DROP, Action.ALLOW, Action.ASK])
def test_new_rules_decide_about_what_waits_or_leave_it_to_the_program(action: Action) -> None:
    pair = asking()
    syn_of(pair, SERVER)
    rules = (Rule(action=action, errno=ECONNREFUSED) if action is Action.REFUSE else Rule(action=action),)
    pair.network.reconfigure(replace(pair.config, rules=rules), pair.now)
    pair.settle()
    decided = action is not Action.ASK
    assert pair.host.orders[1:2] == [CloseSocket(SocketId(1))] * decided
    assert len(pair.guest.strays) == (action is Action.REFUSE)
    assert (pair.host.questions == {}) == decided
    assert len(pair.host.streams) == (action is Action.ALLOW)


def test_something_that_is_no_verdict_is_an_error_of_the_driver() -> None:
    network = Network(make_config(), now=0.0, secret=SECRET)
    with pytest.raises(UsageError, match="Allow"):
        network.flow_decided(SocketId(1), cast(Any, True), 0.0)


# rules


def test_the_first_rule_that_matches_decides_once_for_a_connection() -> None:
    rules = (
        Rule(action=Action.ALLOW, destinations=("192.0.2.80",), ports=(80,), to=ELSEWHERE),
        Rule(action=Action.REFUSE, destinations=("192.0.2.0/24",), errno=ECONNREFUSED),
    )
    pair = Pair(replace(make_config(), rules=rules), HostScript(echo=True))
    connection = pair.connect()
    pair.settle()
    assert pair.host.stream.remote == ELSEWHERE
    other = pair.guest.connect((SERVER, 81), now=pair.now)
    third = pair.guest.connect((OUTSIDER.address, 81), now=pair.now)
    pair.settle()
    assert other.closed or other.reset
    assert third.established

    pair.network.reconfigure(replace(pair.config, rules=(Rule(action=Action.DROP),)), pair.now, keep_flows=True)
    connection.send(b"goes on")
    pair.settle()
    assert bytes(connection.received) == b"goes on"


# outsiders


def incoming(pair: Pair, remote: Endpoint = OUTSIDER) -> SocketId | None:
    pair.guest.listening[80] = GuestTcpOptions()
    stream = pair.host.accept(remote, 80, pair.now)
    pair.settle()
    return None if stream is None else stream.socket


@pytest.mark.parametrize("remote", [OUTSIDER, OUTSIDER6, Endpoint("127.0.0.1", 5555)])
def test_the_guest_gets_no_syn_before_the_verdict_about_an_outsider(remote: Endpoint) -> None:
    pair = asking(script=HostScript(produce=b"hello"))
    socket = incoming(pair, remote)
    assert socket is not None
    guest = Endpoint(pair.guest.address(len(remote.address)), 80)
    assert pair.host.orders == [DecideFlow(socket, TCP, guest, remote, True, None)]
    pair.wait(10.0)
    assert (pair.sent, pair.notices) == ([], [])
    assert [flow.state for flow in pair.network.flows()] == ["UNDECIDED"]
    assert pair.network.receive_budget(socket) == 0
    decide(pair, Allow())
    (connection,) = pair.guest.connections.values()
    assert bytes(connection.received) == b"hello"
    (opened,) = pair.notices
    assert isinstance(opened, FlowOpened)
    assert (opened.host, opened.inbound, opened.time) == (remote, True, pair.now)


@pytest.mark.parametrize(
    ("verdict", "errno"),
    [(Refuse(), EACCES), (Refuse(ECONNREFUSED), ECONNREFUSED), (Drop(), 0), (Serve(), EACCES)],
)
def test_an_outsider_that_is_refused_is_reset(verdict: Verdict, errno: int) -> None:
    pair = asking()
    socket = incoming(pair)
    assert socket is not None
    decide(pair, verdict)
    assert pair.host.orders[1:] == [CloseSocket(socket, True, errno)]
    (notice,) = pair.notices
    guest = Endpoint(pair.guest.ipv4, 80)
    assert notice == FlowRefused(TCP, guest, OUTSIDER, OUTSIDER, errno, Reason.REFUSED, True, pair.now)
    assert (pair.sent, pair.tcp_flows) == ([], 0)
    pair.wait(100.0)
    assert incoming(pair) is not None, "another attempt is another question"


def test_an_outsider_without_a_verdict_in_time_is_reset() -> None:
    pair = asking()
    socket = incoming(pair)
    assert socket is not None
    pair.wait(31.0)
    assert pair.host.orders[1:] == [CloseSocket(socket, True, EACCES)]
    assert drops(pair) == {Reason.UNDECIDED: 1}


def test_an_outsider_that_is_gone_withdraws_the_question() -> None:
    pair = asking()
    socket = incoming(pair)
    assert socket is not None
    pair.network.stream_failed(socket, ECONNRESET, None, pair.now)
    pair.settle()
    assert pair.host.orders[1:] == [CloseSocket(socket, False, ECONNRESET)]
    assert (pair.tcp_flows, pair.sent) == (0, [])


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule(action=Action.REFUSE, inbound=True, ports=(80,)), Reason.REFUSED),
        (Rule(action=Action.DROP, inbound=True, destinations=("198.51.100.0/24",)), Reason.REFUSED),
    ],
)
def test_rules_about_outsiders_have_the_guests_port_and_their_address(rule: Rule, reason: Reason) -> None:
    pair = asking(rules=(rule,), default_action=Action.ALLOW)
    assert incoming(pair) is None
    assert drops(pair) == {reason: 1}
    (notice,) = refusals(pair)
    assert (notice.inbound, notice.host, notice.reason) == (True, OUTSIDER, reason)
    assert pair.host.accept(Endpoint("203.0.113.9", 1), 81, pair.now) is not None
    _, stream = pair.established()
    assert stream.connected, "and say nothing about the guest's own"


def test_questions_about_outsiders_are_bounded_too() -> None:
    pair = asking(Limits(undecided_flows=2))
    for port in range(2):
        assert pair.host.accept(Endpoint(OUTSIDER.address, 1000 + port), 80, pair.now) is not None
    assert pair.host.accept(OUTSIDER, 80, pair.now) is None
    assert drops(pair) == {Reason.UNDECIDED_LIMIT: 1}


@pytest.mark.parametrize("flags", [SYN, ACK, RST, RST | ACK, SYN | ACK])
@pytest.mark.parametrize("sequence", [0, 1, 1000])
def test_segments_of_the_guest_change_nothing_while_an_outsider_waits(flags: int, sequence: int) -> None:
    pair = asking(script=HostScript(produce=b"hello"))
    socket = incoming(pair)
    assert socket is not None
    peer = ManualConnection(pair, port=80, remote=OUTSIDER)
    assert peer.send(flags, sequence=sequence) == []
    assert [flow.state for flow in pair.network.flows()] == ["UNDECIDED"]
    decide(pair, Allow())
    (connection,) = pair.guest.connections.values()
    assert bytes(connection.received) == b"hello"


# notices


def test_notices_of_refused_flows_have_a_rate_limit_and_the_others_are_counted() -> None:
    pair = Pair(
        replace(
            make_config(limits=Limits(refusal_rate=10.0, refusal_burst=5)),
            rules=(Rule(action=Action.DROP, ports=(80,)),),
        )
    )
    for port in range(20):
        syn_of(pair, SERVER, 40000 + port)
    assert len(refusals(pair)) == 5
    assert pair.network.statistics().refusals_unreported == 15
    pair.wait(1.0)
    syn_of(pair, SERVER, 41000)
    assert len(refusals(pair)) == 6
    assert drops(pair) == {Reason.REFUSED: 21}


def test_notices_can_be_switched_on_while_a_network_runs() -> None:
    pair = Pair(replace(make_config(), notices=False))
    _, stream = pair.established()
    assert pair.notices == []
    pair.network.report_notices(True)
    pair.host.fail(stream, ECONNRESET, pair.now)
    pair.settle()
    assert [type(notice) for notice in pair.notices] == [FlowClosed]
    pair.network.report_notices(False)
    pair.established()
    assert len(pair.notices) == 1


def test_a_protocol_that_is_off_refuses_with_a_notice() -> None:
    pair = Pair(replace(make_config(), tcp=False))
    syn_of(pair, SERVER)
    assert [notice.reason for notice in refusals(pair)] == [Reason.PROTOCOL_CLOSED]
    assert icmp_errors(pair) == [(3, 13)]
    assert pair.network.stream_opened(None, None, 80, pair.now) < 0
