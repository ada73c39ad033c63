"""Packets that get an error or a reset, and packets that must not get one (RFC 1122, 4291, 4443, 6980, 8200)."""

from __future__ import annotations

import struct

import pytest

from sansnet_core import Ipv4Config, Limits, NetworkConfig, Reason
from sansnet_core.addresses import format, parse
from sansnet_core.testing import (
    GATEWAY,
    GATEWAY6,
    SERVER,
    SERVER6,
    ErrorMessage,
    GuestStack,
    Pair,
    make_config,
    read_error,
)
from sansnet_core.testing.packets import (
    ACK,
    IPV4,
    IPV6,
    PSH,
    Ip,
    Segment,
    dhcp_discover,
    ethernet,
    fragments,
    icmp,
    neighbor_solicitation,
    read_ip,
    router_solicitation,
    udp,
)

GUEST, GUEST6, MAC = GuestStack().ipv4, GuestStack().ipv6, GuestStack().mac
GROUP = bytes.fromhex("ff0200000000000000000000000000fb")
UDP, ICMPV6, ROUTING, FRAGMENT, OPTIONS = 17, 58, 43, 44, 60
TIMEOUT = 31.0


def _errors(pair: Pair) -> list[ErrorMessage]:
    frames, pair.guest.others = pair.guest.others, []
    return [read_error(read_ip(frame)) for frame in frames]


def _told(pair: Pair, packet: Ip, *, to_many: bool = False) -> list[ErrorMessage]:
    _send(pair, packet, to_many=to_many)
    return _errors(pair)


def _send(pair: Pair, packet: Ip, *, to_many: bool = False) -> None:
    destination = b"\xff" * 6 if to_many else pair.config.mac
    ethertype = IPV4 if packet.version == 4 else IPV6
    pair.network.receive_frames([ethernet(destination, MAC, ethertype, packet.emit())], pair.now)
    pair._outputs(pair.now)
    pair.settle()


def _with_header(kind: int, header: bytes, *, destination: bytes = SERVER6, source: bytes = GUEST6) -> Ip:
    """A datagram behind one extension header, whose first byte is left out."""
    datagram = udp(source, 1000, destination, 2000, b"data")
    return Ip(source, destination, kind, bytes((UDP,)) + header + datagram.payload)


def _option(kind: int) -> bytes:
    return bytes((0, 1, 0, kind, 2, 0, 0))


@pytest.mark.parametrize("header", [0, OPTIONS])
@pytest.mark.parametrize("kind", [0x80, 0xBF, 0xC3, 0xFE])
def test_an_unknown_option_is_pointed_at(header: int, kind: int) -> None:
    """RFC 8200, 4.2: the types 10xxxxxx and 11xxxxxx."""
    packet = _with_header(header, _option(kind))
    pair = Pair()
    [message] = _told(pair, packet)
    assert message.kind == (4, 2, 44)
    assert message.sender == GATEWAY6
    assert packet.emit()[44] == kind
    assert message.quoted == packet
    assert pair.network.statistics().drops == {Reason.IPV6_EXTENSION: 1}


@pytest.mark.parametrize(("kind", "count"), [(0x1E, 0), (0x40, 0), (0x80, 1), (0xC0, 0)])
@pytest.mark.parametrize("to_many", [False, True], ids=["to a group", "in a frame to many"])
def test_an_unknown_option_of_a_packet_to_many(kind: int, count: int, to_many: bool) -> None:
    """Only 10xxxxxx is reported (RFC 4443, 2.4 e); 00xxxxxx is skipped, and 01xxxxxx dropped silently."""
    packet = _with_header(OPTIONS, _option(kind), destination=SERVER6 if to_many else GROUP)

    assert len(_told(Pair(), packet, to_many=to_many)) == count


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 253])
def test_a_routing_header_with_segments_left_is_pointed_at(kind: int) -> None:
    """RFC 8200, 4.4; RFC 5095 for type 0."""
    packet = _with_header(ROUTING, bytes((0, kind, 1, 0, 0, 0, 0)))
    [message] = _told(Pair(), packet)
    assert message.kind == (4, 0, 42)
    assert _told(Pair(), _with_header(ROUTING, bytes((0, kind, 1, 0, 0, 0, 0)), destination=GROUP)) == []


