"""Datagrams that IPv6 can carry and IPv4 cannot, in flows with one family on each side."""

from __future__ import annotations

import pytest

from sansnet_core import (
    Endpoint,
    LinkConfig,
    OpenDatagram,
    OpenEcho,
    Reason,
    SendDatagram,
    SendEcho,
    SocketId,
)
from sansnet_core.addresses import format, packed
from sansnet_core.testing import make_config
from sansnet_core.testing.packets import ICMPV6, echo_request, fragments, udp
from sansnet_core.wire.icmp6 import PACKET_TOO_BIG
from tests.core.bindings import FakeBindings
from tests.core.direct import GUEST, GUEST6, Direct
from tests.core.named import LEASE, LEASE6, NAME, OTHER

LINKS = [
    LinkConfig(mtu=1500, max_frame_size=1514),
    LinkConfig(mtu=1500, max_frame_size=65535, vnet_header=True, checksum_offload=True, uso=True),
]
HOST4, HOST6 = packed("192.0.2.80"), packed("2001:db8:1::80")
MOST4, MOST6 = 65507, 65527


def named(link: LinkConfig) -> Direct:
    """A network where one name has an IPv6 address only, and another an IPv4 address only."""
    bench = Direct(make_config(link))
    bindings = FakeBindings({LEASE: NAME, LEASE6: OTHER})
    bindings.know(NAME, format(HOST6))
    bindings.know(OTHER, format(HOST4))
    bindings.attach(bench)
    return bench


def open_flow(bench: Direct, *, ping: bool) -> SocketId:
    """Open a flow to the first name; its socket."""
    lease = packed(LEASE)
    bench.send(echo_request(GUEST, lease, 7, 1, b"x") if ping else udp(GUEST, 1000, lease, 99, b"x"))
    opened, sent = bench.take()
    assert isinstance(opened, OpenEcho if ping else OpenDatagram)
    assert isinstance(sent, SendEcho if ping else SendDatagram)
    return opened.socket


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("port", [99, 98])  # the flow's own, and another one of the same host
def test_a_datagram_that_ipv4_cannot_carry_is_dropped_on_its_way_to_the_guest(link: LinkConfig, port: int) -> None:
    bench = named(link)
    socket, source = open_flow(bench, ping=False), Endpoint(HOST6, port)
    for size in (MOST4 + 1, MOST6):
        bench.network.datagram_received(socket, source, bytes(size), 0, 64, 0, bench.now)
        bench.collect()
    assert bench.drops() == {Reason.HOST_SIZE: 2}
    assert not bench.packets
    bench.network.datagram_received(socket, source, bytes(MOST4), 0, 64, 0, bench.now)
    bench.collect()
    assert sum(len(packet.payload) for packet in bench.packets) == MOST4 + 8


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("port", [99, 98])
def test_a_run_of_small_datagrams_may_be_larger_than_one_datagram(link: LinkConfig, port: int) -> None:
    bench = named(link)
    socket, size = open_flow(bench, ping=False), MOST4 + 1
    bench.network.datagram_received(socket, Endpoint(HOST6, port), bytes(size), 1000, 64, 0, bench.now)
    bench.collect()
    assert bench.drops() == {}
    assert sum(len(packet.payload) for packet in bench.packets) >= size + 8


@pytest.mark.parametrize("link", LINKS)
def test_a_datagram_that_only_ipv6_can_carry_passes_both_ways_between_ends_that_have_it(link: LinkConfig) -> None:
    bench = named(link)
    bench.send(*fragments(udp(GUEST6, 1000, HOST6, 99, bytes(MOST6)), 1400))
    opened, sent = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert isinstance(sent, SendDatagram)
    assert len(sent.data) == MOST6
    bench.network.datagram_received(opened.socket, sent.remote, bytes(MOST6), 0, 64, 0, bench.now)
    bench.collect()
    assert bench.drops() == {}
    assert len(bench.packets) > 1


@pytest.mark.parametrize("link", LINKS)
def test_an_echo_reply_that_ipv4_cannot_carry_is_dropped(link: LinkConfig) -> None:
    bench = named(link)
    socket = open_flow(bench, ping=True)
    bench.network.echo_received(socket, HOST6, 1, bytes(MOST4 + 1), 64, 0, bench.now)
    bench.collect()
    assert bench.drops() == {Reason.HOST_SIZE: 1}
    assert not bench.packets
    bench.network.echo_received(socket, HOST6, 1, bytes(MOST4), 64, 0, bench.now)
    bench.collect()
    assert sum(len(packet.payload) for packet in bench.packets) == MOST4 + 8


@pytest.mark.parametrize("ping", [False, True])
def test_what_the_hosts_ipv4_cannot_carry_is_answered_and_not_ordered(ping: bool) -> None:
    bench, lease = named(LINKS[0]), packed(LEASE6)
    for size in (1, MOST4 + 1, MOST6, MOST4):
        data = bytes(size)
        packet = echo_request(GUEST6, lease, 7, 2, data) if ping else udp(GUEST6, 1000, lease, 99, data)
        bench.send(*(fragments(packet, 1400) if size > 1400 else [packet]))
    _, *sent = bench.take()
    sizes = [len(order.data) for order in sent if isinstance(order, SendEcho | SendDatagram)]
    assert sizes == [1, MOST4]
    assert len(sent) == 2
    assert bench.drops() == {Reason.HOST_SEND: 2}
    assert [(packet.protocol, packet.payload[0]) for packet in bench.packets] == [(ICMPV6, PACKET_TOO_BIG)] * 2


def test_what_the_hosts_ipv4_cannot_carry_says_nothing_about_the_path() -> None:
    bench = named(LINKS[0])
    bench.send(*fragments(udp(GUEST6, 1000, packed(LEASE6), 99, bytes(MOST4 + 1)), 1400))
    bench.wait(2)
    bench.take()
    bench.send(udp(GUEST6, 1000, packed(LEASE6), 99, bytes(1210)))
    assert bench.one(SendDatagram).fragment_here
