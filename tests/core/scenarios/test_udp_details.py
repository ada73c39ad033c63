"""Counts and lifetimes of UDP flows, and the effects of errors and of other configurations on them."""

from __future__ import annotations

from errno import ECONNREFUSED, EMSGSIZE, ENETUNREACH
from typing import Any

import pytest

from sansnet_core import (
    Action,
    Allow,
    DecideFlow,
    DeliverDatagram,
    Endpoint,
    ExtendedError,
    FlowClosed,
    OpenDatagram,
    Prefix,
    Rule,
    SendDatagram,
    SocketId,
    UsageError,
)
from sansnet_core.addresses import packed
from sansnet_core.orders import ORIGIN_ICMP
from sansnet_core.records import replace
from sansnet_core.testing import OUTSIDER, SERVER, SERVER6, make_config
from sansnet_core.testing.packets import Ip, udp
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct

TO = Endpoint(SERVER, 7)
ALIAS, STUB = packed("10.0.2.3"), Endpoint("127.0.0.53", 53)


def bench_of(**fields: Any) -> Direct:
    return Direct(replace(make_config(), **fields))


def send(bench: Direct, remote: Endpoint = TO, data: bytes = b"hello") -> None:
    bench.send(udp(GUEST if len(remote.address) == 4 else GUEST6, 5000, *remote, data))


def opened(bench: Direct, remote: Endpoint = TO) -> SocketId:
    """The socket of a new flow."""
    send(bench, remote)
    return next(order.socket for order in bench.take() if isinstance(order, OpenDatagram))


def arrive(bench: Direct, socket: SocketId, source: Endpoint = TO, data: bytes = b"answer", size: int = 0) -> list[Ip]:
    """The packets to the guest for a datagram from outside, or a run of them."""
    bench.packets.clear()
    bench.network.datagram_received(socket, source, data, size, 60, 0, bench.now)
    bench.collect()
    return bench.packets


def fail(bench: Direct, socket: SocketId, remote: Endpoint, errno: int, info: int = 0, **more: Any) -> Ip:
    """The ICMP error that the guest gets for a failure."""
    error = ExtendedError(errno, ORIGIN_ICMP, 3, 4, info, more.get("offender"))
    bench.packets.clear()
    bench.network.datagram_failed(socket, remote, error, b"hello", bench.now)
    bench.collect()
    (packet,) = bench.packets
    return packet


def test_all_datagrams_count() -> None:
    bench = bench_of()
    socket = opened(bench)
    send(bench, data=b"again")
    for _ in range(3):
        arrive(bench, socket)
    bench.wait(200)
    closed = bench.notices[-1]
    assert isinstance(closed, FlowClosed)
    assert (closed.sent, closed.received) == (10, 18)


@pytest.mark.parametrize(("answers", "lives"), [(1, False), (2, True)])
def test_a_flow_with_more_than_one_answer_lives_longer(answers: int, lives: bool) -> None:
    bench = bench_of()
    socket = opened(bench)
    for _ in range(answers):
        arrive(bench, socket)
    bench.wait(60)
    assert len(bench.network.flows()) == lives


# runs


def test_a_run_from_an_endpoint_that_the_guest_did_not_send_to_comes_in_datagrams() -> None:
    bench = bench_of()
    socket = opened(bench)
    packets = arrive(bench, socket, Endpoint(SERVER, 9), b"abc", 1)
    assert [packet.payload[8:] for packet in packets] == [b"a", b"b", b"c"]


def test_a_run_of_an_outsider_that_waited_comes_in_datagrams() -> None:
    bench = bench_of(default_action=Action.ASK)
    forward = bench.network.forward_added(None, 53, bench.now)
    assert arrive(bench, forward, OUTSIDER, b"abc", 1) == []
    bench.network.flow_decided(bench.one(DecideFlow).socket, Allow(), bench.now)
    bench.collect()
    assert [packet.payload[8:] for packet in bench.packets] == [b"a", b"b", b"c"]


def test_datagrams_of_the_program_have_no_class_of_traffic() -> None:
    bench = bench_of()
    service = bench.network.service_added(17, Prefix.of(SERVER), None, bench.now)
    bench.network.service_sent(service, Endpoint(GUEST, 5000), TO, b"news", bench.now)
    bench.collect()
    assert [(packet.ttl, packet.tos) for packet in bench.packets] == [(64, 0)]


# errors


