"""UDP flows."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import format, parse
from sansnet_core.config import Limits, LinkConfig, NetworkConfig, UdpFiltering
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowClosed, FlowOpened
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenDatagram,
    SendDatagram,
    SocketId,
)
from sansnet_core.proto.udp.handler import Udp
from sansnet_core.testing.packets import Ip, udp
from sansnet_core.wire.ip import IpHeader
from sansnet_core.wire.udp import UdpHeader
from tests.core.proto.bare import GATEWAY4, GATEWAY6, GUEST4, GUEST6, REMOTE4, REMOTE6, Bare, config, header

ANY4 = bytes(4)
ANY6 = bytes(16)
FROM4, FROM6 = Endpoint(GUEST4, 4000), Endpoint(GUEST6, 4000)
SSDP = parse("239.255.255.250")
REFUSED = ExtendedError(111, 2, 3, 3, 0, REMOTE4)


class Bench(Bare):
    """A UDP translator on a context."""

    def __init__(self, configuration: NetworkConfig | None = None) -> None:
        super().__init__(configuration or config())
        self.served: list[tuple[int, bytes]] = []
        self.udp = Udp(self.context, self.icmp_errors, self.sought.append, {67: self._serve})

    def _serve(self, ip: IpHeader, udp: UdpHeader, buf: Buffer) -> None:
        self.served.append((udp.destination_port, bytes(buf[udp.start : udp.end])))

    def receive(self, packet: Ip) -> None:
        self.udp.receive(*header(packet))

    def open(self, packet: Ip) -> SocketId:
        """Send the first datagram of a socket and take the orders; return the socket's name."""
        self.receive(packet)
        opened, sent = self.orders()
        assert isinstance(opened, OpenDatagram)
        assert isinstance(sent, SendDatagram)
        return opened.socket

    def answer(self, socket: SocketId, source: Endpoint, data: bytes) -> None:
        self.udp.datagram_received(socket, source, data, 0, 60, 0)


def query(
    data: bytes = b"hello", *, source_port: int = 4000, destination: bytes = REMOTE4, destination_port: int = 7
) -> Ip:
    source = GUEST4 if len(destination) == 4 else GUEST6
    return udp(source, source_port, destination, destination_port, data)


def test_the_first_datagram_opens_a_socket_with_the_guests_port() -> None:
    bench = Bench()
    bench.receive(replace(query(), ttl=3, tos=0xB9))
    socket = SocketId(1)
    remote = Endpoint(REMOTE4, 7)
    assert bench.orders() == [
        OpenDatagram(socket, Endpoint(ANY4, 4000), FROM4),
        SendDatagram(socket, remote, b"hello", 0, 3, 0xB9),
    ]
    assert bench.notices() == [FlowOpened(socket, 17, FROM4, remote, remote, time=100.0)]
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


def test_ipv6_likewise() -> None:
    bench = Bench()
    bench.receive(replace(query(destination=REMOTE6), ttl=3, tos=0xB9))
    assert bench.orders() == [
        OpenDatagram(SocketId(1), Endpoint(ANY6, 4000), FROM6),
        SendDatagram(SocketId(1), Endpoint(REMOTE6, 7), b"hello", 0, 3, 0xB9),
    ]


def test_ipv4_options_change_nothing() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.receive(replace(query(b"more"), options=bytes(8)))
    assert bench.orders() == [SendDatagram(socket, Endpoint(REMOTE4, 7), b"more", 0, 64, 0)]


@pytest.mark.parametrize("view", [bytes, memoryview])
def test_frames_may_be_views(view: type[bytes] | type[memoryview]) -> None:
    bench = Bench()
    ip, buf = header(query())
    bench.udp.receive(ip, view(buf))
    bench.udp.receive(ip, buf)
    assert len(bench.orders()) == 3
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


