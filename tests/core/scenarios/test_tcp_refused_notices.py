"""Each connection that may not open is noticed and counted with its ends, its reason, its name and its rule."""

from __future__ import annotations

import struct
from dataclasses import replace
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, EPERM, EPROTO

import pytest

from sansnet_core import Action, CloseSocket, Dropped, Endpoint, FlowRefused, Limits, LinkConfig, Reason, Refuse, Rule
from sansnet_core.addresses import packed
from sansnet_core.orders import SocketId
from sansnet_core.testing import GATEWAY, OUTSIDER
from sansnet_core.testing.packets import ACK, RST, SYN, Segment
from tests.core.direct import GUEST, Direct
from tests.core.named import LEASE, LEASE6, NAME, PUBLIC, TcpGuest, named, opened

FROM = Endpoint(GUEST, 40000)
ASK = Rule(action=Action.ASK, label="ask")
ALLOW = Rule(action=Action.ALLOW, label="all")


def refused(bench: Direct, destination: str = PUBLIC, *, port: int = 40000) -> FlowRefused:
    """The notice about a connection, whose packet must be counted in the same way."""
    TcpGuest(bench, destination, source_port=port).syn()
    return last(bench)


def last(bench: Direct) -> FlowRefused:
    notice = bench.notices[-1]
    assert isinstance(notice, FlowRefused)
    assert notice.reason is not None
    if notice.reason is not Reason.PROTOCOL_CLOSED:  # the frame itself is kept
        ends = (notice.remote, notice.guest) if notice.inbound else (notice.guest, notice.remote)
        assert bench.network.statistics().last_drops[notice.reason][-1] == Dropped(6, *ends)
    return notice


def notice(
    errno: int,
    reason: Reason,
    destination: str = PUBLIC,
    *,
    name: str | None = None,
    rule: str | None = None,
    port: int = 40000,
    time: float = 1000.0,
) -> FlowRefused:
    return FlowRefused(
        6, Endpoint(GUEST, port), Endpoint(destination, 5432), None, errno, reason, False, time, name, rule
    )


@pytest.mark.parametrize(
    ("rule", "destination", "expected"),
    [
        (Rule(action=Action.REFUSE, label="no"), PUBLIC, notice(EACCES, Reason.REFUSED, rule="no")),
        (Rule(action=Action.REFUSE, errno=EPERM), LEASE, notice(EPERM, Reason.REFUSED, LEASE, name=NAME, rule="?")),
        (Rule(action=Action.DROP, label="no"), PUBLIC, notice(0, Reason.REFUSED, rule="no")),
        (ALLOW, "240.0.0.1", notice(0, Reason.IP_DESTINATION, "240.0.0.1")),
        (ALLOW, "198.18.255.1", notice(0, Reason.OWN_ADDRESS, "198.18.255.1")),
    ],
    ids=["rule", "name", "silent", "destination", "own"],
)
def test_a_refusal_by_the_configuration(rule: Rule, destination: str, expected: FlowRefused) -> None:
    bench, _ = named(rule)
    if expected.rule == "?":
        expected = replace(expected, rule=str(rule))
    assert refused(bench, destination) == expected


@pytest.mark.parametrize("asks", [False, True], ids=["rule", "verdict"])
def test_the_router_answers_each_syn_of_a_refused_connection(asks: bool) -> None:
    bench, _ = named(ASK if asks else Rule(action=Action.REFUSE))
    guest = TcpGuest(bench, PUBLIC)
    guest.syn()
    if asks:
        bench.network.flow_decided(bench.take()[0].socket, Refuse(), bench.now)
        bench.collect()
    guest.syn()
    assert [(packet.source, packet.payload[:2]) for packet in bench.packets] == [(GATEWAY, b"\3\x0d")] * 2
    quoted = bench.packets[0].payload[8 + 20 :]
    assert struct.unpack("!HHIIBBH", quoted[:16]) == (40000, 5432, 1000, 0, 5 << 4, SYN, 0)


@pytest.mark.parametrize(("lease", "error"), [(LEASE, b"\x0c\0"), (LEASE6, b"\4\0")])
def test_an_error_of_the_protocol_points_to_no_field(lease: str, error: bytes) -> None:
    bench, bindings = named(ALLOW)
    bindings.know(NAME, PUBLIC)
    TcpGuest(bench, lease).syn()
    bench.network.stream_failed(opened(bench)[0].socket, EPROTO, None, bench.now)
    bench.collect()
    assert [(packet.payload[:2], packet.payload[4:8]) for packet in bench.packets] == [(error, bytes(4))]


@pytest.mark.parametrize("limits", [Limits(tcp_flows=1), Limits(tcp_pending=1)])
def test_a_limit_of_connections(limits: Limits) -> None:
    bench, _ = named(ALLOW, limits=limits)
    first = TcpGuest(bench, PUBLIC)
    first.syn()
    bench.network.stream_connected(SocketId(1), bench.now)
    bench.collect()
    assert refused(bench, port=40001) == notice(0, Reason.TCP_LIMIT, port=40001)
    assert bench.drops() == {Reason.TCP_LIMIT: 1}
    assert len(bench.network.flows()) == 1


