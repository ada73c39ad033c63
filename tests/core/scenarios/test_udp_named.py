"""UDP flows to names: they wait for the name's addresses, and go only to those that the rules allow."""

from __future__ import annotations

import copy
import errno
from typing import Any

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
    Limits,
    OpenDatagram,
    Reason,
    Refuse,
    Rule,
    SendDatagram,
    Serve,
)
from sansnet_core.addresses import packed
from sansnet_core.config import ResolverConfig
from sansnet_core.orders import ORIGIN_ICMP, ORIGIN_LOCAL
from sansnet_core.records import replace
from sansnet_core.testing import make_config, packets
from sansnet_core.testing.packets import Ip, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

NAME = "db.example.org"
LEASE, LEASE6 = "198.18.0.1", "fd73:616e:736e:6574::1"
PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07::1"
RULE = Rule(action=Action.ALLOW, names=(NAME,), protocols=("udp",), label="database")
REFUSE = {"default_action": Action.REFUSE}


def named(**fields: Any) -> tuple[Direct, FakeBindings]:
    """A network whose rules allow one name, and the bindings of that name's own addresses."""
    bench = Direct(replace(make_config(), **({"rules": (RULE,)} | REFUSE | fields)))
    bindings = FakeBindings({LEASE: NAME, LEASE6: NAME})
    bindings.attach(bench)
    return bench, bindings


def datagram(destination: str = LEASE, data: bytes = b"hello", *, port: int = 7, source_port: int = 5000) -> Ip:
    address = packed(destination)
    return udp(GUEST if len(address) == 4 else GUEST6, source_port, address, port, data)


def errors(bench: Direct) -> list[tuple[int, int]]:
    """Type and code of the ICMP errors since the last call."""
    read, bench.packets = bench.packets, []
    assert {packet.protocol for packet in read} <= {packets.ICMP, packets.ICMPV6}
    return [(packet.payload[0], packet.payload[1]) for packet in read]


def sent(bench: Direct) -> list[tuple[Endpoint, bytes]]:
    """Where datagrams went since the last call, and their payloads."""
    return [(order.remote, bytes(order.data)) for order in bench.take() if isinstance(order, SendDatagram)]


def failure(number: int, origin: int = ORIGIN_LOCAL) -> ExtendedError:
    return ExtendedError(number, origin, 0, 0, 0, None)


@pytest.mark.parametrize("lease", [LEASE, LEASE6])
@pytest.mark.parametrize("host", [PUBLIC, PUBLIC6])
def test_the_first_datagrams_wait_for_the_addresses_of_the_name(lease: str, host: str) -> None:
    bench, bindings = named()
    bench.send(datagram(lease, b"1"), datagram(lease, b"2"))
    assert (bench.take(), bench.packets, bindings.asked) == ([], [], [NAME])
    (report,) = bench.network.flows()
    assert (report.state, report.name) == ("UNDECIDED", NAME)
    assert bindings.pins == {packed(lease): 1}
    bindings.know(NAME, host)
    bench.collect()
    opened, *rest = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert len(opened.local.address) == len(packed(host))
    assert [(order.remote, bytes(order.data)) for order in rest if isinstance(order, SendDatagram)] == [
        (Endpoint(host, 7), b"1"),
        (Endpoint(host, 7), b"2"),
    ]
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.remote, notice.host, notice.name, notice.rule) == (
        Endpoint(lease, 7),
        Endpoint(host, 7),
        NAME,
        "database",
    )
    bench.network.datagram_received(opened.socket, Endpoint(host, 7), b"answer", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.source for packet in bench.packets] == [packed(lease)]
    (report,) = bench.network.flows()
    assert (report.state, report.name) == ("OPEN", NAME)
    assert bindings.pins == {packed(lease): 1}
    bench.wait(200)
    assert bindings.pins == {}
    assert isinstance(bench.notices[-1], FlowClosed)
    assert bench.notices[-1].name == NAME


def test_a_name_whose_addresses_are_known_does_not_wait() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC)
    bench.send(datagram())
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello")]
    assert bindings.asked == []