@pytest.mark.parametrize("destination", [REMOTE4, REMOTE6], ids=format)
def test_the_answer_comes_from_what_the_guest_addressed(destination: bytes) -> None:
    bench = Bench()
    socket = bench.open(query(destination=destination))
    bench.udp.datagram_received(socket, Endpoint(destination, 7), b"answer", 0, 57, 0x28)
    expected = query(destination=destination)
    answer = udp(expected.destination, 7, expected.source, 4000, b"answer")
    (packet,) = bench.packets()
    assert (packet.source, packet.destination, packet.payload) == (answer.source, answer.destination, answer.payload)
    assert (packet.ttl, packet.tos) == (57, 0x28)


def test_empty_datagrams_pass_both_ways() -> None:
    bench = Bench()
    bench.receive(query(b""))
    assert bench.orders()[1] == SendDatagram(SocketId(1), Endpoint(REMOTE4, 7), b"", 0, 64, 0)
    bench.answer(SocketId(1), Endpoint(REMOTE4, 7), b"")
    (packet,) = bench.packets()
    assert packet.payload == udp(REMOTE4, 7, GUEST4, 4000, b"").payload


def test_an_offloaded_run_stays_a_run() -> None:
    bench = Bench()
    bench.context.gso_size = 100
    bench.receive(query(bytes(250)))
    assert bench.orders()[1] == SendDatagram(SocketId(1), Endpoint(REMOTE4, 7), bytes(250), 100, 64, 0)


@pytest.mark.parametrize("size", [0, 1, 99, 100])
@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
def test_a_run_of_one_datagram_is_a_datagram(known: bool, size: int) -> None:
    """The host's kernel may refuse a segment size that is larger than a packet, also for a short datagram."""
    bench = Bench()
    if known:
        bench.open(query())
    bench.context.gso_size = 100
    bench.receive(query(bytes(size)))
    assert bench.orders()[-1] == SendDatagram(SocketId(1), Endpoint(REMOTE4, 7), bytes(size), 0, 64, 0)


@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
def test_a_run_of_more_datagrams_than_a_kernel_makes_is_refused(known: bool) -> None:
    bench = Bench()
    if known:
        bench.open(query())
    bench.context.gso_size = 2
    with pytest.raises(Malformed) as caught:
        bench.receive(query(bytes(257)))
    assert caught.value.reason is Reason.VNET_HEADER
    assert bench.orders() == []
    assert bench.udp.statistics()["udp_sockets"] == known
    bench.receive(query(bytes(256)))
    assert bench.orders()[-1] == SendDatagram(SocketId(1), Endpoint(REMOTE4, 7), bytes(256), 2, 64, 0)


def test_a_ttl_of_0_opens_nothing_and_closes_nothing() -> None:
    bench = Bench(config(limits=Limits(udp_flows=1)))
    bench.open(query())
    with pytest.raises(Malformed) as caught:
        bench.receive(replace(query(source_port=4001), ttl=0))
    assert caught.value.reason is Reason.IP_TTL
    assert bench.orders() == []
    assert bench.drops() == {}


def test_a_run_from_the_host_reaches_a_guest_without_offload_as_datagrams() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.udp.datagram_received(socket, Endpoint(REMOTE4, 7), bytes(250), 100, 64, 0)
    assert [len(packet.payload) - 8 for packet in bench.packets()] == [100, 100, 50]


def test_one_socket_serves_all_destinations_of_a_guest_port() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.receive(query(destination_port=8))
    bench.receive(query(destination=parse("198.51.100.9")))
    orders = bench.orders()
    assert [type(order) for order in orders] == [SendDatagram, SendDatagram]
    assert {order.socket for order in orders} == {socket}
    assert bench.udp.statistics() == {"udp_flows": 3, "udp_sockets": 1}


def test_another_guest_port_or_address_has_another_socket() -> None:
    bench = Bench()
    bench.open(query())
    bench.open(query(source_port=4001))
    bench.open(replace(query(), source=parse("10.0.2.16")))
    assert bench.udp.statistics() == {"udp_flows": 3, "udp_sockets": 3}


