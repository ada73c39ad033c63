"""Requirements of RFC 1122, 4443, 4861, 6980 and 8200 that no other test holds; see docs/conformance."""

from __future__ import annotations

import dataclasses
import struct
from errno import EMSGSIZE
from itertools import pairwise

import pytest

from sansnet_core import ConfigError, Ipv6Config, LinkConfig, NetworkConfig, OpenDatagram, Reason, SendDatagram
from sansnet_core.addresses import parse
from sansnet_core.orders import ORIGIN_LOCAL, ExtendedError
from sansnet_core.proto.icmp_errors import for_extended_error
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, GATEWAY6, SERVER, SERVER6, make_config, read_error
from sansnet_core.testing.packets import (
    TCP,
    UDP,
    Ip,
    echo_request,
    fragments,
    neighbor_solicitation,
    router_solicitation,
    udp,
)
from tests.core.direct import GUEST, GUEST6, Direct

MAC = bytes.fromhex("020000000001")
ICMPV6, FRAGMENT, ROUTING, DESTINATION_OPTIONS = 58, 44, 43, 60
MORE = 1
PING = struct.pack("!BBHHH", 128, 0, 0, 1, 1)
DATAGRAM = struct.pack("!HHHH", 1000, 2000, 24, 0x1234)


def fragment(offset: int, data: bytes, *, following: int = UDP, identification: int = 7) -> Ip:
    return Ip(GUEST6, SERVER6, FRAGMENT, struct.pack("!BBHI", following, 0, offset, identification) + data)


# RFC 8200


@pytest.mark.parametrize(
    ("following", "data"),
    [
        (TCP, bytes(8)),
        (TCP, bytes(16)),
        (DESTINATION_OPTIONS, bytes((UDP, 1, 1, 12)) + bytes(4)),
        (DESTINATION_OPTIONS, bytes((UDP, 0, 1, 4, 0, 0, 0, 0))),
        (ROUTING, bytes((TCP, 0, 0, 0, 0, 0, 0, 0)) + bytes(16)),
        (FRAGMENT, struct.pack("!BBHI", UDP, 0, MORE, 1)),
    ],
    ids=["TCP, 8 bytes", "TCP, 16 bytes", "half of the options", "options alone", "TCP behind routing", "fragment"],
)
def test_a_first_fragment_without_all_headers_is_refused(following: int, data: bytes) -> None:
    """4.5, and RFC 7112."""
    bench = Direct()
    bench.send(fragment(MORE, data, following=following))
    [packet] = bench.packets
    assert read_error(packet).kind == (4, 3, 0)
    assert read_error(packet).quoted.payload[8:] == data
    assert bench.drops() == {Reason.IPV6_EXTENSION: 1}
    bench.send(fragment(len(data), bytes(32), following=following))
    assert bench.take() == []


@pytest.mark.parametrize(
    ("following", "data"),
    [
        (UDP, DATAGRAM),
        (ICMPV6, PING),
        (TCP, bytes(24)),
        (59, bytes(8)),
        (132, bytes(8)),
        (DESTINATION_OPTIONS, bytes((UDP, 0, 1, 4, 0, 0, 0, 0)) + DATAGRAM),
    ],
)
def test_a_first_fragment_with_all_headers_waits_for_the_others(following: int, data: bytes) -> None:
    bench = Direct()
    bench.send(fragment(MORE, data, following=following))
    assert (bench.packets, bench.drops()) == ([], {})


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 253])
def test_a_routing_header_without_segments_left_is_skipped(kind: int) -> None:
    """4.4."""
    bench = Direct()
    datagram = udp(GUEST6, 1000, SERVER6, 2000, b"data")
    header = bytes((UDP, 2, kind, 0)) + bytes(20)
    bench.send(Ip(GUEST6, SERVER6, ROUTING, header + datagram.payload))
    opened, sent = bench.take()
    assert isinstance(opened, OpenDatagram)
    assert isinstance(sent, SendDatagram)
    assert bytes(sent.data) == b"data"


def test_an_answer_has_no_routing_header() -> None:
    """8.4."""
    bench = Direct()
    ping = echo_request(GUEST6, GATEWAY6, 1, 2, b"data")
    bench.send(Ip(GUEST6, GATEWAY6, ROUTING, bytes((ICMPV6, 2, 0, 0)) + bytes(4) + SERVER6 + ping.payload))
    [reply] = bench.packets
    assert (reply.source, reply.destination, reply.protocol) == (GATEWAY6, GUEST6, ICMPV6)
    assert reply.payload[8:] == b"data"