def test_all_that_waits_for_a_name_goes_on_when_new_rules_have_it_resolved() -> None:
    """The first flow waits for a verdict, which the new rules make needless, and the other one for the name."""
    bench, bindings = named(rules=(Rule(action=Action.ASK, ports=(7,)), RULE))
    bench.send(datagram(data=b"1"), datagram(data=b"2", port=8))
    question = bench.one(DecideFlow)
    assert bindings.asked == [NAME]
    bindings.at_once[NAME] = (PUBLIC,)
    bench.network.reconfigure(replace(bench.config, rules=(RULE,)), bench.now)
    bench.collect()
    assert CloseSocket(question.socket) in bench.orders
    assert sorted(sent(bench)) == [(Endpoint(PUBLIC, 7), b"1"), (Endpoint(PUBLIC, 8), b"2")]
    assert bindings.pins == {packed(LEASE): 2}


def test_a_resolver_that_knows_at_once_loses_no_datagram() -> None:
    bench, bindings = named()
    bindings.at_once[NAME] = (PUBLIC,)
    bench.send(datagram(), datagram(data=b"2"))
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello"), (Endpoint(PUBLIC, 7), b"2")]
    assert bindings.pins == {packed(LEASE): 1}


@pytest.mark.parametrize("lease", [LEASE, LEASE6])
def test_a_name_without_addresses_is_unreachable_and_tried_again_after_a_second(lease: str) -> None:
    bench, bindings = named()
    bench.send(datagram(lease))
    bindings.know(NAME)
    bench.collect()
    assert errors(bench) == [(3, 10) if lease == LEASE else (1, 3)]  # EHOSTUNREACH, as of a UDP socket
    assert bench.drops() == {Reason.NAME_UNRESOLVED: 1}
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.reason, notice.name, notice.errno) == (Reason.NAME_UNRESOLVED, NAME, errno.EHOSTUNREACH)
    bench.send(datagram(lease))
    assert len(bench.notices) == 1
    bindings.know(NAME, PUBLIC)
    bench.wait(1.1)
    bench.send(datagram(lease, b"again"))
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"again")]


def test_a_name_that_is_never_resolved_is_refused_in_time() -> None:
    bench, bindings = named()
    bench.send(datagram())
    bench.wait(31)
    assert errors(bench) == [(3, 10)]
    assert bench.drops() == {Reason.NAME_UNRESOLVED: 1}
    assert bindings.pins == {}
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []


def test_what_waits_for_names_is_bounded() -> None:
    bench, bindings = named(limits=Limits(undecided_flows=2))
    bench.send(*(datagram(source_port=port) for port in (5000, 5001, 5002)))
    assert bindings.asked == [NAME, NAME]
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 1}


def test_an_own_address_without_a_name_is_a_closed_port() -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bench.send(udp(GUEST, 5000, bindings.free, 7, b"hello"))
    assert errors(bench) == [(3, 3)]
    assert bench.take() == []


def test_a_name_that_the_rules_refuse_is_not_resolved() -> None:
    bench, _ = named(rules=(Rule(action=Action.REFUSE, names=(NAME,), label="no"), Rule(action=Action.ALLOW)))
    bench.send(datagram())
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.name, notice.rule, notice.errno) == (NAME, "no", errno.EACCES)
    assert bench.take() == []


# verdicts


def test_the_program_is_asked_with_the_name_and_then_the_name_is_resolved() -> None:
    bench, bindings = named(default_action=Action.ASK, rules=())
    bench.send(datagram())
    question = bench.one(DecideFlow)
    assert (question.name, question.destination, bindings.asked) == (NAME, Endpoint(LEASE, 7), [])
    bench.wait(29)
    bench.network.flow_decided(question.socket, Allow(), bench.now)
    bench.collect()
    assert (bench.take(), bindings.asked) == ([], [NAME])
    bench.network.flow_decided(question.socket, Refuse(), bench.now)  # it was answered already
    bench.wait(5)
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello")]


