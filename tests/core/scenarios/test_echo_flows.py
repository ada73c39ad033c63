"""Pings of a guest, through the whole network."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from sansnet_core import ExtendedError, Limits, Reason, SocketId
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, GATEWAY6, SERVER, SERVER6, Pair, make_config, packets
from sansnet_core.testing.packets import Ip, echo_request, icmp

GUEST = bytes((10, 0, 2, 15))
GUEST6 = bytes.fromhex("20010db8000000000000000000000015")
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")


def ping(destination: bytes, sequence: int = 1, *, identifier: int = 77) -> Ip:
    return echo_request(GUEST if len(destination) == 4 else GUEST6, destination, identifier, sequence, b"payload")


def replies(pair: Pair) -> list[tuple[bytes, int, int, bytes]]:
    """Source, identifier, sequence number and payload of a reply."""
    found = []
    for frame in pair.guest.others:
        if frame.ethertype == packets.ARP:
            continue
        ip = packets.read_ip(frame)
        if ip.payload[0] in (0, 129):
            found.append((ip.source, *struct.unpack_from("!HH", ip.payload, 4), ip.payload[8:]))
    return found


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
def test_a_host_answers(server: bytes) -> None:
    pair = Pair()
    for sequence in (1, 2):
        pair.guest.send(ping(server, sequence))
        pair.settle()
    assert [(order.remote, order.sequence, order.data) for order in pair.host.echoes] == [
        (server, 1, b"payload"),
        (server, 2, b"payload"),
    ]
    for order in pair.host.echoes:
        pair.network.echo_received(order.socket, server, order.sequence, b"payload", 60, 0, pair.now)
    pair.settle()
    assert replies(pair) == [(server, 77, 1, b"payload"), (server, 77, 2, b"payload")]


@pytest.mark.parametrize("destination", [GATEWAY6, ALL_NODES], ids=["gateway", "all nodes"])
def test_we_answer_for_ourselves_without_a_socket(destination: bytes) -> None:
    pair = Pair()
    pair.guest.send(ping(destination))
    pair.settle()
    assert replies(pair) == [(GATEWAY6, 77, 1, b"payload")]
    assert pair.host.orders == []


def test_the_hosts_loopback_answers_by_its_alias() -> None:
    pair = Pair(replace(make_config(), map_host_loopback=(GATEWAY,)))
    pair.guest.send(ping(GATEWAY))
    pair.settle()
    (order,) = pair.host.echoes
    loopback = bytes((127, 0, 0, 1))
    assert order.remote == loopback
    pair.network.echo_received(order.socket, loopback, 1, b"payload", 64, 0, pair.now)
    pair.settle()
    assert replies(pair) == [(GATEWAY, 77, 1, b"payload")]


def test_a_trace_of_the_route_survives_what_the_routers_say() -> None:
    pair = Pair()
    for ttl in (1, 2, 3):
        pair.guest.send(dataclasses.replace(ping(SERVER, ttl), ttl=ttl))
    pair.settle()
    assert [order.ttl for order in pair.host.echoes] == [1, 2, 3]
    exceeded = ExtendedError(113, 2, 11, 0, 0, bytes((192, 0, 2, 1)))
    pair.network.echo_failed(SocketId(1), 1, exceeded, b"payload", pair.now)
    pair.network.echo_failed(SocketId(1), 2, exceeded, b"payload", pair.now)
    pair.network.echo_received(SocketId(1), SERVER, 3, b"payload", 62, 0, pair.now)
    pair.settle()
    assert replies(pair) == [(SERVER, 77, 3, b"payload")]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (ping(bytes((224, 0, 0, 1))), Reason.IP_DESTINATION),
        (ping(bytes((127, 0, 0, 1))), Reason.IP_DESTINATION),
        (icmp(GUEST, SERVER, 13, 0, bytes(16)), Reason.ICMP_TYPE),
        (icmp(GUEST6, ALL_NODES, 139, 0, bytes(20)), Reason.ICMP_TYPE),
    ],
    ids=["multicast", "loopback", "timestamp", "node information query"],
)
def test_what_is_not_translated_is_counted(packet: Ip, reason: Reason) -> None:
    pair = Pair()
    pair.guest.send(packet)
    pair.settle()
    assert pair.network.statistics().drops == {reason: 1}
    assert pair.host.orders == []


def test_pings_with_ever_new_identifiers_are_bounded_and_end_in_nothing() -> None:
    pair = Pair(make_config(limits=Limits(echo_flows=10)))
    for identifier in range(1000):
        pair.guest.send(ping(SERVER, identifier=identifier))
    pair.settle()
    assert len(pair.host.echo_sockets) == 10
    assert pair.network.statistics().flows["echo_flows"] == 10
    pair.wait(61)
    assert pair.host.echo_sockets == {}
    assert pair.network.statistics().flows["echo_flows"] == 0
