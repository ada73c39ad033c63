"""Flows through proxies: no other socket of the host, names passed on, errors for the guest, associations."""

from __future__ import annotations

import copy
import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import (
    Action,
    Allow,
    CloseSocket,
    DecideFlow,
    Endpoint,
    FlowClosed,
    FlowOpened,
    FlowRefused,
    Limits,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Reason,
    Rule,
    SendDatagram,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_core.addresses import packed
from sansnet_core.config import ResolverConfig
from sansnet_core.policy import Check, ProxyConfig, ProxyKind
from sansnet_core.records import replace
from sansnet_core.testing import make_config, packets
from sansnet_core.testing.packets import Ip, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

NAME = "db.example.org"
LEASE, LEASE6 = "198.18.0.1", "fd73:616e:736e:6574::1"
PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07::1"
SERVER = Endpoint("192.0.2.200", 1080)
SOCKS = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=SERVER)
HTTP = ProxyConfig(name="office", kind=ProxyKind.HTTP, server=SERVER, user="me", password="secret")
RULE = Rule(action=Action.ALLOW, via="office", label="all")
RELAY = Endpoint("192.0.2.200", 4000)
ASSOCIATED = b"\5\0\0\1\xc0\0\2\xc8\x0f\xa0"


def network(proxy: ProxyConfig = SOCKS, rule: Rule = RULE, **fields: Any) -> tuple[Direct, FakeBindings]:
    """A network whose rules send all through a proxy, and the bindings of one name's own addresses."""
    given: dict[str, Any] = {"rules": (rule,), "proxies": (proxy,), "default_action": Action.REFUSE} | fields
    bench = Direct(replace(make_config(), **given))
    bindings = FakeBindings({LEASE: NAME, LEASE6: NAME})
    bindings.attach(bench)
    return bench, bindings


def datagram(destination: str = PUBLIC, data: bytes = b"hello", *, port: int = 7, source_port: int = 5000) -> Ip:
    address = packed(destination)
    return udp(GUEST if len(address) == 4 else GUEST6, source_port, address, port, data)


def segment(destination: str, port: int = 80, *, flags: int = packets.SYN, sequence: int = 100, **fields: Any) -> Ip:
    address = packed(destination)
    guest = GUEST if len(address) == 4 else GUEST6
    return packets.Segment(guest, 5000, address, port, sequence=sequence, flags=flags, **fields).ip()


def errors(bench: Direct) -> list[tuple[int, int]]:
    """Type and code of the ICMP errors since the last call."""
    read, bench.packets = bench.packets, []
    assert {packet.protocol for packet in read} <= {packets.ICMP, packets.ICMPV6}
    return [(packet.payload[0], packet.payload[1]) for packet in read]


# UDP


def begin(bench: Direct) -> SocketId:
    """The stream that an association begins with, to the proxy and to nothing else."""
    order = bench.one(OpenStream)
    assert order.remote == SERVER
    bench.network.stream_connected(order.socket, bench.now)
    bench.collect()
    assert bench.one(SendStream) == SendStream(order.socket, b"\5\1\0")
    return order.socket


def answer(bench: Direct, socket: SocketId, data: bytes) -> None:
    """The proxy sends bytes, which are read as the driver reads them."""
    while data and (budget := bench.network.receive_budget(socket)):
        bench.network.stream_received(socket, data[:budget], bench.now)
        bench.collect()
        data = data[budget:]


def associate(bench: Direct) -> tuple[SocketId, OpenDatagram, list[SendDatagram]]:
    """Lead the dialogue to its end: the stream, the socket for datagrams, and the datagrams that waited."""
    socket = begin(bench)
    answer(bench, socket, b"\5\0")
    assert bench.one(SendStream).data == b"\5\3\0\1" + bytes(6)
    answer(bench, socket, ASSOCIATED)
    opened, *rest = bench.take()
    assert isinstance(opened, OpenDatagram)
    waited = [order for order in rest if isinstance(order, SendDatagram)]
    assert len(waited) == len(rest)
    return socket, opened, waited


def received(bench: Direct) -> list[tuple[str, int, bytes]]:
    """Source and payload of the guest's datagrams since the last call."""
    read, bench.packets = bench.packets, []
    return [
        (Endpoint(packet.source, 1).address.hex(), int.from_bytes(packet.payload[:2], "big"), packet.payload[8:])
        for packet in read
    ]