@pytest.mark.parametrize("verdict", [Refuse(), Drop(), Serve(), Allow(to=Endpoint("127.0.0.1", 9))])
def test_other_verdicts_need_no_address_of_the_name(verdict: Refuse | Drop | Serve | Allow) -> None:
    bench, bindings = named(default_action=Action.ASK, rules=())
    bench.send(datagram())
    question = bench.one(DecideFlow)
    bench.network.flow_decided(question.socket, verdict, bench.now)
    bench.collect()
    assert bindings.asked == []
    assert [order.remote for order in bench.take() if isinstance(order, SendDatagram)] == (
        [verdict.to] if isinstance(verdict, Allow) else []
    )
    notice = bench.notices[-1]
    assert isinstance(notice, FlowOpened | FlowRefused)
    assert notice.name == NAME


def test_a_question_about_a_name_is_refused_in_time() -> None:
    bench, bindings = named(default_action=Action.ASK, rules=())
    bench.send(datagram())
    question = bench.one(DecideFlow)
    bench.wait(31)
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert bench.drops() == {Reason.UNDECIDED: 1}
    assert bindings.pins == {}


def test_a_refusal_ends_when_the_address_stands_for_another_name() -> None:
    bench, bindings = named(rules=(Rule(action=Action.ALLOW, names=("other.example.org",)),))
    bench.send(datagram())
    assert bench.drops() == {Reason.REFUSED: 1}
    bindings.rename(LEASE, "other.example.org")
    bindings.know("other.example.org", PUBLIC)
    bench.send(datagram())
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello")]


def test_a_copy_of_a_network_waits_for_its_own_names() -> None:
    bench, _ = named()
    bench.send(datagram())
    network = copy.deepcopy(bench.network)
    bindings = network._context.bindings
    assert isinstance(bindings, FakeBindings)
    network.handle_deadline(bench.now)
    bindings.know(NAME, PUBLIC)
    assert [type(order) for order in network.take_orders()] == [OpenDatagram, SendDatagram]
    assert bench.network.take_orders() == []


# several addresses


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.EAFNOSUPPORT])
def test_the_next_address_is_tried_if_the_first_cannot_be_reached(number: int) -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(Ip(GUEST, packed(LEASE), packets.UDP, datagram().payload, 3, 0xB8))
    opened, first = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert isinstance(first, SendDatagram)
    assert first.remote == Endpoint(PUBLIC6, 7)
    bench.network.datagram_failed(opened.socket, first.remote, failure(number), b"hello", bench.now)
    bench.collect()
    closed, again, second = bench.take()
    assert closed == CloseSocket(opened.socket)
    assert isinstance(again, OpenDatagram)
    assert second == SendDatagram(again.socket, Endpoint(PUBLIC, 7), b"hello", 0, 3, 0xB8, False, None)
    assert errors(bench) == []
    assert [type(notice) for notice in bench.notices] == [FlowOpened, FlowClosed, FlowOpened]
    assert bindings.pins == {packed(LEASE): 1}
    bench.network.datagram_failed(again.socket, second.remote, failure(number), b"hello", bench.now)
    bench.collect()
    assert len(errors(bench)) == 1  # there is no other address


def test_the_next_address_gets_the_datagram_as_it_was_also_if_that_has_waited() -> None:
    bench, bindings = named(rules=(replace(RULE, label="db"),))
    packet = datagram()
    bench.send(Ip(packet.source, packet.destination, packet.protocol, packet.payload, 9, 3, fragment=0))
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.collect()
    socket = next(order.socket for order in bench.take() if isinstance(order, OpenDatagram))
    bench.network.datagram_failed(socket, Endpoint(PUBLIC6, 7), failure(errno.ENETUNREACH), b"hello", bench.now)
    bench.collect()
    (order,) = (order for order in bench.take() if isinstance(order, SendDatagram))
    assert (order.remote, order.ttl, order.tos, order.may_fragment) == (Endpoint(PUBLIC, 7), 9, 3, True)
    opened = [notice for notice in bench.notices if isinstance(notice, FlowOpened)]
    assert [(notice.name, notice.rule, notice.host.address) for notice in opened] == [
        (NAME, "db", packed(PUBLIC6)),
        (NAME, "db", packed(PUBLIC)),
    ]