def test_tcp_is_switched_off() -> None:
    bench, _ = named(ALLOW, tcp=False)
    assert refused(bench) == notice(0, Reason.PROTOCOL_CLOSED)


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, RST, SYN | RST])
def test_only_a_syn_is_refused_where_tcp_is_switched_off(flags: int) -> None:
    bench, _ = named(ALLOW, tcp=False)
    bench.send(Segment(GUEST, 40000, packed(PUBLIC), 80, 1, 1, flags).ip())
    assert bench.notices == []
    assert bench.drops() == {Reason.PROTOCOL_CLOSED: 1}


def test_a_segment_with_a_wrong_checksum_is_none_where_tcp_is_switched_off_too() -> None:
    bench, _ = named(ALLOW, tcp=False, link=LinkConfig(mtu=1500, max_frame_size=1514, verify_checksums=True))
    packet = Segment(GUEST, 40000, packed(PUBLIC), 80, 1, 0, SYN).ip()
    bench.send(replace(packet, payload=packet.payload[:16] + b"\0\0" + packet.payload[18:]))
    assert bench.notices == []
    assert bench.drops() == {Reason.TCP_CHECKSUM: 1}


def test_too_many_questions() -> None:
    bench, _ = named(ASK, limits=Limits(undecided_flows=1))
    TcpGuest(bench, PUBLIC).syn()
    assert refused(bench, LEASE, port=40001) == notice(
        0, Reason.UNDECIDED_LIMIT, LEASE, name=NAME, rule="ask", port=40001
    )


def test_too_many_connections_that_wait_for_names() -> None:
    bench, _ = named(ALLOW, limits=Limits(undecided_flows=1))
    TcpGuest(bench).syn()
    assert refused(bench, LEASE, port=40001) == notice(0, Reason.NAME_LIMIT, LEASE, name=NAME, port=40001)


def test_no_verdict_in_time() -> None:
    bench, _ = named(ASK, limits=Limits(decision_time=4))
    TcpGuest(bench, LEASE).syn()
    bench.wait(4.1)
    assert last(bench) == notice(EACCES, Reason.UNDECIDED, LEASE, name=NAME, rule="ask", time=1004.0)


def test_no_address_of_the_name_in_time() -> None:
    bench, bindings = named(ALLOW, limits=Limits(decision_time=4))
    TcpGuest(bench, LEASE).syn()
    assert bindings.asked == [NAME]
    assert [(report.state, report.name) for report in bench.network.flows()] == [("UNDECIDED", NAME)]
    bench.wait(4.1)
    assert last(bench) == notice(EHOSTUNREACH, Reason.NAME_UNRESOLVED, LEASE, name=NAME, time=1004.0)
    assert bindings.pins == {}


def test_a_verdict() -> None:
    bench, _ = named(ASK)
    TcpGuest(bench, LEASE).syn()
    socket = bench.take()[0].socket
    bench.network.flow_decided(socket, Refuse(ECONNREFUSED), bench.now)
    bench.collect()
    assert last(bench) == notice(ECONNREFUSED, Reason.REFUSED, LEASE, name=NAME, rule="ask")
    assert bench.take() == []


@pytest.mark.parametrize(
    ("rule", "errno", "reason"),
    [
        (Rule(action=Action.REFUSE, inbound=True, label="in"), EACCES, Reason.REFUSED),
        (Rule(action=Action.DROP, inbound=True, label="in"), 0, Reason.REFUSED),
        (Rule(action=Action.ASK, inbound=True, label="in"), 0, Reason.UNDECIDED_LIMIT),
    ],
)
def test_an_outsider(rule: Rule, errno: int, reason: Reason) -> None:
    bench, _ = named(rule, limits=Limits(undecided_flows=1))
    if reason is Reason.UNDECIDED_LIMIT:
        assert bench.network.stream_accepted(OUTSIDER, None, 81, bench.now)
    assert bench.network.stream_accepted(OUTSIDER, None, 80, bench.now) is None
    bench.collect()
    expected = FlowRefused(6, Endpoint(GUEST, 80), OUTSIDER, OUTSIDER, errno, reason, True, 1000.0, None, "in")
    assert last(bench) == expected


def test_an_outsider_without_a_verdict_in_time() -> None:
    rule = Rule(action=Action.ASK, inbound=True, label="in")
    bench, _ = named(rule, limits=Limits(decision_time=4))
    socket = bench.network.stream_accepted(OUTSIDER, None, 80, bench.now)
    assert socket is not None
    bench.collect()
    bench.take()
    bench.wait(4.1)
    reason = Reason.UNDECIDED
    expected = FlowRefused(6, Endpoint(GUEST, 80), OUTSIDER, OUTSIDER, EACCES, reason, True, 1004.0, None, "in")
    assert last(bench) == expected
    assert bench.take() == [CloseSocket(socket, True, EACCES)]


@pytest.mark.parametrize("address", [None, GUEST])
def test_an_outsider_where_tcp_is_switched_off(address: bytes | None) -> None:
    bench, _ = named(ALLOW, tcp=False)
    assert bench.network.stream_accepted(OUTSIDER, address, 80, bench.now) is None
    bench.collect()
    guest = Endpoint(address or bytes(4), 80)
    assert bench.notices == [
        FlowRefused(6, guest, OUTSIDER, OUTSIDER, 0, Reason.PROTOCOL_CLOSED, True, bench.now, None, None)
    ]
    assert bench.network.statistics().last_drops == {Reason.PROTOCOL_CLOSED: (Dropped(6, OUTSIDER, guest),)}
