"""Associations with SOCKS5 proxies: which datagrams wait, their bounds, and which answers belong to which flow."""

from __future__ import annotations

import dataclasses
from errno import EACCES, ECONNREFUSED, EMSGSIZE
from typing import Any

import pytest

from sansnet_core import (
    Action,
    CloseSocket,
    Dropped,
    Endpoint,
    ExtendedError,
    FlowOpened,
    FlowRefused,
    Limits,
    LinkConfig,
    OpenDatagram,
    OpenStream,
    Reason,
    Rule,
    SendDatagram,
    SendStream,
    SocketId,
)
from sansnet_core.addresses import packed
from sansnet_core.orders import ORIGIN_ICMP
from sansnet_core.policy import ProxyConfig
from sansnet_core.proto.udp import associate as associations
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY
from sansnet_core.testing.packets import GSO_UDP_L4
from tests.core.direct import GUEST, Direct
from tests.core.scenarios.test_proxies import (
    LEASE,
    NAME,
    PUBLIC,
    RELAY,
    SOCKS,
    answer,
    associate,
    begin,
    datagram,
    errors,
    network,
    received,
)

FROM, TO = Endpoint(GUEST, 5000), Endpoint(PUBLIC, 7)
HEAD = b"\0\0\0\1" + packed(PUBLIC) + b"\0\x07"
OFFLOADED = LinkConfig(mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, uso=True)


def run(bench: Direct, data: bytes, segment_size: int) -> None:
    """The guest sends datagrams in one frame."""
    head = bytes([1, GSO_UDP_L4]) + b"".join(n.to_bytes(2, "little") for n in (42, segment_size, 34, 6, 0))
    bench.send(datagram(data=data), head=head)


def sent(bench: Direct) -> list[SendDatagram]:
    return [order for order in bench.take() if isinstance(order, SendDatagram)]


def test_each_datagram_goes_to_the_relay_with_its_class_of_traffic() -> None:
    bench, _ = network()
    bench.send(dataclasses.replace(datagram(data=b"early"), tos=0xB8))
    _, opened, waited = associate(bench)
    bench.send(dataclasses.replace(datagram(data=b""), tos=0xB8))
    assert [*waited, *sent(bench)] == [
        SendDatagram(opened.socket, RELAY, HEAD + data, 0, associations.TTL, 0xB8, True) for data in (b"early", b"")
    ]


@pytest.mark.parametrize("waits", [True, False])
def test_a_run_of_the_guest_goes_to_the_relay_one_by_one(waits: bool) -> None:
    bench, _ = network(link=OFFLOADED)
    if waits:
        run(bench, b"aaabbbc", 3)
        _, _, orders = associate(bench)
    else:
        bench.send(datagram())
        associate(bench)
        run(bench, b"aaabbbc", 3)
        orders = sent(bench)
    assert [order.data for order in orders] == [HEAD + b"aaa", HEAD + b"bbb", HEAD + b"c"]


def test_a_datagram_that_does_not_fit_behind_the_proxys_header_is_refused() -> None:
    bench, _ = network(link=OFFLOADED, notices=True)
    bench.send(datagram())
    associate(bench)
    fits = associations.MAX_DATAGRAM - len(HEAD)
    for size in (fits, fits + 1):
        bench.send(datagram(data=bytes(size)))
    assert [len(order.data) for order in sent(bench)] == [associations.MAX_DATAGRAM]
    assert [notice.errno for notice in bench.notices if isinstance(notice, FlowRefused)] == [EMSGSIZE]
    assert bench.drops() == {Reason.HOST_SEND: 1}
    (packet,) = bench.packets
    assert (packet.payload[:2], packet.payload[4:8]) == (b"\3\4", bytes(4))  # the MTU is not known


def test_the_bytes_that_wait_for_one_proxy_are_bounded() -> None:
    bench, _ = network(link=OFFLOADED)
    half = associations.MAX_BYTES // 2
    for size in (half, half - 1, 2, 1):
        bench.send(datagram(data=bytes(size)))
    _, _, waited = associate(bench)
    assert [len(order.data) - len(HEAD) for order in waited] == [half, half - 1, 1]
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 1}