def test_an_address_from_which_something_came_is_kept() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(datagram())
    opened, _ = bench.take()
    assert isinstance(opened, OpenDatagram)
    bench.network.datagram_received(opened.socket, Endpoint(PUBLIC6, 7), b"x", 0, 60, 0, bench.now)
    bench.network.datagram_failed(opened.socket, Endpoint(PUBLIC6, 7), failure(errno.ENETUNREACH), b"", bench.now)
    bench.collect()
    assert bench.take() == []


def test_a_router_that_reports_an_address_unreachable_leads_to_the_next_one() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC, PUBLIC6)
    bench.send(datagram())
    opened, _ = bench.take()
    assert isinstance(opened, OpenDatagram)
    error = failure(errno.EHOSTUNREACH, ORIGIN_ICMP)
    bench.network.datagram_failed(opened.socket, Endpoint(PUBLIC, 7), error, b"hel", bench.now)
    bench.collect()
    assert sent(bench) == []  # the error quotes only a part
    bench.send(datagram(data=b"again"))
    assert sent(bench) == [(Endpoint(PUBLIC6, 7), b"again")]


def test_the_flow_to_the_next_address_ends_also_if_the_guest_sends_nothing_more() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC, PUBLIC6)
    bench.send(datagram())
    bench.wait(20)
    bench.network.datagram_failed(
        bench.take()[0].socket, Endpoint(PUBLIC, 7), failure(errno.EHOSTUNREACH, ORIGIN_ICMP), b"hel", bench.now
    )
    bench.wait(20)
    assert len(bench.network.flows()) == 1
    bench.wait(20)
    assert (bench.network.flows(), bench.drops()) == ([], {})


def test_an_address_that_the_rules_close_is_not_tried() -> None:
    closed = Rule(action=Action.REFUSE, destinations=(PUBLIC6,))
    bench, bindings = named(rules=(closed, RULE))
    bindings.know(NAME, PUBLIC6, PUBLIC)
    bench.send(datagram())
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello")]


# unsolicited datagrams


def opened_flow(bench: Direct, *, destination: str = LEASE, source_port: int = 5000) -> OpenDatagram:
    bench.send(datagram(destination, source_port=source_port))
    opened = next(order for order in bench.take() if isinstance(order, OpenDatagram))
    bench.packets.clear()
    return opened


def sources(bench: Direct) -> list[bytes]:
    read, bench.packets = bench.packets, []
    return [packet.source for packet in read]