@pytest.mark.parametrize(
    ("told", "used"),
    [
        *((address, SERVER.address) for address in ("127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1")),
        ("192.0.2.99", SERVER.address),
        ("10.0.0.5", packed("10.0.0.5")),
        (PUBLIC, packed(PUBLIC)),
        (PUBLIC6, packed(PUBLIC6)),
    ],
)
def test_a_relay_is_not_where_the_proxy_has_no_business(told: str, used: bytes) -> None:
    bench, _ = network(host_addresses=("192.0.2.99",))
    bench.send(datagram())
    socket = begin(bench)
    answer(bench, socket, b"\5\0")
    bench.take()
    address = packed(told)
    answer(bench, socket, b"\5\0\0" + bytes([1 if len(address) == 4 else 4]) + address + b"\x0f\xa0")
    (sent,) = (order for order in bench.take() if isinstance(order, SendDatagram))
    assert sent.remote == Endpoint(used, 4000)


@pytest.mark.parametrize(("address", "kind"), [(PUBLIC, 1), (PUBLIC6, 4)])
def test_datagrams_go_through_an_association(address: str, kind: int) -> None:
    bench, _ = network(notices=True)
    bench.send(datagram(address, b"one"), datagram(address, b"two"))
    _, opened, waited = associate(bench)
    head = b"\0\0\0" + bytes([kind]) + packed(address) + b"\0\x07"
    assert [(order.socket, order.remote, order.data) for order in waited] == [
        (opened.socket, RELAY, head + b"one"),
        (opened.socket, RELAY, head + b"two"),
    ]
    bench.send(datagram(address, b"three"))
    assert bench.one(SendDatagram).data == head + b"three"
    bench.network.datagram_received(opened.socket, RELAY, head + b"answer", 0, 60, 0, bench.now)
    bench.collect()
    assert received(bench) == [(packed(address).hex(), 7, b"answer")]
    assert [notice.host for notice in bench.notices if isinstance(notice, FlowOpened)] == [SERVER]


def test_bytes_of_a_proxy_behind_its_dialogue_cost_few_reads() -> None:
    """They have no meaning, and a proxy may send many."""
    bench, _ = network()
    bench.send(datagram())
    socket, _, _ = associate(bench)
    left, reads = 1 << 20, 0
    while left:
        size = min(bench.network.receive_budget(socket), left)
        bench.network.stream_received(socket, bytes(size), bench.now)
        left, reads = left - size, reads + 1
    assert reads < 100
    assert bench.take() == []


def test_names_are_passed_on_and_nothing_is_asked() -> None:
    bench, bindings = network()
    bench.send(datagram(LEASE), datagram(LEASE6, source_port=5001))
    for source, remote in ((5000, LEASE), (5001, LEASE6)):
        order = next(order for order in bench.orders if isinstance(order, OpenStream))
        assert order.destination == Endpoint(remote, 7)
        assert source in (5000, 5001)
        bench.orders.remove(order)
        bench.network.stream_connected(order.socket, bench.now)
        answer(bench, order.socket, b"\5\0" + ASSOCIATED)
        bench.collect()
    head = b"\0\0\0\3\x0edb.example.org\0\x07"
    assert [order.data for order in bench.take() if isinstance(order, SendDatagram)] == [head + b"hello"] * 2
    assert bindings.asked == []


def test_answers_for_a_name_come_from_any_address() -> None:
    """The relay knows the address that the name has, and the guest does not."""
    bench, _ = network()
    bench.send(datagram(LEASE), datagram(LEASE, port=8))
    _, opened, _ = associate(bench)
    for port in (8, 7, 9):
        data = b"\0\0\0\1" + packed(PUBLIC) + port.to_bytes(2, "big") + b"answer"
        bench.network.datagram_received(opened.socket, RELAY, data, 0, 60, 0, bench.now)
    bench.collect()
    assert received(bench) == [(packed(LEASE).hex(), 8, b"answer"), (packed(LEASE).hex(), 7, b"answer")]
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_one_association_serves_all_flows_of_an_endpoint() -> None:
    bench, _ = network()
    bench.send(datagram(), datagram(port=8), datagram(PUBLIC6.replace("::1", "::2")))
    associate_orders = [order for order in bench.orders if isinstance(order, OpenStream)]
    assert len(associate_orders) == 2, "one for each endpoint of the guest"
    bench.send(datagram(LEASE))
    assert isinstance(bench.orders[-1], OpenStream), "another one for a name"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\1\1" + packed(PUBLIC) + b"\0\7fragment",
        b"\0\0\0\1" + packed("192.0.2.9") + b"\0\7other",
        b"\0\0\0\1" + packed(PUBLIC) + b"\0\x08port",
        b"\0\0\0\3\1x\0\7name",
    ],
)
def test_datagrams_that_the_guest_did_not_ask_for(data: bytes) -> None:
    bench, _ = network()
    bench.send(datagram())
    _, opened, _ = associate(bench)
    bench.network.datagram_received(opened.socket, RELAY, data, 0, 60, 0, bench.now)
    good = b"\0\0\0\1" + packed(PUBLIC) + b"\0\7good"
    for source in (Endpoint("192.0.2.200", 4001), Endpoint("192.0.2.9", 4000)):
        bench.network.datagram_received(opened.socket, source, good, 0, 60, 0, bench.now)
    bench.collect()
    assert bench.packets == []
    assert bench.drops() == {Reason.HOST_SOURCE: 3}