def test_hop_by_hop_options_that_are_not_first_are_pointed_at() -> None:
    """RFC 8200, 4."""
    hop_by_hop = bytes((UDP, 0, 1, 4, 0, 0, 0, 0)) + udp(GUEST6, 1, SERVER6, 2, b"x").payload
    packet = Ip(GUEST6, SERVER6, OPTIONS, bytes((0, 0, 1, 4, 0, 0, 0, 0)) + hop_by_hop)
    [message] = _told(Pair(), packet)
    assert message.kind == (4, 1, 40)


def _fragment(offset: int, more: bool, data: bytes, *, following: int = UDP, destination: bytes = SERVER6) -> Ip:
    return Ip(GUEST6, destination, FRAGMENT, struct.pack("!BBHI", following, 0, offset | more, 7) + data)


@pytest.mark.parametrize("offset", [0, 8, 65528])
def test_a_fragment_of_an_odd_length_is_pointed_at(offset: int) -> None:
    """RFC 8200, 4.5."""
    [message] = _told(Pair(), _fragment(offset, True, bytes(9)))
    assert message.kind == (4, 0, 4)


def test_a_fragment_beyond_what_a_packet_can_be_is_pointed_at() -> None:
    pair = Pair()
    [message] = _told(pair, _fragment(65528, False, bytes(8)))
    assert message.kind == (4, 0, 42)
    assert pair.network.statistics().drops == {Reason.FRAGMENT_MALFORMED: 1}


@pytest.mark.parametrize("source", ["::", "::1", "ff02::1", "::ffff:10.0.2.15", format(GATEWAY6)])
def test_a_packet_without_a_single_sender_is_not_answered(source: str) -> None:
    assert _told(Pair(), _with_header(OPTIONS, _option(0x80), source=parse(source))) == []


NO_NODES4 = ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255", format(GATEWAY))
NO_NODES6 = ("::", "::1", "::ffff:127.0.0.1", "ff02::1", format(GATEWAY6))


@pytest.mark.parametrize("source", [*NO_NODES4, *NO_NODES6])
def test_fragments_that_no_node_can_send_are_not_answered(source: str) -> None:
    pair, address = Pair(), parse(source)
    destination = SERVER if len(address) == 4 else SERVER6
    first, *_ = fragments(udp(address, 1000, destination, 2000, bytes(3000)), 1200)
    assert _told(pair, first) == []
    assert pair.network.statistics().drops == {Reason.IP_SOURCE: 1}
    pair.wait(TIMEOUT)
    assert _errors(pair) == []


@pytest.mark.parametrize("kind", [1, 3, 127, 137])
def test_an_error_with_a_bad_header_is_not_answered(kind: int) -> None:
    error = icmp(GUEST6, SERVER6, kind, 0, bytes(60))
    packet = Ip(GUEST6, SERVER6, OPTIONS, bytes((ICMPV6,)) + _option(0x80) + error.payload)
    assert _told(Pair(), packet) == []
    ping = icmp(GUEST6, SERVER6, 128, 0, bytes(60))
    packet = Ip(GUEST6, SERVER6, OPTIONS, bytes((ICMPV6,)) + _option(0x80) + ping.payload)
    assert len(_told(Pair(), packet)) == 1


def test_problems_are_told_at_a_limited_rate() -> None:
    pair = Pair(make_config(limits=Limits(icmp_error_burst=5)))
    told = sum(len(_told(pair, _with_header(OPTIONS, _option(0x80)))) for _ in range(50))
    assert told == 5


@pytest.mark.parametrize("options", [False, True], ids=["plain", "behind options"])
def test_a_fragmented_error_that_is_never_whole_is_not_answered(options: bool) -> None:
    """RFC 4443, 2.4 e."""
    error = icmp(GUEST6, SERVER6, 1, 0, bytes(60)).payload
    data = bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0)) + error if options else error
    pair = Pair()
    _send(pair, _fragment(0, True, data[:40], following=OPTIONS if options else ICMPV6))
    pair.wait(TIMEOUT)
    assert pair.network.statistics().drops == {Reason.FRAGMENT_TIMEOUT: 1}

    assert _errors(pair) == []