@pytest.mark.parametrize("ports", [(), ((7, 7),)], ids=["all", "one"])
def test_another_port_of_a_name_is_heard_only_if_the_guest_may_send_there(ports: tuple[tuple[int, int], ...]) -> None:
    """A TFTP server answers from another port."""
    bench, bindings = named(rules=(replace(RULE, ports=ports),))
    bindings.know(NAME, PUBLIC)
    opened = opened_flow(bench)
    bench.network.datagram_received(opened.socket, Endpoint(PUBLIC, 9000), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == ([] if ports else [packed(LEASE)])
    assert bench.drops() == ({Reason.HOST_SOURCE: 1} if ports else {})


def test_a_port_of_a_name_is_not_heard_where_a_rule_closes_it_at_the_address() -> None:
    closed = Rule(action=Action.REFUSE, destinations=(PUBLIC,), ports=(9000,))
    bench, bindings = named(rules=(closed, RULE))
    bindings.know(NAME, PUBLIC)
    opened = opened_flow(bench)
    for port in (9000, 9001):
        bench.network.datagram_received(opened.socket, Endpoint(PUBLIC, port), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert [int.from_bytes(packet.payload[:2], "big") for packet in bench.packets] == [9001]


def test_hosts_without_the_name_are_not_heard() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC)
    opened = opened_flow(bench)
    for source in (Endpoint("93.184.215.15", 7), Endpoint(LEASE, 7), Endpoint("127.0.0.1", 7)):
        bench.network.datagram_received(opened.socket, source, b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == []
    assert bench.drops() == {Reason.HOST_SOURCE: 3}


def test_an_address_of_a_name_that_is_not_resolved_is_not_heard() -> None:
    bench, _ = named(default_action=Action.ALLOW)
    opened = opened_flow(bench, destination="192.0.2.80")
    bench.network.datagram_received(opened.socket, Endpoint(LEASE, 7), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == []
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_another_port_of_a_host_to_which_the_program_redirected_a_name_is_not_heard() -> None:
    """An answer to it would lead elsewhere: the program would be asked about that port of the name."""
    bench, _ = named(rules=(), default_action=Action.ASK)
    bench.send(datagram())
    bench.network.flow_decided(bench.one(DecideFlow).socket, Allow(to=Endpoint(PUBLIC, 9)), bench.now)
    bench.collect()
    opened, _ = bench.take()
    assert isinstance(opened, OpenDatagram)
    for port in (9, 10):
        bench.network.datagram_received(opened.socket, Endpoint(PUBLIC, port), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == [packed(LEASE)]
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_a_closed_host_is_not_heard_through_the_socket_of_an_open_flow() -> None:
    rule = Rule(action=Action.ALLOW, destinations=("192.0.2.0/24",), ports=((7, 8),))
    bench, _ = named(rules=(rule,))
    opened = opened_flow(bench, destination="192.0.2.80")
    for source in ("192.0.2.80", "192.0.2.81", "198.51.100.1"):
        for port in (8, 9):
            bench.network.datagram_received(opened.socket, Endpoint(source, port), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == [packed("192.0.2.80"), packed("192.0.2.81")]
    assert bench.drops() == {Reason.HOST_SOURCE: 4}


# rules change


def change(bench: Direct, **fields: Any) -> None:
    bench.take()
    bench.config = replace(bench.config, **fields)
    bench.network.reconfigure(bench.config, bench.now)
    bench.collect()


def test_a_flow_to_a_name_goes_on_with_another_name_server() -> None:
    bench, bindings = named(resolver=ResolverConfig(servers=(Endpoint("192.0.2.53", 53),)))
    bindings.know(NAME, PUBLIC)
    opened = opened_flow(bench)
    change(bench, dns_servers=("192.0.2.53",))
    bench.send(datagram())
    assert bench.one(SendDatagram).socket == opened.socket


@pytest.mark.parametrize("destination", [LEASE, "192.0.2.80", "2001:db8::80"])
def test_an_open_flow_ends_if_the_rules_do_not_allow_it_any_more(destination: str) -> None:
    bench, bindings = named(default_action=Action.ALLOW)
    bindings.know(NAME, PUBLIC)
    opened = opened_flow(bench, destination=destination)
    change(bench, rules=(), default_action=Action.REFUSE)
    assert bench.one(CloseSocket) == CloseSocket(opened.socket)
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert closed.reason is Reason.REFUSED
    assert bindings.pins == {}
    bench.send(datagram(destination))
    assert bench.take() == []
    assert bench.drops() == {Reason.REFUSED: 1}


def test_an_address_that_new_rules_close_is_not_tried_next() -> None:
    bench, bindings = named()
    bindings.know(NAME, PUBLIC6, PUBLIC)
    opened = opened_flow(bench)
    change(bench, rules=(Rule(action=Action.REFUSE, destinations=(PUBLIC,)), RULE))
    bench.network.datagram_failed(opened.socket, Endpoint(PUBLIC6, 7), failure(errno.ENETUNREACH), b"hello", bench.now)
    bench.collect()
    assert bench.take() == []
    assert len(errors(bench)) == 1


def test_only_the_flows_that_new_rules_refuse_end() -> None:
    bench, _ = named(default_action=Action.ALLOW)
    kept = opened_flow(bench, destination="192.0.2.80", source_port=5000)
    opened = opened_flow(bench, destination="192.0.2.81", source_port=5001)
    change(bench, rules=(Rule(action=Action.DROP, destinations=("192.0.2.81",)),))
    assert bench.one(CloseSocket) == CloseSocket(opened.socket)
    assert [report.socket for report in bench.network.flows()] == [kept.socket]


def test_a_redirected_flow_ends_if_the_rules_lead_elsewhere() -> None:
    rule = Rule(action=Action.ALLOW, protocols=("udp",), to=Endpoint("127.0.0.1", 9))
    bench, _ = named(rules=(rule,))
    opened = opened_flow(bench, destination="192.0.2.80")
    change(bench, rules=(replace(rule, label="the same"),))
    assert bench.take() == []
    change(bench, rules=(replace(rule, to=Endpoint("127.0.0.1", 10)),))
    assert bench.one(CloseSocket) == CloseSocket(opened.socket)


@pytest.mark.parametrize("inbound", [True, False])
def test_flows_of_outsiders_are_judged_by_the_rules_of_their_direction(inbound: bool) -> None:
    bench, _ = named(default_action=Action.ALLOW)
    forward = bench.network.forward_added(None, 53, bench.now)
    outsider = Endpoint("192.0.2.200", 4000)
    bench.network.datagram_received(forward, outsider, b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert sources(bench) == [outsider.address]
    change(bench, rules=(Rule(action=Action.REFUSE, inbound=inbound),))
    assert len(bench.network.flows()) == (0 if inbound else 1)
    bench.network.datagram_received(forward, outsider, b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert len(sources(bench)) == (0 if inbound else 1)


def test_a_flow_that_waits_opens_if_the_new_rules_allow_it() -> None:
    bench, bindings = named(rules=(), default_action=Action.ASK)
    bindings.know(NAME, PUBLIC)
    bench.send(datagram(), datagram("192.0.2.80"))
    first, second = bench.take()
    assert isinstance(first, DecideFlow)
    assert isinstance(second, DecideFlow)
    change(bench, rules=(Rule(action=Action.ALLOW, names=(NAME,)),))
    orders = bench.take()
    assert orders[0] == CloseSocket(first.socket)
    assert [order.remote for order in orders if isinstance(order, SendDatagram)] == [Endpoint(PUBLIC, 7)]
    assert [report.state for report in bench.network.flows()] == ["OPEN", "UNDECIDED"]


def test_a_flow_that_waits_for_its_name_follows_the_rules() -> None:
    bench, bindings = named()
    bench.send(datagram(), datagram(source_port=5001))
    change(bench, default_action=Action.ASK, rules=())
    questions = bench.take()
    assert [type(order) for order in questions] == [DecideFlow, DecideFlow]
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []  # the program has not decided
    change(bench, default_action=Action.REFUSE)
    assert [type(order) for order in bench.take()] == [CloseSocket, CloseSocket]
    assert bindings.pins == {}


# real addresses


def test_a_real_address_is_judged_by_the_names_that_it_stands_for() -> None:
    bench = Direct(replace(make_config(), rules=(RULE,), **REFUSE))
    bindings = FakeBindings({}, {PUBLIC: ("other.example.org", NAME)})
    bindings.attach(bench)
    bench.send(datagram(PUBLIC), datagram("93.184.215.15", source_port=5001))
    assert sent(bench) == [(Endpoint(PUBLIC, 7), b"hello")]
    opened, refused = bench.notices
    assert isinstance(opened, FlowOpened)
    assert isinstance(refused, FlowRefused)
    assert (opened.name, opened.rule, refused.name) == (NAME, "database", None)
    assert bindings.pins == {packed(PUBLIC): 1}


def test_a_flow_from_a_forwarded_port_keeps_the_name_of_a_real_address() -> None:
    bench = Direct(replace(make_config(), rules=(RULE,), **REFUSE))
    bindings = FakeBindings({}, {PUBLIC: (NAME,)})
    bindings.attach(bench)
    bench.network.forward_added(None, 5000, bench.now, (4,))
    bench.send(datagram(PUBLIC))
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.name, notice.rule) == (NAME, "database")
    assert bindings.pins == {packed(PUBLIC): 1}


def test_a_name_that_the_address_stands_for_no_more_is_not_what_was_waited_for() -> None:
    bench, bindings = named(rules=(Rule(action=Action.ALLOW, names=("*.example.org",)),))
    bench.send(datagram())
    bindings.rename(LEASE, "other.example.org")
    bindings.know(NAME, PUBLIC)
    bench.collect()
    assert bench.take() == []
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.reason, notice.errno, notice.name) == (Reason.NAME_UNRESOLVED, errno.EHOSTUNREACH, NAME)
    assert bindings.pins == {}