def test_runs_of_datagrams() -> None:
    bench, _ = network()
    bench.send(datagram())
    _, opened, _ = associate(bench)
    one = b"\0\0\0\1" + packed(PUBLIC) + b"\0\7a"
    bench.network.datagram_received(opened.socket, RELAY, one * 3, len(one), 60, 0, bench.now)
    bench.collect()
    assert [data for *_, data in received(bench)] == [b"a"] * 3


def test_what_waits_is_bounded() -> None:
    bench, _ = network()
    bench.send(*(datagram(data=bytes([number])) for number in range(20)))
    _, _, waited = associate(bench)
    assert [order.data[-1] for order in waited] == list(range(8))
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 12}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([b"\5\xff"], (3, 13)),
        ([b"\5\0", b"\5\5"], (3, 3)),
        ([b"\5\0", b"\5\3"], (3, 6)),
        ([b"\5\0", b"\5\7"], (3, 13)),
        ([b"\5\0", b"\5\0\0\1" + bytes(6)], (12, 0)),
        ([b"HTTP/1.1 400"], (12, 0)),
    ],
)
def test_a_proxy_that_refuses(answers: list[bytes], expected: tuple[int, int]) -> None:
    """The guest gets an error for each datagram, and the proxy is asked again after a second."""
    bench, _ = network(notices=True)
    bench.send(datagram(), datagram())
    socket = begin(bench)
    for data in answers:
        answer(bench, socket, data)
    assert CloseSocket(socket) in bench.take()
    assert errors(bench) == [expected] * 2
    assert len([notice for notice in bench.notices if isinstance(notice, FlowRefused)]) == 1
    bench.send(datagram())
    assert errors(bench) == [expected]
    assert bench.take() == []
    bench.wait(1.1)
    bench.send(datagram())
    begin(bench)


@pytest.mark.parametrize("phase", ["connect", "dialogue", "relay"])
@pytest.mark.parametrize("how", ["failed", "ended"])
def test_a_proxy_that_goes_away(phase: str, how: str) -> None:
    bench, _ = network()
    bench.send(datagram())
    expected: list[CloseSocket] = []
    if phase == "connect":
        socket = bench.one(OpenStream).socket
    elif phase == "dialogue":
        socket = begin(bench)
    else:
        socket, opened, _ = associate(bench)
        expected = [CloseSocket(opened.socket)]
    if how == "failed":
        bench.network.stream_failed(socket, errno.ECONNREFUSED, None, bench.now)
    else:
        bench.network.stream_ended(socket, bench.now)
        expected = [CloseSocket(socket), *expected]
    bench.collect()
    assert bench.take() == expected
    assert errors(bench) == ([] if phase == "relay" else [(3, 10)])
    bench.send(datagram())
    assert errors(bench) == [(3, 10)]
    bench.wait(1.1)
    bench.send(datagram())
    begin(bench)


def test_a_proxy_that_does_not_answer() -> None:
    bench, _ = network(limits=Limits(decision_time=5))
    bench.send(datagram())
    socket = begin(bench)
    bench.wait(5.1)
    assert bench.take() == [CloseSocket(socket)]
    bench.wait(2)
    bench.send(datagram())
    begin(bench)


def test_an_association_ends_with_its_last_flow() -> None:
    bench, _ = network(notices=True)
    bench.send(datagram(), datagram(port=8))
    socket, opened, _ = associate(bench)
    bench.wait(bench.config.limits.udp_idle_once + 2)
    assert bench.take() == [CloseSocket(socket), CloseSocket(opened.socket)]
    assert len([notice for notice in bench.notices if isinstance(notice, FlowClosed)]) == 2
    assert bench.network.flows() == []
    bench.network.stream_received(socket, b"x", bench.now)  # the driver may be late
    bench.network.stream_ended(socket, bench.now)
    bench.network.datagram_received(opened.socket, RELAY, b"x", 0, 60, 0, bench.now)