def test_a_fragmented_ping_behind_options_that_is_never_whole_is_answered() -> None:
    ping = icmp(GUEST6, SERVER6, 128, 0, bytes(60)).payload
    pair = Pair()
    _send(pair, _fragment(0, True, bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0)) + ping[:40], following=OPTIONS))
    pair.wait(TIMEOUT)
    [message] = _errors(pair)

    assert message.kind[:2] == (3, 1)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("which", [0, 1], ids=["first", "last"])
def test_fragments_in_frames_to_many_bring_no_error(family: int, which: int) -> None:
    """Each one is dropped, and the datagram never complete (RFC 1122, 3.2.2 and 3.3.6)."""
    guest, server = (GUEST, SERVER) if family == 4 else (GUEST6, SERVER6)
    pair = Pair()
    parts = fragments(Ip(guest, server, 132, bytes(200)), 104)
    for number, part in enumerate(parts):
        _send(pair, part, to_many=number == which)
    assert _errors(pair) == []
    pair.wait(TIMEOUT)
    assert pair.network.statistics().drops == {Reason.IP_BROADCAST: 1, Reason.FRAGMENT_TIMEOUT: 1}
    assert [message.kind[1] for message in _errors(pair)] == [1] * which
    for part in parts:
        _send(pair, part)
    assert len(_errors(pair)) == 1


@pytest.mark.parametrize(
    "destination",
    [
        "::",
        "::1",
        "ff01::1",
        "ff00::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "10.0.2.255",
        "255.255.255.255",
    ],
)
def test_no_reset_comes_from_an_address_that_no_packet_comes_from(destination: str) -> None:
    pair = Pair()
    remote = parse(destination)
    guest = GUEST if len(remote) == 4 else GUEST6
    for flags in (ACK, PSH):
        _send(pair, Segment(guest, 4000, remote, 80, 5, 6, flags).ip())
    assert pair.guest.strays == []


@pytest.mark.parametrize("destination", ["0.0.0.0", "127.0.0.1"])
def test_without_a_gateway_no_error_comes_from_such_an_address(destination: str) -> None:
    config = NetworkConfig(ipv4=Ipv4Config(address=GUEST, prefix_length=24, gateway=None), guest_mac=MAC)
    pair = Pair(config)
    assert _told(pair, udp(GUEST, 1, parse(destination), 2, b"x")) == []
    assert len(_told(pair, udp(GUEST, 1, parse("240.0.0.1"), 2, b"x"))) == 1


def test_solicitations_with_a_fragment_header_are_ignored() -> None:
    """RFC 6980, 5: in fragments, and in a single one."""
    for packet in (neighbor_solicitation(GUEST6, GATEWAY6, MAC), router_solicitation(GUEST6, MAC)):
        for size in (8, 16, 64):
            pair = Pair()
            for part in fragments(packet, size):
                _send(pair, part)
            assert pair.guest.others == []
            assert pair.network.statistics().drops == {Reason.NDP_MALFORMED: 1}
    pair = Pair()
    _send(pair, neighbor_solicitation(GUEST6, GATEWAY6, MAC))
    assert len(pair.sent) == 1


@pytest.mark.parametrize("place", [12, 24], ids=["client's address", "relay's address"])
@pytest.mark.parametrize("address", ["224.0.0.1", "127.0.0.1", "10.0.2.255", "239.1.2.3"])
def test_dhcp_does_not_answer_to_an_address_that_no_node_has(place: int, address: str) -> None:
    discover = dhcp_discover(MAC, kind=8 if place == 12 else 1)  # INFORM, DISCOVER
    message = bytearray(discover.payload[8:])
    message[place : place + 4] = parse(address)
    pair = Pair()
    source = bytes(4) if place == 24 else GUEST
    pair.guest.send(udp(source, 68, b"\xff" * 4, 67, bytes(message)))
    pair.settle()
    assert pair.sent == []
    assert pair.network.statistics().drops == {Reason.DHCP_IGNORED: 1}