def test_a_translated_destination_answers_as_itself_even_if_the_guest_also_uses_the_real_one() -> None:
    dns, resolver = parse("10.0.2.3"), REMOTE4
    bench = Bench(config(dns_forward=((dns, Endpoint(resolver, 53)),)))
    forwarded = bench.open(query(destination=dns, destination_port=53))
    direct = bench.open(query(destination=resolver, destination_port=53))
    assert forwarded != direct
    bench.answer(forwarded, Endpoint(resolver, 53), b"1")
    bench.answer(direct, Endpoint(resolver, 53), b"2")
    assert [(packet.source, packet.payload[8:]) for packet in bench.packets()] == [(dns, b"1"), (resolver, b"2")]


def test_the_hosts_loopback_is_reached_by_its_alias_from_a_socket_that_is_bound_there() -> None:
    bench = Bench(config(map_host_loopback=(GATEWAY4, GATEWAY6), outbound4=parse("198.51.100.1")))
    bench.receive(query(destination=GATEWAY4))
    bench.receive(query(destination=GATEWAY6))
    assert bench.orders() == [
        OpenDatagram(SocketId(1), Endpoint(parse("127.0.0.1"), 4000), FROM4),
        SendDatagram(SocketId(1), Endpoint(parse("127.0.0.1"), 7), b"hello", 0, 64, 0),
        OpenDatagram(SocketId(2), Endpoint(parse("::1"), 4000), FROM6),
        SendDatagram(SocketId(2), Endpoint(parse("::1"), 7), b"hello", 0, 64, 0),
    ]
    bench.answer(SocketId(1), Endpoint(parse("127.0.0.1"), 7), b"answer")
    assert [packet.source for packet in bench.packets()] == [GATEWAY4]


def test_the_socket_is_bound_to_the_configured_source_address() -> None:
    bench = Bench(config(outbound4=parse("198.51.100.1")))
    bench.receive(query())
    assert bench.orders()[0] == OpenDatagram(SocketId(1), Endpoint(parse("198.51.100.1"), 4000), FROM4)


OUTSIDERS = [Endpoint(REMOTE4, 8), Endpoint(parse("192.0.2.8"), 7)]
"""Another port of the host that the guest sends to, and another address."""


@pytest.mark.parametrize(
    "source", [*OUTSIDERS, Endpoint(REMOTE6, 8), Endpoint(parse("fe80::7"), 7)], ids=lambda source: format(source[0])
)
def test_once_the_guest_has_sent_it_hears_everyone(source: Endpoint) -> None:
    bench = Bench()
    asked = query(destination=REMOTE4 if len(source.address) == 4 else REMOTE6)
    socket = bench.open(asked)
    bench.answer(socket, source, b"psst")
    (packet,) = bench.packets()
    assert (packet.source, packet.destination) == (source.address, asked.source)
    assert packet.payload == udp(source.address, source.port, asked.source, 4000, b"psst").payload
    bench.receive(query(b"who are you?", destination=source.address, destination_port=source.port))
    assert bench.orders() == [SendDatagram(socket, source, b"who are you?", 0, 64, 0)]


@pytest.mark.parametrize(
    ("filtering", "heard"),
    [
        (UdpFiltering.ENDPOINT_INDEPENDENT, OUTSIDERS),
        (UdpFiltering.ADDRESS_DEPENDENT, OUTSIDERS[:1]),
        (UdpFiltering.ADDRESS_AND_PORT_DEPENDENT, []),
    ],
    ids=lambda value: value.value if isinstance(value, UdpFiltering) else "",
)
def test_unsolicited_sources_are_filtered_as_configured(filtering: UdpFiltering, heard: list[Endpoint]) -> None:
    bench = Bench(config(udp_filtering=filtering))
    socket = bench.open(query())
    bench.open(query(source_port=4001, destination=OUTSIDERS[1].address))  # does not affect `socket`
    for source in (*OUTSIDERS, Endpoint(REMOTE4, 7)):
        bench.answer(socket, source, b"psst")
    assert [packet.source for packet in bench.packets()] == [*(source.address for source in heard), REMOTE4]
    assert bench.drops().get(Reason.HOST_SOURCE, 0) == 2 - len(heard)