def test_a_copy_of_a_network_with_an_association() -> None:
    bench, _ = network()
    bench.send(datagram())
    begin(bench)
    again = copy.copy(bench)
    again.network = copy.deepcopy(bench.network)
    again.orders, again.packets = [], []
    socket = SocketId(1)
    for each in (again, bench):
        each.orders = []
        answer(each, socket, b"\5\0" + ASSOCIATED)
        assert [type(order) for order in each.take()] == [SendStream, OpenDatagram, SendDatagram]


# what a proxy cannot carry


def test_http_has_no_datagrams() -> None:
    bench, _ = network(HTTP, notices=True)
    bench.send(datagram(), datagram(LEASE))
    assert bench.take() == []
    assert errors(bench) == [(3, 13)] * 2
    assert bench.drops() == {Reason.PROXY: 2}
    assert [notice.reason for notice in bench.notices if isinstance(notice, FlowRefused)] == [Reason.PROXY] * 2


@pytest.mark.parametrize("address", [PUBLIC, PUBLIC6, LEASE, LEASE6])
def test_pings_go_through_no_proxy(address: str) -> None:
    bench, bindings = network()
    target = packed(address)
    guest = GUEST if len(target) == 4 else GUEST6
    bench.send(packets.echo_request(guest, target, 1, 1, b"data"))
    assert bench.take() == []
    assert bench.drops() == {Reason.PROXY: 1}
    assert bindings.asked == []


def test_the_hosts_loopback_is_behind_no_proxy() -> None:
    """127.0.0.1 would be the proxy's own."""
    bench, _ = network(map_host_loopback=("10.0.2.2",))
    bench.send(datagram("10.0.2.2"))
    bench.send(segment("10.0.2.2"))
    assert bench.take() == []
    assert bench.drops()[Reason.PROXY] >= 1


def test_groups_are_behind_no_proxy() -> None:
    bench, _ = network()
    bench.send(datagram("239.1.2.3"))
    assert bench.take() == []


# rules


def test_an_undecided_flow_goes_through_its_proxy_once_it_is_allowed() -> None:
    bench, bindings = network(rule=Rule(action=Action.ASK, via="office"))
    bench.send(datagram(LEASE))
    bench.network.flow_decided(bench.one(DecideFlow).socket, Allow(), bench.now)
    bench.collect()
    assert bench.one(OpenStream).remote == SERVER
    bench.send(segment(LEASE))
    bench.network.flow_decided(bench.one(DecideFlow).socket, Allow(), bench.now)
    bench.collect()
    assert bench.one(OpenStream).remote == SERVER
    assert bindings.asked == []


def test_rules_that_name_another_way_end_the_flows() -> None:
    bench, _ = network()
    bench.send(datagram(), segment(PUBLIC))
    opened = [order.socket for order in bench.take() if isinstance(order, OpenStream)]
    bench.network.reconfigure(replace(bench.config, rules=(Rule(action=Action.ALLOW),)), bench.now)
    bench.collect()
    assert sorted(order.socket for order in bench.take() if isinstance(order, CloseSocket)) == sorted(opened)
    assert bench.network.flows() == []


def test_the_same_rules_keep_the_flows() -> None:
    bench, _ = network()
    bench.send(datagram(LEASE), segment(PUBLIC))
    bench.take()
    bench.network.reconfigure(replace(bench.config, rules=(RULE, Rule(action=Action.REFUSE))), bench.now)
    bench.collect()
    assert bench.take() == []
    assert len(bench.network.flows()) == 2


def test_proxies_may_come_later() -> None:
    bench, _ = network(proxies=(), rule=Rule(action=Action.REFUSE))
    bench.network.reconfigure(replace(bench.config, rules=(RULE,), proxies=(SOCKS,)), bench.now)
    bench.send(datagram())
    associate(bench)


def test_the_facts_of_an_association_are_its_own_after_a_resolver_has_come() -> None:
    bench, _ = network()
    bench.send(datagram())
    socket, opened, _ = associate(bench)
    resolver = ResolverConfig(servers=(Endpoint("192.0.2.53", 53),))
    bench.network.reconfigure(replace(bench.config, resolver=resolver), bench.now)
    bench.network.datagram_received(
        opened.socket, RELAY, b"\0\0\0\1" + packed(PUBLIC) + b"\0\x07answer", 0, 60, 0, bench.now
    )
    bench.collect()
    assert received(bench) == [(packed(PUBLIC).hex(), 7, b"answer")]
    bench.network.stream_ended(socket, bench.now)
    bench.collect()
    assert bench.take() == [CloseSocket(socket), CloseSocket(opened.socket)]
    bench.send(datagram())
    assert errors(bench) == [(3, 10)]