@pytest.mark.parametrize("destination", [GATEWAY6, GATEWAY])
def test_the_destination_takes_packets_with_a_hop_limit_of_0(destination: bytes) -> None:
    """RFC 8200, 3; RFC 1122, 3.2.1.7."""
    bench = Direct()
    request = echo_request(GUEST if len(destination) == 4 else GUEST6, destination, 1, 2, b"data")
    bench.send(Ip(request.source, destination, request.protocol, request.payload, ttl=0))
    [reply] = bench.packets
    assert reply.payload[8:] == b"data"


def test_a_packet_in_a_single_fragment_has_nothing_to_do_with_the_others() -> None:
    """4.5, and RFC 6946, for the same identification."""
    datagram = udp(GUEST6, 1000, SERVER6, 2000, bytes(range(16)))
    first, last = fragments(datagram, 16)
    bench = Direct()
    bench.send(first)
    bench.send(fragment(0, datagram.payload))
    bench.send(last)
    assert [bytes(order.data) for order in bench.take() if isinstance(order, SendDatagram)] == [bytes(range(16))] * 2
    assert bench.drops() == {}


def test_packets_in_fragments_have_identifications_of_their_own() -> None:
    """4.5; they cannot be guessed (RFC 7739)."""
    bench = Direct(make_config(LinkConfig(mtu=1280, max_frame_size=1294)))
    for number in range(20):
        bench.send(*fragments(echo_request(GUEST6, GATEWAY6, 1, number, bytes(2000)), 1000, number))
    found = [struct.unpack_from("!BBHI", packet.payload)[2:] for packet in bench.packets]
    firsts = [identification for field, identification in found if field & ~7 == 0]
    assert len(set(firsts)) == 20
    assert len({identification for _, identification in found}) == 20
    assert len({(b - a) % (1 << 32) for a, b in pairwise(firsts)}) == 19


def test_our_fragments_are_multiples_of_8_bytes_and_do_not_overlap() -> None:
    """4.5, and RFC 791, 3.2."""
    for guest, gateway, head in ((GUEST6, GATEWAY6, 8), (GUEST, GATEWAY, 0)):
        bench = Direct(make_config(LinkConfig(mtu=1300, max_frame_size=1314)))
        bench.send(*fragments(echo_request(guest, gateway, 1, 1, bytes(5000)), 1000))
        end = 0
        for packet in bench.packets:
            field = struct.unpack_from("!H", packet.payload, 2)[0] if head else packet.fragment << 3
            size = len(packet.payload) - head
            assert field & 0xFFF8 == end
            more = field & 1 if head else packet.fragment >> 13 & 1
            assert size % 8 == 0 or not more
            end += size
        assert end == 5008


@pytest.mark.parametrize(("guest", "gateway", "fits"), [(GUEST, GATEWAY, 1272), (GUEST6, GATEWAY6, 1252)])
def test_only_a_packet_above_the_mtu_is_sent_in_fragments(guest: bytes, gateway: bytes, fits: int) -> None:
    """4.5."""
    bench = Direct(make_config(LinkConfig(mtu=1300, max_frame_size=1314)))
    for size in (fits, fits + 1):
        bench.send(*fragments(echo_request(guest, gateway, 1, 1, bytes(size)), 1000))
    whole, *parts = bench.packets
    assert len(whole.emit()) == 1300
    assert len(whole.payload) == 8 + fits
    assert [packet.protocol == FRAGMENT or packet.fragment != 0 for packet in parts] == [True, True]


# RFC 4443


def test_an_error_quotes_as_much_as_fits_into_1280_bytes() -> None:
    """2.4 c."""
    bench = Direct()
    bench.send(Ip(GUEST6, SERVER6, 132, bytes(range(250)) * 5))
    [packet] = bench.packets
    assert len(packet.emit()) == 1280
    assert packet.payload[8:] == Ip(GUEST6, SERVER6, 132, bytes(range(250)) * 5).emit()[: 1280 - 48]


def test_a_datagram_to_a_closed_port_of_ours_is_refused() -> None:
    """3.1, code 4; RFC 1122, 4.1.3.1."""
    for guest, gateway, kind in ((GUEST, GATEWAY, (3, 3, 0)), (GUEST6, GATEWAY6, (1, 4, 0))):
        bench = Direct()
        packet = udp(guest, 1000, gateway, 2000, b"data")
        bench.send(packet)
        [answer] = bench.packets
        assert (answer.source, read_error(answer).kind) == (gateway, kind)
        assert read_error(answer).quoted.payload == packet.payload
        assert bench.drops() == {Reason.OWN_ADDRESS: 1}