def test_an_address_is_accepted_while_a_flow_leads_to_it() -> None:
    bench = Bench(config(udp_filtering=UdpFiltering.ADDRESS_DEPENDENT))
    socket = bench.open(query())
    bench.receive(query(destination_port=9))
    bench.wait(20)
    bench.receive(query(destination_port=9))
    bench.receive(query(destination=OUTSIDERS[1].address))
    bench.wait(12)
    assert bench.udp.statistics() == {"udp_flows": 2, "udp_sockets": 1}
    bench.answer(socket, Endpoint(REMOTE4, 8), b"psst")
    assert len(bench.packets()) == 1
    bench.receive(query(destination=OUTSIDERS[1].address))
    bench.wait(19)
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}
    bench.answer(socket, Endpoint(REMOTE4, 8), b"late")
    assert bench.packets() == []


def test_an_address_is_accepted_until_the_last_of_several_flows_to_it_ends() -> None:
    bench = Bench(config(udp_filtering=UdpFiltering.ADDRESS_DEPENDENT))
    socket = bench.open(query())
    others = query(destination=OUTSIDERS[1].address), query(destination_port=9)
    for pause in (20, 20, 40):
        for packet in others:
            bench.receive(packet)
        bench.wait(pause)
        bench.answer(socket, Endpoint(REMOTE4, 8), b"psst")
    assert len(bench.packets()) == 2
    assert bench.udp.statistics() == {"udp_flows": 0, "udp_sockets": 0}


@pytest.mark.parametrize(
    "source", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.0.2.2", "10.0.2.3", "10.0.2.15", "224.0.0.1"]
)
def test_a_source_that_the_guest_could_not_send_to_is_dropped(source: str) -> None:
    bench = Bench(config(map_host_loopback=(parse("10.0.2.3"),)))
    socket = bench.open(query())
    bench.answer(socket, Endpoint(parse(source), 9), b"psst")
    assert bench.packets() == []
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_the_hosts_loopback_answers_from_another_port_by_its_alias() -> None:
    loopback, alias = parse("127.0.0.1"), parse("10.0.2.3")
    bench = Bench(config(map_host_loopback=(alias,)))
    socket = bench.open(query(destination=alias, destination_port=69))
    bench.answer(socket, Endpoint(loopback, 40000), b"block 1")
    (packet,) = bench.packets()
    assert packet.payload == udp(alias, 40000, GUEST4, 4000, b"block 1").payload
    assert packet.source == alias
    bench.receive(query(b"ack 1", destination=alias, destination_port=40000))
    assert bench.orders() == [SendDatagram(socket, Endpoint(loopback, 40000), b"ack 1", 0, 64, 0)]
    bench.answer(socket, Endpoint(parse("127.0.0.2"), 40000), b"psst")
    bench.answer(socket, Endpoint(REMOTE4, 40000), b"psst")
    assert bench.packets() == []
    assert bench.drops() == {Reason.HOST_SOURCE: 2}


def test_a_resolver_answers_only_from_the_address_of_the_query() -> None:
    dns = parse("10.0.2.3")
    bench = Bench(config(dns_forward=((dns, Endpoint(REMOTE4, 53)),)))
    socket = bench.open(query(destination=dns, destination_port=53))
    bench.answer(socket, Endpoint(REMOTE4, 54), b"psst")
    bench.answer(socket, Endpoint(parse("192.0.2.8"), 53), b"psst")
    assert bench.packets() == []
    bench.answer(socket, Endpoint(REMOTE4, 53), b"answer")
    assert [packet.source for packet in bench.packets()] == [dns]


def test_unsolicited_datagrams_create_no_state_and_refresh_nothing() -> None:
    bench = Bench()
    socket = bench.open(query())
    for second in range(30):
        for port in range(1, 40):
            bench.answer(socket, Endpoint(parse("198.51.100.9"), 1000 * (second % 5 + 1) + port), b"psst")
        assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}
        bench.wait(1)
    assert bench.orders() == [CloseSocket(socket)]