# TCP


def connection(
    proxy: ProxyConfig, destination: str = LEASE, rule: Rule = RULE, limit: float = 2
) -> tuple[Direct, FakeBindings, OpenStream]:
    bench, bindings = network(proxy, rule, notices=True, limits=Limits(decision_time=limit))
    bench.send(segment(destination, 443))
    order = bench.one(OpenStream)
    assert order.remote == SERVER
    bench.network.stream_connected(order.socket, bench.now)
    bench.collect()
    return bench, bindings, order


def flags(bench: Direct) -> list[int]:
    """Flags of the guest's segments since the last call."""
    read, bench.packets = bench.packets, []
    return [packet.payload[13] for packet in read if packet.protocol == packets.TCP]


@pytest.mark.parametrize(
    ("destination", "packed_name"),
    [
        (LEASE, b"\3\x0edb.example.org"),
        (LEASE6, b"\3\x0edb.example.org"),
        (PUBLIC, b"\1" + packed(PUBLIC)),
        (PUBLIC6, b"\4" + packed(PUBLIC6)),
    ],
)
def test_a_connection_by_socks(destination: str, packed_name: bytes) -> None:
    bench, bindings, order = connection(SOCKS, destination)
    assert bench.one(SendStream).data == b"\5\1\0"
    answer(bench, order.socket, b"\5\0")
    assert bench.one(SendStream).data == b"\5\1\0" + packed_name + b"\1\xbb"
    assert flags(bench) == []
    reply = b"\5\0\0\1" + bytes(6)
    for index in range(len(reply)):
        assert bench.network.receive_budget(order.socket) > 0
        assert bench.network.receive_budget(order.socket) <= len(reply) - index
        bench.network.stream_received(order.socket, reply[index : index + 1], bench.now)
        bench.collect()
    assert flags(bench) == [packets.SYN | packets.ACK]
    assert bindings.asked == []


