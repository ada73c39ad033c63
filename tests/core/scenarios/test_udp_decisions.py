"""Rules and verdicts about UDP flows: nothing reaches the host before a flow is allowed."""

from __future__ import annotations

import errno

import pytest

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    Drop,
    Dropped,
    Endpoint,
    ExtendedError,
    FlowOpened,
    FlowRefused,
    FlowReport,
    Limits,
    LinkConfig,
    OpenDatagram,
    Prefix,
    Reason,
    Refuse,
    Rule,
    SendDatagram,
    Serve,
    SocketId,
    UdpFiltering,
    Verdict,
)
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, OUTSIDER, SERVER, SERVER6, make_config, packets
from sansnet_core.testing.packets import Ip, udp
from tests.core.direct import GUEST, GUEST6, Direct

VIRTUAL = Prefix.of("10.9.0.0/16")
OTHER = bytes((192, 0, 2, 81))
FROM = Endpoint(GUEST, 5000)
TO = Endpoint(SERVER, 7)


def direct(**fields: object) -> Direct:
    return Direct(replace(make_config(), virtual=(VIRTUAL,), **fields))


def asking(**fields: object) -> Direct:
    return direct(default_action=Action.ASK, **fields)


def datagram(data: bytes = b"hello", *, destination: bytes = SERVER, port: int = 7, source_port: int = 5000) -> Ip:
    return udp(GUEST if len(destination) == 4 else GUEST6, source_port, destination, port, data)


def asked(bench: Direct) -> DecideFlow:
    """The question that the latest packets led to, and nothing else."""
    return bench.one(DecideFlow)


def decide(bench: Direct, question: DecideFlow, verdict: Verdict) -> None:
    bench.network.flow_decided(question.socket, verdict, bench.now)
    bench.collect()


def errors(bench: Direct) -> list[tuple[int, int]]:
    """Type and code of the ICMP errors since the last call."""
    read, bench.packets = bench.packets, []
    assert {packet.protocol for packet in read} <= {packets.ICMP, packets.ICMPV6}
    return [(packet.payload[0], packet.payload[1]) for packet in read]


def sent(bench: Direct) -> list[bytes]:
    """The payloads that left for the host since the last call, in order."""
    return [bytes(order.data) for order in bench.take() if isinstance(order, SendDatagram)]


# questions


@pytest.mark.parametrize("destination", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
def test_a_flow_that_is_asked_about_has_no_host_socket(destination: bytes) -> None:
    bench = asking()
    bench.send(datagram(b"1", destination=destination), datagram(b"2", destination=destination))
    guest, remote = Endpoint(datagram(destination=destination).source, 5000), Endpoint(destination, 7)
    question = asked(bench)
    assert question == DecideFlow(question.socket, 17, guest, remote, False, None)
    assert bench.notices == []
    assert bench.network.statistics().flows["udp_sockets"] == 0
    assert bench.network.flows() == [FlowReport(question.socket, 17, guest, remote, remote, False, "UNDECIDED", 0, 0)]
    bench.wait(5)
    decide(bench, question, Allow())
    opened, *rest = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert opened.guest == guest
    assert [(order.remote, bytes(order.data)) for order in rest if isinstance(order, SendDatagram)] == [
        (remote, b"1"),
        (remote, b"2"),
    ]
    assert bench.notices == [FlowOpened(opened.socket, 17, guest, remote, remote, False, 1005.0)]
    bench.send(datagram(b"3", destination=destination))
    assert sent(bench) == [b"3"]
    bench.network.datagram_received(opened.socket, remote, b"answer", 0, 60, 0, bench.now)
    bench.collect()
    assert bench.packets[0].source == destination


def test_what_waits_is_sent_as_it_came() -> None:
    bench = asking()
    first = replace_packet(datagram(b"1"), ttl=3, tos=0xB8)
    bench.send(first)
    decide(bench, asked(bench), Allow())
    _, order = bench.take()
    assert order == SendDatagram(order.socket, TO, b"1", 0, 3, 0xB8, False, None)


def test_a_datagram_that_may_be_fragmented_stays_so_while_it_waits() -> None:
    bench = asking()
    for fragment in (0x4000, 0):
        packet = datagram(b"x")
        bench.send(Ip(packet.source, packet.destination, packet.protocol, packet.payload, fragment=fragment))
    decide(bench, asked(bench), Allow())
    assert [order.may_fragment for order in bench.take() if isinstance(order, SendDatagram)] == [False, True]


def replace_packet(packet: Ip, *, ttl: int, tos: int) -> Ip:
    return Ip(packet.source, packet.destination, packet.protocol, packet.payload, ttl, tos)


def test_eight_datagrams_wait_and_the_others_are_dropped() -> None:
    bench = asking()
    bench.send(*(datagram(bytes((number,))) for number in range(20)))
    question = asked(bench)
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 12}
    decide(bench, question, Allow())
    assert sent(bench) == [bytes((number,)) for number in range(8)]