@pytest.mark.parametrize("kind", [0, 5, 100, 127, 129, 130, 138, 200, 201, 255])
def test_messages_of_unknown_types_have_no_answer(kind: int) -> None:
    """2.4 a and b: there is no upper layer for an unknown error, and an unknown query is discarded."""
    bench = Direct()
    message = Ip(GUEST6, GATEWAY6, ICMPV6, bytes((kind, 0, 0, 0)) + bytes(60))
    bench.send(message)
    assert (bench.packets, bench.take()) == ([], [])


@pytest.mark.parametrize("group", ["ff02::1", "ff02::2"])
def test_a_ping_to_a_group_is_answered_from_our_address(group: str) -> None:
    """2.2 b and 4.2."""
    bench = Direct()
    bench.send(echo_request(GUEST6, parse(group), 7, 9, b"data"))
    [reply] = bench.packets
    assert (reply.source, reply.destination) == (GATEWAY6, GUEST6)
    assert reply.payload[:1] + reply.payload[4:] == bytes((129, 0, 7, 0, 9)) + b"data"


# RFC 6980


@pytest.mark.parametrize("mtu", [576, 1280, 1500, 65520])
def test_messages_of_neighbour_discovery_are_not_fragmented_at_any_mtu(mtu: int) -> None:
    """5, however much there is to advertise."""
    config = replace(
        make_config(LinkConfig(mtu=mtu, max_frame_size=mtu + 14)),
        router_advertisements=True,
        dns_servers=tuple(parse(f"2001:db8::{number:x}") for number in range(1, 100)),
        dns_search=tuple(f"{number:050}.example.org" for number in range(20)),
    )
    bench = Direct(config)
    bench.send(router_solicitation(GUEST6, bytes(6)))
    assert [(packet.protocol, packet.payload[0]) for packet in bench.packets] == [(ICMPV6, 134)]
    assert len(bench.packets[0].emit()) <= min(mtu, 1280)


# RFC 1122


def test_a_request_of_any_size_is_answered_whole() -> None:
    """3.2.2.6."""
    bench = Direct()
    data = bytes(range(250)) * 262
    bench.send(*fragments(echo_request(GUEST, GATEWAY, 1, 2, data), 1480))
    assert {packet.source for packet in bench.packets} == {GATEWAY}
    reply = b"".join(packet.payload for packet in bench.packets)
    assert reply[:2] + reply[4:8] == bytes((0, 0, 0, 1, 0, 2))
    assert reply[8:] == data


@pytest.mark.parametrize(
    ("guest", "neighbour"),
    [(GUEST, parse("10.0.2.99")), (GUEST6, parse("2001:db8::99")), (GUEST, SERVER), (GUEST6, SERVER6)],
)
def test_no_redirect_is_sent(guest: bytes, neighbour: bytes) -> None:
    """3.2.2.2, and RFC 4861, 8.2: not even about an address of the guest's own link."""
    bench = Direct()
    for _ in range(3):
        bench.send(udp(guest, 1000, neighbour, 2000, b"data"), echo_request(guest, neighbour, 1, 1, b"data"))
    assert bench.packets == []


@pytest.mark.parametrize("ttl", [1, 2])
def test_a_ttl_below_2_is_no_reason_to_drop(ttl: int) -> None:
    """3.2.1.7: we are no router, and the packet leaves with its TTL."""
    bench = Direct()
    packet = udp(GUEST, 1000, SERVER, 2000, b"data")
    bench.send(Ip(GUEST, SERVER, UDP, packet.payload, ttl=ttl))
    _, sent = bench.take()
    assert isinstance(sent, SendDatagram)
    assert sent.ttl == ttl


def test_an_error_quotes_the_header_and_8_bytes_at_least() -> None:
    """3.2.2."""
    bench = Direct()
    packet = Ip(GUEST, SERVER, 132, bytes(range(100)))
    bench.send(packet)
    [error] = bench.packets
    assert error.payload[8:] == packet.emit()
    assert len(error.emit()) <= 576