@given(
    destination=st.sampled_from(
        [(REMOTE4, 7), (parse("10.0.2.3"), 69), (parse("10.0.2.4"), 53), (parse("10.0.2.5"), 7)]
    ),
    address=st.sampled_from([REMOTE4, GUEST4, GATEWAY4, parse("127.0.0.1"), parse("127.0.0.53"), parse("10.0.2.3")])
    | st.binary(min_size=4, max_size=4),
    port=st.sampled_from([7, 53, 69]) | st.integers(1, 65535),
    filtering=st.sampled_from(UdpFiltering),
)
def test_the_guest_can_answer_every_source_that_it_sees(
    destination: tuple[bytes, int], address: bytes, port: int, filtering: UdpFiltering
) -> None:
    bench = Bench(
        config(
            map_host_loopback=(parse("10.0.2.3"),),
            map_guest_address=(parse("10.0.2.5"),),
            dns_forward=((parse("10.0.2.4"), Endpoint(parse("127.0.0.53"), 53)),),
            udp_filtering=filtering,
        )
    )
    socket = bench.open(query(destination=destination[0], destination_port=destination[1]))
    bench.answer(socket, Endpoint(address, port), b"hello")
    packets = bench.packets()
    if not packets:
        assert bench.drops() == {Reason.HOST_SOURCE: 1}
        return
    seen = packets[0]
    assert seen.payload == udp(seen.source, port, GUEST4, 4000, b"hello").payload
    bench.receive(query(b"reply", destination=seen.source, destination_port=port))
    assert bench.orders() == [SendDatagram(socket, Endpoint(address, port), b"reply", 0, 64, 0)]


@pytest.mark.parametrize("group", [SSDP, parse("224.0.0.251")], ids=format)
def test_a_group_may_answer_from_any_unicast_address(group: bytes) -> None:
    bench = Bench(config(udp_filtering=UdpFiltering.ADDRESS_AND_PORT_DEPENDENT))
    socket = bench.open(query(destination=group, destination_port=1900))
    bench.answer(socket, Endpoint(REMOTE4, 49152), b"here")
    (packet,) = bench.packets()
    assert (packet.source, packet.destination) == (REMOTE4, GUEST4)
    assert packet.payload == udp(REMOTE4, 49152, GUEST4, 4000, b"here").payload
    for destination in (REMOTE4, OUTSIDERS[1].address):  # further flows of the socket
        bench.receive(query(destination=destination))
        bench.answer(socket, Endpoint(REMOTE4, 49152), b"here")
    assert len(bench.packets()) == 2


def test_an_answer_to_a_group_makes_no_flow() -> None:
    bench = Bench()
    socket = bench.open(query(destination=SSDP, destination_port=1900))
    bench.answer(socket, Endpoint(REMOTE4, 49152), b"here")
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "10.0.2.2", "239.255.255.250"])
def test_a_group_is_not_answered_from_an_address_that_means_another_to_the_guest(source: str) -> None:
    bench = Bench(config(map_host_loopback=(GATEWAY4,)))
    socket = bench.open(query(destination=SSDP, destination_port=1900))
    bench.answer(socket, Endpoint(parse(source), 9), b"psst")
    assert bench.packets() == []
    assert bench.drops() == {Reason.HOST_SOURCE: 1}


def test_any_source_is_accepted_only_while_a_flow_to_a_group_lives() -> None:
    bench = Bench(config(udp_filtering=UdpFiltering.ADDRESS_AND_PORT_DEPENDENT))
    socket = bench.open(query(destination=SSDP, destination_port=1900))
    bench.wait(20)
    bench.receive(query())
    bench.wait(15)
    bench.answer(socket, Endpoint(REMOTE4, 49152), b"late")
    assert bench.packets() == []
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