def test_the_bytes_that_wait_are_bounded() -> None:
    bench = asking(link=LinkConfig())
    bench.send(datagram(bytes(40000)), datagram(bytes(30000)), datagram(b"small"))
    decide(bench, asked(bench), Allow())
    assert [len(data) for data in sent(bench)] == [40000, 5]
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 1}


def test_all_flows_together_keep_a_bounded_number_of_bytes() -> None:
    bench = asking(link=LinkConfig())
    for verdict in (Allow(), Drop(), Allow()):
        bench.send(*(datagram(bytes(65000), source_port=port) for port in range(5000, 5512)))
        questions = [order for order in bench.take() if isinstance(order, DecideFlow)]
        assert len(questions) == 512
        for question in questions:
            bench.network.flow_decided(question.socket, verdict, bench.now)
        bench.collect()
        kept = sum(map(len, sent(bench)))
        assert kept == 0 if verdict == Drop() else 15 << 20 < kept <= 16 << 20
        bench.wait(40)


def test_at_the_limit_new_flows_are_dropped_and_not_refused() -> None:
    bench = asking(limits=Limits(undecided_flows=2))
    for _ in range(2):
        bench.send(*(datagram(source_port=port) for port in range(5000, 5004)))
    first, second = bench.take()
    assert isinstance(first, DecideFlow)
    assert isinstance(second, DecideFlow)
    assert bench.packets == []
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 4}
    assert bench.notices == [
        FlowRefused(17, Endpoint(GUEST, port), TO, None, 0, Reason.UNDECIDED_LIMIT, False, 1000.0)
        for port in (5002, 5003)
    ]
    decide(bench, first, Drop())
    bench.send(datagram(source_port=5003))
    assert asked(bench).guest.port == 5003


def test_outsiders_use_up_only_their_own_questions() -> None:
    bench = asking(limits=Limits(undecided_flows=1))
    forward = bench.network.forward_added(None, 53, bench.now)
    for port in (1000, 1001):
        arrive(bench, forward, port=port)
    assert asked(bench).inbound
    bench.send(datagram())
    assert not asked(bench).inbound
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 1}


def test_a_question_without_an_answer_is_withdrawn_and_the_flow_refused() -> None:
    bench = asking(limits=Limits(decision_time=10))
    bench.send(datagram())
    question = asked(bench)
    bench.wait(9)
    assert bench.take() == []
    bench.wait(2)
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert errors(bench) == [(3, 13)]
    assert bench.notices == [FlowRefused(17, FROM, TO, None, errno.EACCES, Reason.UNDECIDED, False, 1010.0)]
    assert bench.drops() == {Reason.UNDECIDED: 1}
    assert bench.network.flows() == []
    decide(bench, question, Allow())
    bench.send(datagram())
    assert bench.take() == []
    assert bench.drops() == {Reason.UNDECIDED: 2}


# verdicts