@pytest.mark.parametrize("kind", [4, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
def test_other_messages_of_icmp_have_no_answer(kind: int) -> None:
    """3.2.2.2 to 3.2.2.9: redirects, time stamps, masks and what is obsolete."""
    bench = Direct()
    bench.send(Ip(GUEST, GATEWAY, 1, bytes((kind, 0, 0, 0)) + bytes(60)))
    assert (bench.packets, bench.take()) == ([], [])


# RFC 4861


@pytest.mark.parametrize("gateway", ["2001:db8::1", "::1", "ff02::1", "fd00::1"])
def test_a_router_that_guests_would_ignore_is_an_error(gateway: str) -> None:
    """4.2 and 6.1.2: hosts take advertisements from link-local addresses only."""
    with pytest.raises(ConfigError, match=f"ipv6.gateway: .* {gateway}, which is not link-local"):
        NetworkConfig(ipv6=Ipv6Config(address="2001:db8::15", gateway=gateway))
    NetworkConfig(ipv6=Ipv6Config(address="2001:db8::15", gateway=gateway), router_advertisements=False)
    NetworkConfig(ipv6=Ipv6Config(address="2001:db8::15", gateway="fe80::1"))


# RFC 8200 and 4443, again


@pytest.mark.parametrize("header", [0, DESTINATION_OPTIONS])
def test_an_unknown_option_01_is_not_reported(header: int) -> None:
    """RFC 8200, 4.2."""
    bench = Direct()
    datagram = udp(GUEST6, 1000, SERVER6, 2000, b"data").payload
    bench.send(Ip(GUEST6, SERVER6, header, bytes((UDP, 0, 0x5E, 4, 0, 0, 0, 0)) + datagram))
    assert (bench.packets, bench.take()) == ([], [])
    assert bench.drops() == {Reason.IPV6_EXTENSION: 1}


@pytest.mark.parametrize(
    "padding", [bytes(6), bytes((1, 4, 0, 0, 0, 0)), bytes((0, 1, 3, 0, 0, 0)), bytes((1, 3, 9, 9, 9, 0))]
)
def test_padding_of_options_is_skipped(padding: bytes) -> None:
    """RFC 8200, 4.2: Pad1 has no length."""
    bench = Direct()
    datagram = udp(GUEST6, 1000, SERVER6, 2000, b"data").payload
    bench.send(Ip(GUEST6, SERVER6, DESTINATION_OPTIONS, bytes((UDP, 0)) + padding + datagram))
    _, sent = bench.take()
    assert isinstance(sent, SendDatagram)
    assert bytes(sent.data) == b"data"


def test_fragments_of_different_packets_are_not_joined() -> None:
    """RFC 8200, 4.5: source, destination and identification must agree."""
    bench = Direct()
    other = parse("2001:db8::16")
    packets = [
        (udp(GUEST6, 1000, SERVER6, 2000, b"a" * 16), 1),
        (udp(GUEST6, 1000, SERVER6, 2000, b"b" * 16), 2),
        (udp(other, 1000, SERVER6, 2000, b"c" * 16), 1),
        (udp(GUEST6, 1000, parse("2001:db8:ffff::81"), 2000, b"d" * 16), 1),
    ]
    parts = [fragments(packet, 16, identification) for packet, identification in packets]
    bench.send(*(part for pieces in zip(*parts, strict=True) for part in pieces))
    sent = [bytes(order.data) for order in bench.take() if isinstance(order, SendDatagram)]
    assert sent == [letter * 16 for letter in (b"a", b"b", b"c", b"d")]


@pytest.mark.parametrize(("mtu", "reported"), [(0, 1280), (576, 1280), (1280, 1280), (1281, 1281), (9000, 9000)])
def test_no_mtu_below_1280_is_reported(mtu: int, reported: int) -> None:
    """RFC 4443, 3.2, and RFC 8201, 4."""
    found = for_extended_error(ExtendedError(EMSGSIZE, ORIGIN_LOCAL, 0, 0, mtu, None), 6)
    assert found is not None
    assert tuple(found) == (2, 0, reported)


@pytest.mark.parametrize("destination", [GATEWAY, GATEWAY6])
def test_all_data_of_a_ping_comes_back(destination: bytes) -> None:
    """RFC 1122, 3.2.2.6, and RFC 4443, 4.2."""
    bench = Direct()
    data = bytes(range(250)) * 4
    bench.send(echo_request(GUEST if len(destination) == 4 else GUEST6, destination, 7, 9, data))
    [reply] = bench.packets
    assert reply.payload[4:] == bytes((0, 7, 0, 9)) + data


@pytest.mark.parametrize(
    "solicitation", [neighbor_solicitation(GUEST6, GATEWAY6, MAC), router_solicitation(GUEST6, MAC)]
)
def test_the_reserved_field_of_a_solicitation_is_ignored(solicitation: Ip) -> None:
    """RFC 4861, 4.1 and 4.3."""
    answers = []
    for reserved in (bytes(4), b"\xff" * 4):
        bench = Direct(replace(make_config(), router_advertisements=True))
        bench.wait(100)
        bench.packets.clear()
        bench.send(
            dataclasses.replace(solicitation, payload=solicitation.payload[:4] + reserved + solicitation.payload[8:])
        )
        answers.append(bench.packets)
    assert answers[0] == answers[1] != []