def test_services_take_their_port_and_nothing_is_forwarded() -> None:
    bench = Bench(config(udp=False))
    bench.receive(udp(ANY4, 68, b"\xff" * 4, 67, b"discover"))
    assert bench.served == [(67, b"discover")]
    assert bench.orders() == []


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (replace(query(), payload=bytes(7)), Reason.UDP_MALFORMED),
        (query(source_port=0), Reason.UDP_PORT),
        (query(destination_port=0), Reason.UDP_PORT),
        (replace(query(destination=REMOTE6), payload=b"\x0f\xa0\0\7\0\x09\0\0x"), Reason.UDP_CHECKSUM),
        (replace(query(), source=ANY4), Reason.IP_SOURCE),
        (replace(query(destination=REMOTE6), source=ANY6), Reason.IP_SOURCE),
        (query(destination=parse("127.0.0.1")), Reason.IP_DESTINATION),
        (query(destination=parse("::1")), Reason.IP_DESTINATION),
        (query(destination=parse("255.255.255.255")), Reason.IP_BROADCAST),
        (query(destination=parse("10.0.2.255")), Reason.IP_BROADCAST),
        (query(destination=GATEWAY4), Reason.OWN_ADDRESS),
        (query(destination=GATEWAY6), Reason.OWN_ADDRESS),
    ],
)
def test_a_datagram_that_is_not_translated_is_dropped_with_its_reason(packet: Ip, reason: Reason) -> None:
    bench = Bench()
    with pytest.raises(Malformed) as caught:
        bench.receive(packet)
    assert caught.value.reason is reason
    assert bench.orders() == []
    assert bench.udp.statistics() == {"udp_flows": 0, "udp_sockets": 0}


def test_dhcp_of_a_guest_without_a_server_stays_on_its_segment() -> None:
    bench = Bench()
    handler = Udp(bench.context, bench.icmp_errors, bench.sought.append, {})
    handler.receive(*header(udp(ANY4, 68, b"\xff" * 4, 67, b"discover")))
    handler.receive(*header(udp(GUEST4, 68, b"\xff" * 4, 67, b"inform")))
    handler.receive(*header(udp(GUEST6, 546, parse("ff02::1:2"), 547, b"solicit")))
    assert bench.orders() == []
    assert (bench.drops(), bench.context.ignored) == ({}, 3)
    handler.receive(*header(udp(GUEST4, 68, REMOTE4, 67, b"to a server elsewhere")))
    assert len(bench.orders()) == 2


def test_a_service_takes_its_port_of_its_own_family_alone() -> None:
    bench = Bench()
    bench.receive(query(destination=REMOTE6, destination_port=67))
    assert bench.served == []
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


def test_without_udp_nothing_is_forwarded() -> None:
    bench = Bench(config(udp=False))
    with pytest.raises(Malformed) as caught:
        bench.receive(query())
    assert caught.value.reason is Reason.PROTOCOL_CLOSED


def test_checksums_are_verified_if_the_link_asks_for_it() -> None:
    bench = Bench()
    broken = query()
    broken = replace(broken, payload=broken.payload[:-1] + b"X")
    bench.receive(broken)
    bench.context.verify = True
    with pytest.raises(Malformed) as caught:
        bench.receive(broken)
    assert caught.value.reason is Reason.UDP_CHECKSUM


def test_a_failure_is_counted_and_ends_nothing() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.udp.datagram_failed(socket, Endpoint(REMOTE4, 7), REFUSED, b"hello")
    assert bench.drops() == {Reason.HOST_SEND: 1}
    bench.receive(query())
    assert [type(order) for order in bench.orders()] == [SendDatagram]