@pytest.mark.parametrize(
    ("number", "error4", "error6"),
    [
        (errno.EACCES, (3, 13), (1, 1)),
        (errno.ECONNREFUSED, (3, 3), (1, 4)),
        (errno.EHOSTUNREACH, (3, 10), (1, 3)),
        (errno.ENETUNREACH, (3, 6), (1, 0)),
        (errno.ETIMEDOUT, None, None),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
@pytest.mark.parametrize("destination", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("way", ["verdict", "rule"])
def test_a_refused_flow_gets_the_error_of_its_errno(
    number: int, error4: tuple[int, int] | None, error6: tuple[int, int] | None, destination: bytes, way: str
) -> None:
    expected = error4 if len(destination) == 4 else error6
    rule = Rule(action=Action.REFUSE, protocols=("udp",), errno=number)
    if way == "rule":
        bench = direct(rules=(rule,))
        bench.send(datagram(destination=destination))
    else:
        bench = asking()
        bench.send(datagram(destination=destination))
        decide(bench, asked(bench), Refuse(number))
    assert errors(bench) == ([expected] if expected else [])
    bench.send(datagram(destination=destination))
    assert errors(bench) == ([expected] if expected else [])
    assert bench.take() == []
    assert bench.drops() == {Reason.REFUSED: 2}
    (notice,) = bench.notices
    guest, remote = Endpoint(datagram(destination=destination).source, 5000), Endpoint(destination, 7)
    text = str(rule) if way == "rule" else None
    assert notice == FlowRefused(17, guest, remote, None, number, Reason.REFUSED, False, 1000.0, rule=text)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMSGSIZE], ids=["prohibited", "too-big"])
def test_the_router_reports_a_refusal_and_tells_no_more_than_the_errno(number: int) -> None:
    bench = direct(rules=(Rule(action=Action.REFUSE, errno=number),))
    bench.send(datagram())
    (packet,) = bench.packets
    assert packet.source == GATEWAY
    assert packet.payload[4:8] == bytes(4)


@pytest.mark.parametrize("way", ["verdict", "rule"])
def test_a_dropped_flow_gets_no_answer(way: str) -> None:
    bench = asking() if way == "verdict" else direct(default_action=Action.DROP)
    bench.send(datagram())
    if way == "verdict":
        decide(bench, asked(bench), Drop())
    bench.send(datagram())
    assert (bench.take(), bench.packets) == ([], [])
    assert bench.drops() == {Reason.REFUSED: 2}
    assert bench.notices == [FlowRefused(17, FROM, TO, None, 0, Reason.REFUSED, False, 1000.0)]


def test_each_datagram_that_waited_is_answered() -> None:
    bench = asking()
    bench.send(*(datagram() for _ in range(3)))
    decide(bench, asked(bench), Refuse(errno.ECONNREFUSED))
    assert errors(bench) == [(3, 3)] * 3
    assert bench.drops() == {Reason.REFUSED: 3}
    assert bench.network.statistics().last_drops[Reason.REFUSED] == (Dropped(17, FROM, TO),)


def test_the_answers_to_a_refused_flow_are_bounded() -> None:
    bench = direct(default_action=Action.REFUSE, limits=Limits(icmp_error_burst=5))
    bench.send(*(datagram() for _ in range(50)))
    assert len(errors(bench)) == 5


def test_a_refused_flow_is_asked_about_again_later() -> None:
    bench = asking(limits=Limits(udp_idle_once=30, decision_time=100))
    bench.send(datagram())
    decide(bench, asked(bench), Refuse())
    for _ in range(3):
        bench.wait(9)
        bench.send(datagram())
        assert bench.take() == []
    assert len(bench.notices) == 1
    bench.wait(3)
    bench.send(datagram())
    asked(bench)


def test_refusals_take_bounded_memory_and_are_forgotten() -> None:
    bench = direct(default_action=Action.DROP, limits=Limits(udp_flows=4))
    bench.send(*(datagram(source_port=port) for port in range(5000, 5100)))
    assert len(bench.notices) == 100
    bench.send(*(datagram(source_port=port) for port in range(5096, 5100)))
    assert len(bench.notices) == 100
    bench.send(datagram(source_port=5000))
    assert len(bench.notices) == 101
    bench.wait(40)
    assert bench.network.next_deadline() is None


def test_a_redirected_flow_is_answered_by_what_the_guest_addressed() -> None:
    bench = asking()
    bench.send(datagram())
    to = Endpoint("127.0.0.1", 5353)
    decide(bench, asked(bench), Allow(to))
    opened, order = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert opened.local == Endpoint("127.0.0.1", 5000)
    assert isinstance(order, SendDatagram)
    assert order.remote == to
    (notice,) = bench.notices
    assert isinstance(notice, FlowOpened)
    assert (notice.remote, notice.host) == (TO, to)
    bench.network.datagram_received(order.socket, to, b"answer", 0, 60, 0, bench.now)
    bench.collect()
    (answer,) = bench.packets
    assert (answer.source, answer.payload[:4]) == (SERVER, b"\0\7" + (5000).to_bytes(2, "big"))


@pytest.mark.parametrize("to", [Endpoint(OTHER, 99), Endpoint(SERVER6, 99), Endpoint(SERVER, 8)], ids=str)
def test_flows_that_lead_to_one_host_endpoint_are_told_apart(to: Endpoint) -> None:
    destinations = [Endpoint(SERVER, 7), Endpoint(SERVER, 8), Endpoint(SERVER, 99), Endpoint(OTHER, 99)]
    bench = direct(rules=(Rule(action=Action.ALLOW, destinations=("192.0.2.0/24",), ports=((1, 99),), to=to),))
    bench.send(*(datagram(destination=address, port=port) for address, port in destinations))
    orders = [order for order in bench.take() if isinstance(order, SendDatagram)]
    assert [order.remote for order in orders] == [to] * 4
    assert len({order.socket for order in orders}) == 4
    for order, destination in zip(orders, destinations, strict=True):
        bench.packets.clear()
        bench.network.datagram_received(order.socket, to, b"answer", 0, 60, 0, bench.now)
        bench.collect()
        (answer,) = bench.packets
        assert Endpoint(answer.source, int.from_bytes(answer.payload[:2], "big")) == destination


def test_a_redirected_flow_and_a_direct_one_to_the_same_host_endpoint_are_told_apart() -> None:
    bench = direct(rules=(Rule(action=Action.ALLOW, destinations=(OTHER,), to=TO),))
    bench.send(datagram(), datagram(destination=OTHER))
    first, second = (order for order in bench.take() if isinstance(order, SendDatagram))
    assert first.remote == second.remote == TO
    for order, destination in ((first, SERVER), (second, OTHER)):
        bench.packets.clear()
        bench.network.datagram_received(order.socket, TO, b"answer", 0, 60, 0, bench.now)
        bench.collect()
        assert bench.packets[0].source == destination


def test_the_mtu_of_a_path_of_another_family_counts_for_the_guests_headers() -> None:
    bench = direct(rules=(Rule(action=Action.ALLOW, to=Endpoint(SERVER6, 7)),))
    bench.send(datagram(bytes(1400)))
    order = bench.take()[-1]
    assert isinstance(order, SendDatagram)
    error = ExtendedError(errno.EMSGSIZE, 1, 0, 0, 1300, None)
    bench.network.datagram_failed(order.socket, order.remote, error, bytes(1400), bench.now)
    bench.wait(1)
    (packet,) = bench.packets
    assert packet.payload[:2] == b"\3\4"
    assert int.from_bytes(packet.payload[6:8], "big") == 1280


@pytest.mark.parametrize("mtu", [0, 1, 19, (1 << 32) - 1])
def test_any_mtu_of_a_path_of_another_family_is_no_error_of_the_driver(mtu: int) -> None:
    bench = direct(rules=(Rule(action=Action.ALLOW, to=Endpoint(SERVER6, 7)),))
    bench.send(datagram(bytes(1400)))
    order = bench.take()[-1]
    error = ExtendedError(errno.EMSGSIZE, 1, 0, 0, mtu, None)
    bench.network.datagram_failed(order.socket, Endpoint(SERVER6, 7), error, bytes(1400), bench.now)
    bench.collect()
    (packet,) = bench.packets
    assert packet.payload[:2] == b"\3\4"
    assert int.from_bytes(packet.payload[6:8], "big") in ({0: [0], 1: [0, 68], 19: [0, 68]}.get(mtu, [65535, 65515]))


def test_a_served_flow_is_the_programs() -> None:
    bench = asking()
    bench.send(datagram(b"1"), datagram(b"2"))
    question = asked(bench)
    decide(bench, question, Serve())
    bench.send(datagram(b"3"))
    assert bench.take() == [DeliverDatagram(question.socket, FROM, TO, data, 0, 64, 0) for data in (b"1", b"2", b"3")]
    assert bench.notices == [FlowOpened(question.socket, 17, FROM, TO, TO, False, 1000.0)]
    network = bench.network
    network.service_sent(question.socket, FROM, TO, b"answer", bench.now)
    network.service_sent(question.socket, FROM, Endpoint(SERVER, 8), b"of another flow", bench.now)
    network.service_sent(question.socket, Endpoint(GUEST, 5001), TO, b"to another socket", bench.now)
    network.service_sent(question.socket, FROM, Endpoint(GATEWAY, 8), b"from our own address", bench.now)
    bench.collect()
    assert [packet.payload[8:] for packet in bench.packets] == [b"answer"]
    bench.wait(181)
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert network.flows() == []
    network.service_sent(question.socket, FROM, TO, b"late", bench.now)
    assert network.take_frames() == []


def test_the_program_ends_a_flow_that_it_served() -> None:
    bench = asking()
    bench.send(datagram())
    question = asked(bench)
    decide(bench, question, Serve())
    bench.take()
    bench.network.service_removed(question.socket, bench.now)
    bench.collect()
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    bench.send(datagram())
    assert asked(bench).socket != question.socket


def test_a_verdict_about_nothing_is_ignored() -> None:
    bench = asking()
    bench.send(datagram())
    question = asked(bench)
    for verdict in (Allow(), Refuse(), Drop(), Serve(), Allow()):
        decide(bench, question, verdict)
        bench.network.flow_decided(SocketId(999), verdict, bench.now)
    assert [type(order) for order in bench.take()] == [OpenDatagram, SendDatagram]


# what is never asked about


def test_what_the_network_answers_itself_is_never_asked_about() -> None:
    name_server = bytes((10, 0, 2, 3))
    bench = asking(dns_servers=(name_server,), hosts=(("app.internal", (GATEWAY,)),))
    query = bytes.fromhex("000101000001000000000000") + b"\3app\10internal\0\0\1\0\1"
    bench.send(datagram(query, destination=name_server, port=53))
    bench.send(packets.dhcp_discover(bytes.fromhex("020000000001")))
    bench.send(datagram(destination=GATEWAY))
    bench.send(datagram(destination=bytes((10, 9, 1, 1))))
    bench.send(datagram(destination=bytes((240, 0, 0, 1))))
    assert bench.take() == []
    assert len(bench.packets) == 5
    service = bench.network.service_added(17, None, None, bench.now)
    bench.send(datagram(destination=GATEWAY))
    assert bench.one(DeliverDatagram).socket == service


def test_no_rule_opens_or_refuses_a_virtual_address() -> None:
    inside = bytes((10, 9, 1, 1))
    for action in (Action.ALLOW, Action.DROP):
        bench = direct(rules=(Rule(action=action, to=TO if action is Action.ALLOW else None),))
        bench.send(datagram(destination=inside))
        assert bench.take() == []
        assert errors(bench) == [(3, 3)]
        bench.network.service_added(17, VIRTUAL, None, bench.now)
        bench.send(datagram(destination=inside))
        bench.one(DeliverDatagram)


# inbound


def arrive(
    bench: Direct, forward: SocketId, data: bytes = b"hello", *, port: int = OUTSIDER.port, local: bytes | None = None
) -> None:
    source = Endpoint(OUTSIDER.address, port)
    bench.network.datagram_received(forward, source, data, 0, 60, 0, bench.now, local)
    bench.collect()


def test_the_guest_gets_nothing_from_an_outsider_before_the_verdict() -> None:
    bench = asking()
    forward = bench.network.forward_added(None, 53, bench.now)
    local = bytes((198, 51, 100, 1))
    for number in range(10):
        arrive(bench, forward, bytes((number,)), local=local)
    question = asked(bench)
    guest = Endpoint(GUEST, 53)
    assert question == DecideFlow(question.socket, 17, guest, OUTSIDER, True)
    assert bench.network.flows() == [
        FlowReport(question.socket, 17, guest, OUTSIDER, OUTSIDER, True, "UNDECIDED", 0, 0)
    ]
    assert (bench.packets, bench.notices) == ([], [])
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 2}
    decide(bench, question, Allow())
    assert [packet.payload[8:] for packet in bench.packets] == [bytes((number,)) for number in range(8)]
    assert bench.notices == [FlowOpened(forward, 17, guest, OUTSIDER, OUTSIDER, True, 1000.0)]
    bench.send(udp(GUEST, 53, *OUTSIDER, b"answer"))
    order = bench.one(SendDatagram)
    assert (order.socket, order.remote, order.local) == (forward, OUTSIDER, local)


