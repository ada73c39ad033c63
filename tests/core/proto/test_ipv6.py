from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.config import Ipv6Config, NetworkConfig
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.ipv6 import Ipv6
from sansnet_core.wire import ipv6, udp
from sansnet_core.wire.ethernet import ETHERTYPE_IPV6
from sansnet_core.wire.ip import ICMPV6, TCP, UDP, IpHeader
from tests.core.vectors import ANY_FRAME, frames

GUEST, REMOTE = address("2001:db8:2::15"), address("2001:db8::7")
LINK_LOCAL = address("fe80::15")
CONFIG = NetworkConfig(ipv6=Ipv6Config(address=GUEST, gateway=address("fe80::1")))
DESTINATION_OPTIONS = 60
MORE = ipv6.MORE_FRAGMENTS


class Bench:
    """An `Ipv6` that passes UDP and ICMPv6 to a list."""

    def __init__(self) -> None:
        self.context = Context(CONFIG, now=0.0, secret=bytes(16))
        self.received: list[tuple[IpHeader, Buffer]] = []
        self.ipv6 = Ipv6(self.context, IcmpErrors(self.context), dict.fromkeys((UDP, ICMPV6), self.take))

    def take(self, ip: IpHeader, buf: Buffer) -> None:
        self.received.append((ip, buf))

    def receive(self, packet: bytes) -> None:
        self.ipv6.receive(bytes(14) + packet, 14, 14 + len(packet))

    def known(self) -> set[bytes | None]:
        return {self.context.guest.ipv6, self.context.guest.link_local}

    def refused(self, packet: bytes) -> Reason:
        with pytest.raises(Malformed) as caught:
            self.receive(packet)
        assert self.received == []
        return caught.value.reason


def packet(source: bytes = GUEST, payload: bytes = b"payload!", protocol: int = UDP) -> bytes:
    return ipv6.emit_header(source, REMOTE, protocol, len(payload), 64, 0) + payload


def fragment(field: int, payload: bytes = b"payload!", following: int = UDP, source: bytes = GUEST) -> bytes:
    return packet(source, ipv6.FRAGMENT_HEADER.pack(following, 0, field, 7) + payload, ipv6.FRAGMENT)


def test_a_packet_goes_to_the_handler_of_its_protocol_in_its_own_frame() -> None:
    bench = Bench()
    bench.receive(packet())
    [(ip, buf)] = bench.received
    assert ip == IpHeader(6, GUEST, REMOTE, UDP, 64, 0, 14, 54, 62)
    assert buf == bytes(14) + packet()


def test_a_protocol_without_a_handler_is_refused() -> None:
    assert Bench().refused(packet(protocol=TCP)) is Reason.IP_PROTOCOL


@pytest.mark.parametrize("source", ["::1", "ff02::1", "::ffff:127.0.0.1", "::192.0.2.1", "::"])
def test_a_source_that_no_guest_may_use_is_refused(source: str) -> None:
    bench = Bench()
    assert bench.refused(packet(address(source))) is Reason.IP_SOURCE
    assert bench.context.guest.ipv6 == GUEST


def test_no_packet_of_a_guest_comes_from_an_address_of_ours() -> None:
    bench = Bench()
    assert bench.refused(packet(address("fe80::1"))) is Reason.IP_SOURCE
    assert bench.known() == {GUEST, None}


def test_without_an_address_a_guest_speaks_ndp() -> None:
    bench = Bench()
    bench.receive(packet(address("::"), protocol=ICMPV6))
    assert len(bench.received) == 1
    assert bench.context.guest.ipv6 == GUEST


def test_the_guests_addresses_are_those_of_its_latest_packets() -> None:
    bench = Bench()
    assert bench.known() == {GUEST, None}
    other = address("2001:db8:2::99")
    bench.receive(packet(LINK_LOCAL))
    bench.receive(packet(other))
    assert bench.known() == {other, LINK_LOCAL}
    bench.receive(packet(LINK_LOCAL))
    bench.receive(packet(GUEST))
    assert bench.known() == {GUEST, LINK_LOCAL}


def test_the_fragments_of_linux_become_datagrams() -> None:
    bench = Bench()
    pieces = [frame for frame in frames(ETHERTYPE_IPV6) if ipv6.parse(frame, 14, len(frame))[2]]
    for frame in reversed(pieces):
        bench.ipv6.receive(frame, 14, len(frame))
    datas = []
    for ip, buf in bench.received:
        datagram = udp.parse(buf, ip, True)
        datas.append(buf[datagram.start : datagram.end])
    assert datas == [(bytes(range(256)) * 12)[::-1], bytes(range(256)) * 12]
    assert [(ip.header, ip.start, ip.end) for ip, _ in bench.received] == [(14, 54, 3134)] * 2


def test_extension_headers_behind_the_fragment_header_are_walked_once_the_packet_is_whole() -> None:
    bench = Bench()
    options = bytes([UDP, 1, 1, 12]) + bytes(12)
    bench.receive(fragment(MORE, options + b"payload!", DESTINATION_OPTIONS))
    bench.receive(fragment(24, b"the rest", DESTINATION_OPTIONS))
    [(ip, buf)] = bench.received
    assert ip.protocol == UDP
    assert buf[ip.start : ip.end] == b"payload!the rest"


def test_the_next_header_of_the_first_fragment_counts() -> None:
    bench = Bench()
    bench.receive(fragment(8, following=TCP))
    bench.receive(fragment(MORE))
    assert [ip.protocol for ip, _ in bench.received] == [UDP]


def test_fragments_of_fragments_are_refused() -> None:
    bench = Bench()
    inner = ipv6.FRAGMENT_HEADER.pack(UDP, 0, MORE, 8) + b"payload!"
    bench.receive(fragment(MORE, inner, ipv6.FRAGMENT))
    assert bench.refused(fragment(16, b"the rest", ipv6.FRAGMENT)) is Reason.IPV6_EXTENSION


def test_a_datagram_too_large_for_ip_is_refused() -> None:
    assert Bench().refused(fragment(0xFFF8)) is Reason.FRAGMENT_MALFORMED


def test_the_source_of_each_fragment_is_checked() -> None:
    bench = Bench()
    loopback = address("::1")
    for offset in (MORE, 8):
        assert bench.refused(fragment(offset, source=loopback)) is Reason.IP_SOURCE
    assert bench.received == []


def test_the_offload_of_the_last_fragments_frame_is_not_the_datagrams() -> None:
    bench = Bench()
    bench.receive(fragment(MORE))
    bench.context.gso_size = 1
    bench.receive(fragment(8))
    assert len(bench.received) == 1
    assert bench.context.gso_size == 0


@given(ANY_FRAME, st.booleans())
def test_any_bytes_are_handed_on_or_malformed(frame: bytes, view: bool) -> None:
    bench = Bench()
    start = min(14, len(frame))
    try:
        bench.ipv6.receive(memoryview(frame) if view else frame, start, len(frame))
    except Malformed:
        assert bench.received == []