@pytest.mark.interpreted
@pytest.mark.parametrize("remote", [REMOTE4, REMOTE6], ids=format)
def test_failures_that_are_not_told_cost_no_quoting(remote: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(config(limits=Limits(icmp_error_burst=2, icmp_error_rate=1)))
    socket = bench.open(query(destination=remote))
    quoted: list[int] = []

    def emit(source: bytes, destination: bytes, source_port: int, destination_port: int, payload: Buffer) -> bytes:
        quoted.append(len(payload))
        return bytes(8) + payload

    monkeypatch.setattr("sansnet_core.wire.udp.emit", emit)
    for _ in range(5):
        bench.udp.datagram_failed(socket, Endpoint(remote, 7), REFUSED, bytes(60000))
    assert len(bench.packets()) == 2
    assert len(quoted) == 2
    assert max(quoted) <= 1280
    assert bench.drops() == {Reason.HOST_SEND: 5, Reason.ICMP_LIMIT: 3}


def test_failures_that_are_not_reported_do_not_count_against_the_limit() -> None:
    bench = Bench(config(limits=Limits(icmp_error_burst=1, icmp_error_rate=1)))
    socket = bench.open(query())
    for code in (errno.EMFILE, errno.EHOSTUNREACH, errno.EMFILE):
        bench.udp.datagram_failed(socket, Endpoint(REMOTE4, 7), ExtendedError(code, 1, 0, 0, 0, None), b"hello")
    assert len(bench.packets()) == 1
    assert bench.drops() == {Reason.HOST_SEND: 3}


def test_a_failure_of_no_flow_is_ignored() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.udp.datagram_failed(socket, Endpoint(REMOTE4, 8), REFUSED, b"hello")
    bench.udp.datagram_failed(SocketId(99), Endpoint(REMOTE4, 7), REFUSED, b"hello")
    assert bench.drops() == {}


def test_facts_about_a_closed_socket_are_ignored() -> None:
    bench = Bench()
    bench.answer(SocketId(99), Endpoint(REMOTE4, 7), b"late")
    assert bench.packets() == []
    assert bench.drops() == {}


def test_a_question_and_its_answer_are_forgotten_soon() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.answer(socket, Endpoint(REMOTE4, 7), b"answer!")
    bench.notices()
    bench.wait(29)
    assert bench.orders() == []
    bench.wait(1)
    assert bench.orders() == [CloseSocket(socket)]
    remote = Endpoint(REMOTE4, 7)
    assert bench.notices() == [FlowClosed(socket, 17, FROM4, remote, remote, False, 5, 7, 0, 130.0)]
    assert bench.udp.statistics() == {"udp_flows": 0, "udp_sockets": 0}
    assert bench.context.timers.next_deadline() is None


def test_datagrams_one_way_are_no_stream() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.receive(query())
    bench.receive(query())
    bench.orders()
    bench.wait(30)
    assert bench.orders() == [CloseSocket(socket)]


def test_a_conversation_is_kept_for_minutes_of_silence() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.answer(socket, Endpoint(REMOTE4, 7), b"answer")
    bench.receive(query())
    bench.orders()
    bench.wait(179)
    assert bench.orders() == []
    bench.wait(1)
    assert bench.orders() == [CloseSocket(socket)]


@pytest.mark.parametrize("direction", ["guest", "host"])
def test_traffic_either_way_keeps_a_flow(direction: str) -> None:
    bench = Bench()
    socket = bench.open(query())
    for _ in range(10):
        bench.wait(25)
        if direction == "guest":
            bench.receive(query())
        else:
            bench.answer(socket, Endpoint(REMOTE4, 7), b"more")
    assert CloseSocket(socket) not in bench.orders()
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}


def test_flows_of_one_socket_end_each_in_its_time_and_the_socket_with_the_last() -> None:
    bench = Bench()
    socket = bench.open(query())
    bench.wait(10)
    bench.receive(query(destination_port=8))
    bench.orders()
    bench.wait(20)
    assert bench.orders() == []
    assert bench.udp.statistics() == {"udp_flows": 1, "udp_sockets": 1}
    bench.wait(10)
    assert bench.orders() == [CloseSocket(socket)]


def test_a_stream_that_is_still_alive_does_not_hide_idle_flows_behind_it() -> None:
    bench = Bench()
    stream = bench.open(query())
    bench.answer(stream, Endpoint(REMOTE4, 7), b"answer")
    bench.receive(query())
    bench.orders()
    bench.wait(5)
    once = bench.open(query(source_port=4001))
    bench.wait(31)
    assert bench.orders() == [CloseSocket(once)]
    bench.wait(144)
    assert bench.orders() == [CloseSocket(stream)]


def test_the_timer_fires_at_most_once_a_second_however_many_flows_there_are() -> None:
    bench = Bench()
    for number in range(200):
        bench.receive(query(source_port=1000 + number))
        bench.wait(0.01)
    bench.wait(25)
    fired = 0
    while bench.udp.statistics()["udp_flows"]:
        deadline = bench.context.timers.next_deadline()
        assert deadline is not None
        bench.wait(deadline - bench.context.now)
        fired += 1
    assert fired <= 4