@pytest.mark.parametrize("verdict", [Refuse(), Drop(), Serve()], ids=str)
def test_a_refused_outsider_is_ignored(verdict: Verdict) -> None:
    bench = asking()
    forward = bench.network.forward_added(None, 53, bench.now)
    arrive(bench, forward)
    decide(bench, asked(bench), verdict)
    arrive(bench, forward)
    assert (bench.take(), bench.packets, bench.network.flows()) == ([], [], [])
    assert bench.drops() == {Reason.REFUSED: 2}
    (notice,) = bench.notices
    assert isinstance(notice, FlowRefused)
    assert (notice.inbound, notice.reason, notice.host) == (True, Reason.REFUSED, OUTSIDER)
    assert bench.network.statistics().last_drops[Reason.REFUSED] == (Dropped(17, OUTSIDER, Endpoint(GUEST, 53)),)


def test_rules_about_outsiders_match_their_address_and_the_guests_port() -> None:
    rules = (
        Rule(action=Action.ALLOW, inbound=True, destinations=(OUTSIDER.address,), ports=(53,)),
        Rule(action=Action.DROP, inbound=True),
    )
    bench = direct(rules=rules)
    allowed = bench.network.forward_added(None, 53, bench.now)
    closed = bench.network.forward_added(None, 54, bench.now)
    arrive(bench, allowed)
    arrive(bench, closed)
    bench.network.datagram_received(allowed, Endpoint(SERVER, 53), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.payload[:4] for packet in bench.packets] == [OUTSIDER.port.to_bytes(2, "big") + b"\0\x35"]
    assert [notice.rule for notice in bench.notices if isinstance(notice, FlowOpened)] == [str(rules[0])]
    bench.send(datagram())
    assert sent(bench) == [b"hello"]