def test_the_bytes_that_wait_for_all_proxies_are_bounded_and_counted_down() -> None:
    bench, _ = network()
    inside: Any = bench.network
    others = associations.MAX_TOTAL - 100
    inside._udp._host.associations._waiting += others
    for _ in range(3):
        bench.send(*(datagram(data=bytes(50), source_port=port) for port in (5000, 5001, 5002)))
        for order in [order for order in bench.take() if isinstance(order, OpenStream)]:
            bench.network.stream_connected(order.socket, bench.now)
            answer(bench, order.socket, b"\5\0" + b"\5\0\0\1\xc0\0\2\xc8\x0f\xa0")
        bench.collect()
        assert len(sent(bench)) == 2
        bench.wait(200)
        bench.take()
    assert bench.drops() == {Reason.UNDECIDED_LIMIT: 3}
    assert inside._udp._host.associations._waiting == others


def test_a_proxy_is_told_the_user_and_the_password() -> None:
    bench, _ = network(ProxyConfig(name="office", kind=SOCKS.kind, server=SOCKS.server, user="me", password="secret"))
    bench.send(datagram())
    order = bench.one(OpenStream)
    bench.network.stream_connected(order.socket, bench.now)
    bench.collect()
    bench.take()
    answer(bench, order.socket, b"\5\2")
    assert bench.one(SendStream).data == b"\1\2me\6secret"


def test_a_flow_that_has_ended_gets_no_answers_through_the_association_of_others() -> None:
    bench, _ = network()
    bench.send(datagram(), datagram(port=8))
    _, opened, _ = associate(bench)
    bench.wait(20)
    bench.send(datagram(port=8))
    bench.wait(15)
    assert [report.remote.port for report in bench.network.flows()] == [8]
    bench.network.datagram_received(opened.socket, RELAY, HEAD + b"late", 0, 60, 0, bench.now)
    bench.collect()
    assert received(bench) == []
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_a_new_flow_to_a_port_of_a_name_gets_the_answers_also_after_the_old_one_has_ended() -> None:
    """Two addresses that stand for one name are two flows, and the relay's answers do not tell them apart."""
    bench, bindings = network()
    other = "198.18.0.9"
    bindings.rename(other, bindings.names(packed(LEASE))[0])
    bindings._leases |= {packed(other)}
    bench.send(datagram(LEASE))
    _, opened, _ = associate(bench)
    bench.wait(20)
    bench.send(datagram(other))
    bench.wait(15)
    assert [report.remote.address for report in bench.network.flows()] == [packed(other)]
    bench.network.datagram_received(opened.socket, RELAY, HEAD + b"answer", 0, 60, 0, bench.now)
    bench.collect()
    assert [data for *_, data in received(bench)] == [b"answer"]


@pytest.mark.parametrize("outbound", [None, packed("203.0.113.9")])
def test_the_sockets_of_an_association(outbound: bytes | None) -> None:
    """They are bound to the address from which all sockets are to leave."""
    bench, _ = network(outbound4=outbound, notices=True)
    bench.send(datagram())
    order = bench.orders[0]
    assert order == OpenStream(SocketId(1), SOCKS.server, outbound, FROM, TO)
    _, opened, _ = associate(bench)
    assert opened == OpenDatagram(SocketId(2), Endpoint(outbound or bytes(4), 0), FROM)
    assert bench.network.receive_budget(opened.socket) == 0
    assert bench.notices == [FlowOpened(SocketId(2), 17, FROM, TO, SOCKS.server, False, bench.now, rule="all")]
    bench.network.datagram_received(opened.socket, RELAY, HEAD + b"answer", 0, 9, 7, bench.now)
    bench.collect()
    assert [(packet.ttl, packet.tos) for packet in bench.packets] == [(associations.TTL, 0)]


@pytest.mark.parametrize("destination", [PUBLIC, LEASE])
def test_a_refusal_is_noticed_once_and_counted_each_time(destination: str) -> None:
    bench, _ = network(notices=True)
    bench.send(datagram(destination), datagram(destination))
    answer(bench, begin(bench), b"\5\xff")
    assert {packet.source for packet in bench.packets} == {GATEWAY}
    to = Endpoint(destination, 7)
    name = NAME if destination == LEASE else None
    assert bench.notices[1:] == [
        FlowRefused(17, FROM, to, SOCKS.server, EACCES, None, False, bench.now, name, "all"),
    ]
    assert bench.drops() == {Reason.HOST_SEND: 2}
    assert bench.network.statistics().last_drops[Reason.HOST_SEND] == (Dropped(17, FROM, to),)


def test_a_failure_is_remembered_for_a_second() -> None:
    bench, _ = network()
    bench.send(datagram())
    answer(bench, begin(bench), b"\5\xff")
    bench.take()
    bench.wait(associations.FAILED_TIME - 0.1)
    bench.send(datagram())
    assert bench.take() == []
    assert len(bench.network.flows()) == 1
    bench.wait(0.2)
    assert bench.network.flows() == []