def test_a_connection_by_connect() -> None:
    bench, bindings, order = connection(HTTP)
    request = bench.one(SendStream).data
    assert bytes(request).startswith(b"CONNECT db.example.org:443 HTTP/1.1\r\nHost: db.example.org:443\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in request
    answer(bench, order.socket, b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
    assert flags(bench) == [packets.SYN | packets.ACK]
    assert bindings.asked == []
    (opened,) = [notice for notice in bench.notices if isinstance(notice, FlowOpened)]
    assert (opened.name, opened.host) == (NAME, SERVER)


@pytest.mark.parametrize(
    ("proxy", "reply", "expected"),
    [
        (SOCKS, b"\5\0\5\5", "reset"),
        (SOCKS, b"\5\0\5\4", (3, 1)),
        (SOCKS, b"\5\0\5\2", (3, 13)),
        (SOCKS, b"\5\xff", (3, 13)),
        (HTTP, b"HTTP/1.1 403 Forbidden\r\n\r\n", (3, 13)),
        (HTTP, b"HTTP/1.1 503 x\r\n\r\n", "reset"),
        (HTTP, b"HTTP/1.1 502 x\r\n\r\n", (3, 1)),
    ],
)
def test_a_connection_that_the_proxy_refuses(proxy: ProxyConfig, reply: bytes, expected: object) -> None:
    bench, _, order = connection(proxy)
    answer(bench, order.socket, reply)
    assert [one for one in bench.take() if not isinstance(one, SendStream)] == [
        CloseSocket(order.socket, True, order_errno) for order_errno in [bench_errno(bench)]
    ]
    if expected == "reset":
        assert flags(bench) == [packets.RST | packets.ACK]
    else:
        assert errors(bench) == [expected]
    bench.wait(1)
    assert [one for one in bench.take() if isinstance(one, OpenStream)] == []


def bench_errno(bench: Direct) -> int:
    """The errno of the only refusal."""
    (refused,) = [notice for notice in bench.notices if isinstance(notice, FlowRefused)]
    return refused.errno


@pytest.mark.parametrize("how", ["ended", "failed", "silent"])
def test_a_proxy_that_does_not_complete_the_dialogue(how: str) -> None:
    bench, _, order = connection(SOCKS)
    if how == "ended":
        bench.network.stream_ended(order.socket, bench.now)
    elif how == "failed":
        bench.network.stream_failed(order.socket, errno.ECONNRESET, None, bench.now)
    else:
        bench.wait(1.9)
        assert len(bench.network.flows()) == 1
        bench.wait(0.2)
    bench.collect()
    assert bench.network.flows() == []
    if how == "silent":
        assert flags(bench) == []
    else:
        assert flags(bench) == [packets.RST | packets.ACK]
    assert [one for one in bench.take() if isinstance(one, OpenStream)] == []


def test_a_guest_that_gives_up_at_the_time_limit() -> None:
    """Both end the connection at the same time."""
    bench, _, order = connection(SOCKS, limit=5)
    bench.wait(5)
    assert [one for one in bench.take() if isinstance(one, CloseSocket)] == [
        CloseSocket(order.socket, True, errno.ETIMEDOUT)
    ]


@pytest.mark.parametrize("name", [NAME, "other.example"])
def test_a_check_holds_through_a_proxy(name: str) -> None:
    """The bytes behind the dialogue are held back until the server name is read."""
    rule = Rule(action=Action.ALLOW, names=(NAME,), via="office", check=Check.HTTP)
    bench, _, order = connection(SOCKS, rule=rule)
    bench.take()
    answer(bench, order.socket, b"\5\0")
    answer(bench, order.socket, b"\5\0\0\1" + bytes(6))
    (accepted,) = bench.packets
    bench.packets = []
    bench.take()
    sequence = int.from_bytes(accepted.payload[4:8], "big") + 1
    request = f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    for start, data in ((101, request[:20]), (121, request[20:])):
        bench.send(segment(LEASE, 443, flags=packets.ACK, sequence=start, acknowledgment=sequence, payload=data))
    orders = bench.take()
    if name == NAME:
        assert b"".join(bytes(one.data) for one in orders if isinstance(one, SendStream)) == request
        return
    assert not [one for one in orders if isinstance(one, SendStream | ShutdownStream)]
    assert next(one for one in orders if isinstance(one, CloseSocket)).abort
    assert bench.drops() == {Reason.NAME_REFUSED: 1}


DESTINATIONS = [LEASE, LEASE6, PUBLIC, PUBLIC6, "10.0.2.2", "10.0.2.3", "127.0.0.1", "::1", "224.0.0.1", "198.18.255.1"]
PORTS = [7, 53, 80, 443, 853]


@given(
    st.sampled_from([SOCKS, HTTP]),
    st.lists(
        st.one_of(
            st.tuples(st.just("udp"), st.sampled_from(DESTINATIONS), st.sampled_from(PORTS)),
            st.tuples(st.just("tcp"), st.sampled_from(DESTINATIONS), st.sampled_from(PORTS)),
            st.tuples(st.sampled_from(["connected", "failed", "ended", "answer", "wait"]), st.binary(max_size=12)),
        ),
        max_size=20,
    ),
)
def test_no_order_addresses_anything_but_the_proxy(proxy: ProxyConfig, steps: list[tuple[Any, ...]]) -> None:
    """With any packets of the guest and any answers of the proxy, also after failures."""
    bench, bindings = network(proxy, map_host_loopback=("10.0.2.2",), dns_forward=(("10.0.2.3", ("192.0.2.53", 53)),))
    streams: list[SocketId] = []
    for kind, *rest in steps:
        if kind == "udp":
            bench.send(datagram(rest[0], port=rest[1]))
        elif kind == "tcp":
            bench.send(segment(rest[0], rest[1]))
        elif kind == "wait":
            bench.wait(1.5)
        elif streams:
            socket = streams[-1]
            if kind == "connected":
                bench.network.stream_connected(socket, bench.now)
            elif kind == "failed":
                bench.network.stream_failed(socket, errno.ECONNREFUSED, None, bench.now)
            elif kind == "ended":
                bench.network.stream_ended(socket, bench.now)
            else:
                answer(bench, socket, b"\5\0" + ASSOCIATED[:-6] + (rest[0] or ASSOCIATED[-6:]))
            bench.collect()
        for order in bench.take():
            if isinstance(order, OpenStream):
                assert order.remote == SERVER
                streams.append(order.socket)
            assert not isinstance(order, OpenEcho)
            if isinstance(order, SendDatagram):
                assert order.data[:3] == bytes(3), "a datagram for the relay"
    assert bindings.asked == []
