"""Endpoints of dropped packets, as reported to users."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Dropped, Endpoint, Limits, Reason
from sansnet_core.addresses import parse
from sansnet_core.dropped import HEAD, KEPT, read
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY6, OUTSIDER, SERVER, Pair, make_config, packets
from sansnet_core.testing.packets import Ip, echo_request, icmp, udp

GUEST = bytes((10, 0, 2, 15))
GUEST6 = parse("2001:db8::15")
LOCAL6 = parse("fe80::15")
ALL_NODES = parse("ff02::1")
LOOPBACK = bytes((127, 0, 0, 1))
BROADCAST = b"\xff" * 4
TCP, UDP = 6, 17


def frame(packet: Ip) -> bytes:
    return bytes(12) + (b"\x08\x00" if packet.version == 4 else b"\x86\xdd") + packet.emit()


def last(pair: Pair, reason: Reason) -> list[str]:
    return [str(packet) for packet in pair.network.statistics().last_drops[reason]]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (udp(GUEST, 4000, SERVER, 53, b"x"), "udp 10.0.2.15:4000 to 192.0.2.80:53"),
        (udp(GUEST6, 4000, GATEWAY6, 53, b"x"), "udp [2001:db8::15]:4000 to [fe80::aaaa]:53"),
        (Ip(GUEST, SERVER, TCP, struct.pack("!HH", 1, 2)), "tcp 10.0.2.15:1 to 192.0.2.80:2"),
        (Ip(GUEST, SERVER, TCP, b"\0\1\0"), "tcp 10.0.2.15 to 192.0.2.80"),
        (echo_request(GUEST, SERVER, 7, 1, b""), "icmp 10.0.2.15 to 192.0.2.80"),
        (icmp(GUEST6, ALL_NODES, 139, 0, bytes(20)), "icmpv6 2001:db8::15 to ff02::1"),
        (Ip(GUEST, SERVER, 132, bytes(8)), "protocol 132 10.0.2.15 to 192.0.2.80"),
        (Ip(GUEST6, ALL_NODES, 60, b"\x11\0" + bytes(6) + b"\0\1\0\2"), "udp [2001:db8::15]:1 to [ff02::1]:2"),
        (Ip(GUEST6, ALL_NODES, 44, b"\x11\0\0\1" + bytes(4) + b"\0\1\0\2"), "udp [2001:db8::15]:1 to [ff02::1]:2"),
        (Ip(GUEST6, ALL_NODES, 44, b"\x11\0\0\x08" + bytes(4) + b"\0\1\0\2"), "udp 2001:db8::15 to ff02::1"),
    ],
)
def test_ends_are_read_from_a_frames_head(packet: Ip, text: str) -> None:
    assert str(read(frame(packet)[:HEAD])) == text


def test_a_header_of_a_wrong_length_has_no_ports() -> None:
    head = bytearray(frame(udp(GUEST, 4000, SERVER, 53, b"x")))
    head[14] = 0x41
    assert str(read(bytes(head))) == "udp 10.0.2.15 to 192.0.2.80"


def test_what_is_no_ip_packet_has_ethernet_addresses() -> None:
    head = bytes.fromhex("0200000000020200000000018137") + bytes(20)
    assert str(read(head)) == "ethernet 02:00:00:00:00:01 to 02:00:00:00:00:02"
    assert read(head[:13]) is None


@given(st.binary(max_size=HEAD), st.sampled_from([b"", b"\x08\x00", b"\x86\xdd"]))
def test_whatever_the_bytes_are_they_can_be_read_and_shown(rest: bytes, ethertype: bytes) -> None:
    assert str(read(bytes(12) + ethertype + rest))


def test_a_drop_says_between_whom_and_the_last_few_of_a_reason_are_kept() -> None:
    pair = Pair()
    for port in range(101, 201):
        pair.guest.send(udp(GUEST, 4000, LOOPBACK, port, b"x"))
    pair.settle()
    assert pair.network.statistics().drops == {Reason.IP_DESTINATION: 100}
    assert last(pair, Reason.IP_DESTINATION) == [
        f"udp 10.0.2.15:4000 to 127.0.0.1:{port}" for port in range(201 - KEPT, 201)
    ]


def test_equal_ones_count_once() -> None:
    pair = Pair()
    for _ in range(3):
        pair.guest.send(udp(GUEST, 4000, LOOPBACK, 53, b"x"))
    pair.settle()
    [packet] = pair.network.statistics().last_drops[Reason.IP_DESTINATION]
    assert packet == Dropped(UDP, Endpoint(GUEST, 4000), Endpoint(LOOPBACK, 53))


def test_what_is_kept_of_a_hostile_frame_is_bounded() -> None:
    pair = Pair()
    for _ in range(10):
        pair.guest.send_frame(pair.config.mac + pair.guest.mac + b"\x81\x37" + bytes(1400))
    pair.settle()
    kept = pair.network._context.last_drops[Reason.ETHERNET_TYPE]
    assert len(kept) == KEPT
    assert {len(one) for one in kept} == {HEAD}


def test_packets_from_outside_are_named_too() -> None:
    pair = Pair(replace(make_config(), tcp=False))
    assert pair.network.stream_accepted(OUTSIDER, None, 80, pair.now) is None
    assert last(pair, Reason.PROTOCOL_CLOSED) == ["tcp 198.51.100.7:34567 to 0.0.0.0:80"]
    pair = Pair(make_config(limits=Limits(tcp_flows=1)))
    pair.established()
    assert pair.network.stream_accepted(OUTSIDER, None, 80, pair.now) is None
    assert last(pair, Reason.TCP_LIMIT) == ["tcp 198.51.100.7:34567 to 10.0.2.15:80"]


# frames that every guest sends


@pytest.mark.parametrize(
    "packet",
    [
        icmp(LOCAL6, ALL_NODES, 131, 0, bytes(20)),
        icmp(LOCAL6, ALL_NODES, 143, 0, bytes(20)),
        icmp(bytes(16), ALL_NODES, 143, 0, bytes(20)),
        Ip(GUEST, bytes((224, 0, 0, 22)), 2, bytes(8)),
        Ip(bytes(4), bytes((224, 0, 0, 22)), 2, bytes(8)),
        icmp(LOCAL6, parse("ff02::2"), 133, 0, bytes(4), ttl=255),
        icmp(LOCAL6, ALL_NODES, 136, 0, bytes(20), ttl=255),
    ],
    ids=["MLD", "MLDv2", "MLD without an address", "IGMP", "IGMP without an address", "RS", "NA"],
)
def test_routine_messages_are_no_drops(packet: Ip) -> None:
    pair = Pair()
    pair.guest.send(packet)
    pair.settle()
    statistics = pair.network.statistics()
    assert (statistics.drops, statistics.ignored) == ({}, 1)
    assert pair.host.orders == []


@pytest.mark.parametrize(
    "packet",
    [
        udp(bytes(4), 68, BROADCAST, 67, b"discover"),
        udp(LOCAL6, 546, parse("ff02::1:2"), 547, b"solicit"),
        icmp(LOCAL6, parse("ff02::2"), 133, 0, bytes(4), ttl=255),
        icmp(LOCAL6, parse("ff02::1:ff00:1"), 135, 0, bytes(20), ttl=255),
    ],
    ids=["DHCP", "DHCPv6", "RS", "NS"],
)
def test_what_looks_for_services_that_are_off_is_no_drop(packet: Ip) -> None:
    pair = Pair(replace(make_config(), dhcp=False, dhcp6=False, ndp=False, udp=False))
    pair.guest.send(packet)
    pair.settle()
    statistics = pair.network.statistics()
    assert (statistics.drops, statistics.ignored) == ({}, 1)
    assert pair.host.orders == []


@pytest.mark.parametrize(
    ("header", "is_routine"),
    [
        ("333300000002 020000000001 86dd", True),
        ("9a559a559a55 020000000001 86dd", False),
        ("ffffffffffff 020000000001 8137", False),
        ("0180c2000000 020000000001 0026", True),
        ("0180c200000e 020000000001 88cc", True),
        ("0180c2000010 020000000001 88cc", False),
    ],
)
def test_frames_that_nobody_takes(header: str, is_routine: bool) -> None:
    pair = Pair(replace(make_config(), ipv6=None))
    pair.guest.send_frame(bytes.fromhex(header) + bytes(46))
    pair.settle()
    statistics = pair.network.statistics()
    assert statistics.ignored == is_routine
    assert statistics.drops == ({} if is_routine else {Reason.ETHERNET_TYPE: 1})


def test_a_probe_of_arp_is_no_drop() -> None:
    pair = Pair()
    arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + pair.guest.mac + bytes(4) + bytes(6) + GUEST
    pair.guest.send_frame(b"\xff" * 6 + pair.guest.mac + struct.pack("!H", packets.ARP) + arp)
    pair.settle()
    statistics = pair.network.statistics()
    assert (statistics.drops, statistics.ignored) == ({}, 1)