def test_a_forward_that_ends_takes_its_questions_along() -> None:
    bench = asking()
    forward = bench.network.forward_added(None, 53, bench.now)
    other = bench.network.forward_added(None, 54, bench.now)
    arrive(bench, forward)
    arrive(bench, other)
    first, second = bench.take()
    assert isinstance(first, DecideFlow)
    assert isinstance(second, DecideFlow)
    bench.network.forward_removed(forward, bench.now)
    bench.collect()
    assert bench.one(CloseSocket) == CloseSocket(first.socket)
    decide(bench, first, Allow())
    assert bench.packets == []
    decide(bench, second, Allow())
    assert len(bench.packets) == 1


def test_an_outsider_whom_the_guest_addressed_meanwhile_is_let_in() -> None:
    bench = direct(rules=(Rule(action=Action.ASK, inbound=True),))
    forward = bench.network.forward_added(None, 53, bench.now, (4,))
    arrive(bench, forward, b"early")
    question = asked(bench)
    bench.send(udp(GUEST, 53, *OUTSIDER, b"hello"))
    assert bench.one(SendDatagram).socket == forward
    decide(bench, question, Allow())
    assert [packet.payload[8:] for packet in bench.packets] == [b"early"]
    assert len(bench.network.flows()) == 1


def test_an_outsider_whom_the_guest_addressed_from_a_socket_of_its_own_meanwhile_is_dropped() -> None:
    bench = direct(rules=(Rule(action=Action.ASK, inbound=True),))
    forward = bench.network.forward_added(None, 53, bench.now)
    arrive(bench, forward)
    question = asked(bench)
    bench.send(udp(GUEST, 53, *OUTSIDER, b"hello"))
    bench.take()
    decide(bench, question, Allow())
    assert bench.packets == []
    collided = Dropped(17, OUTSIDER, Endpoint(GUEST, 53))
    assert bench.network.statistics().last_drops == {Reason.INBOUND_COLLISION: (collided,)}