@pytest.mark.parametrize(
    ("remote", "to", "expected"),
    [
        (TO, TO, 1400),
        (TO, Endpoint(SERVER6, 7), 1380),
        (Endpoint(SERVER6, 7), Endpoint(SERVER6, 7), 1400),
        (Endpoint(SERVER6, 7), TO, 1420),
    ],
)
def test_the_mtu_that_the_guest_learns_is_for_its_own_headers(remote: Endpoint, to: Endpoint, expected: int) -> None:
    bench = bench_of(rules=(Rule(action=Action.ALLOW, to=to if to != remote else None),))
    packet = fail(bench, opened(bench, remote), to, EMSGSIZE, 1400)
    assert int.from_bytes(packet.payload[4:8], "big") == expected


def test_an_error_of_the_destination_comes_from_the_address_that_the_guest_knows() -> None:
    bench = bench_of(dns_forward=((ALIAS, STUB),))
    socket = opened(bench, Endpoint(ALIAS, 53))
    assert fail(bench, socket, STUB, ECONNREFUSED, offender=STUB.address).source == ALIAS


def test_each_further_address_gets_the_datagram_as_it_was() -> None:
    hosts = [Endpoint(host, 7) for host in ("93.184.215.14", "93.184.215.15", "93.184.215.16")]
    bench = bench_of()
    bindings = FakeBindings({"198.18.0.1": "db.example.org"})
    bindings.attach(bench)
    bindings.know("db.example.org", *(str(host).split(":")[0] for host in hosts))
    bench.send(Ip(GUEST, packed("198.18.0.1"), 17, udp(GUEST, 5000, packed("198.18.0.1"), 7, b"x").payload, 9, 3))
    for host in hosts[:2]:
        (socket,) = [order.socket for order in bench.take() if isinstance(order, OpenDatagram)]
        error = ExtendedError(ENETUNREACH, 1, 0, 0, 0, None)
        bench.network.datagram_failed(socket, host, error, b"x", bench.now)
        bench.collect()
    (order,) = [order for order in bench.take() if isinstance(order, SendDatagram)]
    assert (order.remote, order.ttl, order.tos) == (hosts[2], 9, 3)


# another configuration


@pytest.mark.parametrize(
    "remote", [Endpoint("239.255.255.250", 53), Endpoint("10.9.0.1", 53)], ids=["group", "service"]
)
def test_flows_that_lead_to_no_name_server_of_the_network_continue(remote: Endpoint) -> None:
    bench = bench_of(virtual=("10.9.0.0/16",))
    bench.network.service_added(17, Prefix.of("10.9.0.0/16"), None, bench.now)
    send(bench, remote)
    bench.take()
    bench.network.reconfigure(replace(bench.config, dns_servers=("192.0.2.53",)), bench.now)
    send(bench, remote)
    assert [type(order) for order in bench.take()] == [DeliverDatagram if remote.address[0] == 10 else SendDatagram]
    assert not any(isinstance(notice, FlowClosed) for notice in bench.notices)


@pytest.mark.parametrize("source", [Endpoint("127.0.0.1", 1000), OUTSIDER])
def test_flows_of_outsiders_continue(source: Endpoint) -> None:
    """Also one of the host's loopback, which the guest sees at an address that leads nowhere else."""
    bench = bench_of()
    forward = bench.network.forward_added(None, 53, bench.now)
    (packet,) = arrive(bench, forward, source)
    bench.network.reconfigure(replace(bench.config, dns_servers=("192.0.2.53",)), bench.now)
    bench.send(udp(GUEST, 53, packet.source, source.port, b"answer"))
    order = bench.one(SendDatagram)
    assert (order.socket, order.remote) == (forward, source)
    assert not any(isinstance(notice, FlowClosed) for notice in bench.notices)


# mistakes of the driver


def test_a_wrong_local_address_is_refused_for_each_datagram() -> None:
    bench = bench_of()
    forward = bench.network.forward_added(None, 53, bench.now)
    arrive(bench, forward, OUTSIDER)
    for socket in (forward, SocketId(99)):
        with pytest.raises(UsageError, match=r"^local: b'abc' has 3 bytes"):
            bench.network.datagram_received(socket, OUTSIDER, b"x", 0, 60, 0, bench.now, b"abc")
    assert bench.network.flows()[0].received == 6
    with pytest.raises(UsageError, match=r"^local: b'abc' has 3 bytes"):
        bench.network.datagram_received(opened(bench), TO, b"x", 0, 60, 0, bench.now, b"abc")