def test_a_proxy_has_the_time_of_a_decision_to_answer() -> None:
    bench, _ = network(limits=Limits(decision_time=5))
    bench.send(datagram())
    begin(bench)
    bench.wait(4.9)
    assert (bench.take(), bench.packets) == ([], [])
    bench.wait(0.2)
    assert len(bench.take()) == 1
    assert errors(bench) == []  # the time is over, as where nothing answers


def test_flows_through_a_proxy_have_the_limit_of_all_flows() -> None:
    bench, _ = network(limits=Limits(udp_flows=1))
    bench.send(datagram(), datagram(port=8))
    assert [report.remote.port for report in bench.network.flows()] == [8]


def test_what_the_relay_did_not_send_is_counted_with_its_source() -> None:
    bench, _ = network()
    bench.send(datagram())
    _, opened, _ = associate(bench)
    stranger = Endpoint("192.0.2.9", 4000)
    bench.network.datagram_received(opened.socket, stranger, HEAD + b"x", 0, 60, 0, bench.now)
    assert bench.network.statistics().last_drops[Reason.HOST_SOURCE] == (Dropped(17, stranger, stranger),)


def test_what_waits_in_vain_is_counted_with_its_ends() -> None:
    bench, _ = network()
    bench.send(*[datagram()] * (associations.MAX_PACKETS + 1))
    assert bench.network.statistics().last_drops[Reason.UNDECIDED_LIMIT] == (Dropped(17, FROM, TO),)


def test_a_flow_to_a_name_server_through_a_proxy_is_not_outdated_by_another_configuration() -> None:
    bench, _ = network()
    bench.send(datagram(port=53))
    associate(bench)
    bench.network.reconfigure(replace(bench.config, dns_servers=("192.0.2.53",)), bench.now)
    bench.send(datagram(port=53))
    assert [type(order) for order in bench.take()] == [SendDatagram]


def test_facts_of_the_other_kind_about_the_sockets_of_an_association_change_nothing() -> None:
    bench, _ = network()
    bench.send(datagram())
    control, opened, _ = associate(bench)
    bench.network.stream_connected(opened.socket, bench.now)
    bench.network.stream_received(opened.socket, b"bytes", bench.now)
    assert bench.network.receive_budget(opened.socket) == 0
    bench.network.datagram_received(control, RELAY, HEAD + b"lost", 0, 60, 0, bench.now)
    bench.collect()
    assert (bench.take(), bench.packets) == ([], [])
    bench.send(datagram(data=b"more"))
    assert [(order.socket, order.data) for order in sent(bench)] == [(opened.socket, HEAD + b"more")]


def test_a_datagram_that_does_not_reach_the_relay_ends_nothing() -> None:
    bench, _ = network()
    bench.send(datagram())
    _, opened, _ = associate(bench)
    error = ExtendedError(ECONNREFUSED, ORIGIN_ICMP, 3, 3, 0, None)
    bench.network.datagram_failed(opened.socket, RELAY, error, HEAD + b"hello", bench.now)
    bench.collect()
    assert (bench.take(), bench.packets) == ([], [])
    bench.send(datagram(data=b"more"))
    assert [(order.socket, order.data) for order in sent(bench)] == [(opened.socket, HEAD + b"more")]


def test_a_proxy_that_moved_has_an_association_of_its_own() -> None:
    """The end of the former one leaves it alone."""
    former = replace(SOCKS, server=Endpoint("192.0.2.201", 1080))
    bench, _ = network(former)
    bench.send(datagram())
    old = bench.one(OpenStream)
    assert old.remote == former.server
    bench.network.reconfigure(replace(bench.config, proxies=(SOCKS,)), bench.now, keep_flows=True)
    bench.send(datagram(port=8))
    _, opened, _ = associate(bench)
    for _ in range(5):
        bench.wait(20)
        bench.send(datagram(port=8))
    assert [order for order in bench.take() if isinstance(order, CloseSocket)] == [CloseSocket(old.socket)]
    bench.send(datagram(port=9))
    assert [order.socket for order in bench.take()] == [opened.socket]


def test_what_waits_of_a_flow_that_new_rules_end_is_not_sent() -> None:
    bench, _ = network()
    bench.send(datagram(data=b"kept"), datagram(data=b"closed", port=9))
    closed = Rule(action=Action.REFUSE, ports=(9,))
    bench.network.reconfigure(replace(bench.config, rules=(closed, *bench.config.rules)), bench.now)
    bench.collect()
    _, _, waited = associate(bench)
    assert [order.data for order in waited] == [HEAD + b"kept"]