def test_an_outsider_stays_admitted_when_the_guest_changes_its_address() -> None:
    bench = direct(rules=(Rule(action=Action.ASK, label="ask"),))
    forward = bench.network.forward_added(None, 53, bench.now)
    arrive(bench, forward)
    decide(bench, asked(bench), Allow())
    bench.send(udp(GUEST, 53, *OUTSIDER, b"answer"))
    bench.one(SendDatagram)
    bench.packets.clear()
    moved = bytes((10, 0, 2, 77))
    bench.send(udp(moved, 53, SERVER, 7, b"from there"))
    asked(bench)
    bench.wait(29)
    arrive(bench, forward)
    bench.wait(2)
    arrive(bench, forward)
    assert [packet.destination for packet in bench.packets if packet.protocol == packets.UDP] == [GUEST, moved]
    opened = [notice for notice in bench.notices if isinstance(notice, FlowOpened)]
    assert [(notice.guest, notice.rule) for notice in opened] == [
        (Endpoint(GUEST, 53), "ask"),
        (Endpoint(moved, 53), "ask"),
    ]


# unsolicited datagrams


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        (None, True),
        (Rule(action=Action.REFUSE, destinations=(OTHER,)), False),
        (Rule(action=Action.ALLOW, destinations=(OTHER,), to=TO), False),
        (Rule(action=Action.ASK, destinations=(OTHER,)), False),
    ],
    ids=["open", "refused", "redirected", "asked"],
)
def test_an_unsolicited_datagram_passes_if_the_guest_may_send_to_its_source(rule: Rule | None, passes: bool) -> None:
    bench = direct(rules=(rule,) if rule else ())
    bench.send(datagram())
    socket = bench.take()[0].socket
    bench.network.datagram_received(socket, Endpoint(OTHER, 9), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert len(bench.packets) == passes
    assert bench.drops() == ({} if passes else {Reason.HOST_SOURCE: 1})


def test_no_unsolicited_datagram_comes_from_the_place_of_a_service() -> None:
    bench = direct()
    bench.network.service_added(17, Prefix.of(OTHER), 9, bench.now)
    bench.send(datagram())
    socket = bench.take()[0].socket
    for port in (9, 10):
        bench.network.datagram_received(socket, Endpoint(OTHER, port), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.payload[:2] for packet in bench.packets] == [b"\0\x0a"]


def test_another_port_of_an_allowed_address_may_answer() -> None:
    bench = asking()
    bench.send(datagram(), datagram(port=8), datagram(port=9))
    first, second, _ = (order for order in bench.take() if isinstance(order, DecideFlow))
    decide(bench, first, Allow())
    socket = bench.take()[0].socket
    decide(bench, second, Drop())
    for port in (8, 9, 10):  # refused, undecided, unknown
        bench.network.datagram_received(socket, Endpoint(SERVER, port), b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert [packet.payload[:2] for packet in bench.packets] == [b"\0\x0a"]


# another configuration


def test_refused_flows_are_judged_again_by_new_rules() -> None:
    bench = direct(default_action=Action.DROP)
    bench.send(datagram())
    bench.network.reconfigure(replace(bench.config, default_action=Action.ALLOW), bench.now)
    bench.send(datagram())
    assert sent(bench) == [b"hello"]


def test_open_flows_survive_new_rules_if_they_may() -> None:
    bench = direct(rules=(Rule(action=Action.ALLOW, ports=(53,), to=Endpoint(OTHER, 53)),))
    bench.send(datagram(), datagram(port=53))
    bench.take()
    changed = replace(bench.config, rules=(), default_action=Action.DROP)
    bench.network.reconfigure(changed, bench.now, keep_flows=True)
    bench.send(datagram(), datagram(port=53))
    assert [order.remote for order in bench.take() if isinstance(order, SendDatagram)] == [TO, Endpoint(OTHER, 53)]


@pytest.mark.parametrize(
    ("change", "reason", "error"),
    [
        ({"default_action": Action.REFUSE}, Reason.REFUSED, (3, 13)),
        ({"virtual": (Prefix.of("192.0.2.0/24"),)}, Reason.OWN_ADDRESS, (3, 3)),
    ],
    ids=["rule", "virtual"],
)
def test_a_flow_that_waits_is_refused_by_the_new_configuration(
    change: dict[str, object], reason: Reason, error: tuple[int, int]
) -> None:
    bench = asking()
    bench.send(datagram())
    question = asked(bench)
    bench.network.reconfigure(replace(bench.config, **change), bench.now)
    bench.collect()
    assert bench.one(CloseSocket) == CloseSocket(question.socket)
    assert errors(bench) == [error]
    assert bench.drops() == {reason: 1}
    decide(bench, question, Allow())
    assert bench.take() == []


def test_a_flow_that_waits_goes_on_if_the_rules_still_ask() -> None:
    bench = asking()
    bench.send(datagram())
    question = asked(bench)
    bench.network.reconfigure(replace(bench.config, dns_servers=(OTHER,)), bench.now)
    bench.collect()
    decide(bench, question, Allow())
    assert sent(bench) == [b"hello"]


@pytest.mark.parametrize("begin", ["service", "outsider"])
def test_a_flow_that_began_from_the_other_side_meanwhile_gets_what_waits(begin: str) -> None:
    bench = direct(rules=(Rule(action=Action.ASK, inbound=False),))
    bench.send(udp(GUEST, 5000, *OUTSIDER, b"early"))
    question = asked(bench)
    if begin == "service":
        end = bench.network.service_added(17, Prefix.of(OUTSIDER.address), None, bench.now)
        bench.network.service_sent(end, FROM, OUTSIDER, b"news", bench.now)
        bench.collect()
    else:
        end = bench.network.forward_added(None, 5000, bench.now)
        arrive(bench, end, b"news")
    for verdict in (Serve(), Allow()):
        decide(bench, question, verdict)
    assert CloseSocket(question.socket) in bench.orders
    orders = [order for order in bench.take() if not isinstance(order, CloseSocket)]
    assert [
        (order.socket, bytes(order.data)) for order in orders if isinstance(order, SendDatagram | DeliverDatagram)
    ] == [(end, b"early")]
    assert len(bench.network.flows()) == 1


@pytest.mark.parametrize("kind", list(UdpFiltering))
def test_filtering_stays_what_it_was_without_rules(kind: UdpFiltering) -> None:
    bench = direct(udp_filtering=kind)
    bench.send(datagram())
    socket = bench.take()[0].socket
    for source in (TO, Endpoint(SERVER, 8), Endpoint(OTHER, 7)):
        bench.network.datagram_received(socket, source, b"x", 0, 60, 0, bench.now)
    bench.collect()
    assert len(bench.packets) == 3 - list(UdpFiltering).index(kind)