def test_at_the_limit_the_flow_that_was_silent_longest_gives_way() -> None:
    bench = Bench(config(limits=Limits(udp_flows=3)))
    sockets = []
    for port in (1, 2, 3):
        sockets.append(bench.open(query(source_port=port)))
        bench.wait(1)
    bench.receive(query(source_port=1))
    bench.orders()
    bench.receive(query(source_port=4))
    closed, opened, _ = bench.orders()
    assert closed == CloseSocket(sockets[1])
    assert isinstance(opened, OpenDatagram)
    assert bench.udp.statistics() == {"udp_flows": 3, "udp_sockets": 3}
    assert bench.drops() == {Reason.UDP_LIMIT: 1}


def test_a_new_destination_does_not_use_the_socket_that_its_own_eviction_closed() -> None:
    bench = Bench(config(limits=Limits(udp_flows=1)))
    first = bench.open(query())
    bench.receive(query(destination_port=8))
    closed, opened, sent = bench.orders()
    assert closed == CloseSocket(first)
    assert isinstance(opened, OpenDatagram)
    assert isinstance(sent, SendDatagram)
    assert opened.socket == sent.socket != first


def test_a_port_scan_leaves_no_more_than_the_limit_behind() -> None:
    bench = Bench(config(limits=Limits(udp_flows=16)))
    for port in range(1, 1000):
        bench.receive(query(destination_port=port, source_port=port))
    assert bench.udp.statistics() == {"udp_flows": 16, "udp_sockets": 16}
    bench.wait(60)
    assert bench.udp.statistics() == {"udp_flows": 0, "udp_sockets": 0}


def test_an_offloading_guest_gets_a_run_in_one_frame() -> None:
    link = LinkConfig(mtu=1500, vnet_header=True, checksum_offload=True, uso=True)
    bench = Bench(config(link=link))
    socket = bench.open(query())
    bench.udp.datagram_received(socket, Endpoint(REMOTE4, 7), bytes(250), 100, 64, 0)
    bench.udp.flush()
    assert [len(packet.payload) - 8 for packet in bench.packets()] == [250]


@given(
    packet=st.builds(
        Ip,
        source=st.sampled_from([GUEST4, ANY4]),
        destination=st.sampled_from([REMOTE4, SSDP, GATEWAY4]) | st.binary(min_size=4, max_size=4),
        protocol=st.just(17),
        payload=st.binary(max_size=40),
    ),
    gso_size=st.integers(0, 65535),
    verify=st.booleans(),
)
def test_no_datagram_makes_more_than_a_named_drop(packet: Ip, gso_size: int, verify: bool) -> None:
    bench = Bench()
    bench.context.gso_size, bench.context.verify = gso_size, verify
    try:
        bench.receive(packet)
    except Malformed:
        assert bench.orders() == []
    else:
        assert len(bench.orders()) == (0 if bench.served else 2)


@given(
    sends=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 53]), st.sampled_from([REMOTE4, SSDP, GATEWAY4])),
        max_size=30,
    ),
    pauses=st.lists(st.floats(0, 50), min_size=30, max_size=30),
)
def test_every_order_is_about_an_open_socket(sends: list[tuple[int, int, bytes]], pauses: list[float]) -> None:
    bench = Bench(
        config(limits=Limits(udp_flows=4), dns_forward=((GATEWAY4, Endpoint(REMOTE4, 53)),), own_addresses=())
    )
    open_sockets = set()
    for (source_port, destination_port, destination), pause in zip(sends, pauses, strict=False):
        bench.receive(query(source_port=source_port, destination=destination, destination_port=destination_port))
        bench.wait(pause)
        for order in bench.orders():
            if isinstance(order, OpenDatagram):
                assert order.socket not in open_sockets
                open_sockets.add(order.socket)
            elif isinstance(order, CloseSocket):
                open_sockets.remove(order.socket)
            else:
                assert isinstance(order, SendDatagram)
                assert order.socket in open_sockets
        statistics = bench.udp.statistics()
        assert statistics["udp_sockets"] == len(open_sockets) <= statistics["udp_flows"] <= 4
    bench.wait(300)
    assert {order.socket for order in bench.orders()} == open_sockets
    assert bench.context.timers.next_deadline() is None
