from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import Endpoint
from sansnet_core.addresses import parse as address
from sansnet_core.config import Ipv4Config, Ipv6Config, NetworkConfig
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.ipv4 import Ipv4
from sansnet_core.wire import ipv4, udp
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4
from sansnet_core.wire.ip import TCP, UDP, IpHeader
from tests.core.vectors import ANY_FRAME, frames

GUEST, REMOTE = address("10.0.2.15"), address("192.0.2.7")
CONFIG = NetworkConfig(ipv4=Ipv4Config(address=GUEST, prefix_length=24, gateway=None))


class Bench:
    """An `Ipv4` that passes UDP to a list."""

    def __init__(self, config: NetworkConfig = CONFIG) -> None:
        self.context = Context(config, now=0.0, secret=bytes(16))
        self.received: list[tuple[IpHeader, Buffer]] = []
        self.ipv4 = Ipv4(self.context, IcmpErrors(self.context), {UDP: lambda ip, buf: self.received.append((ip, buf))})

    def receive(self, packet: bytes) -> None:
        self.ipv4.receive(bytes(14) + packet, 14, 14 + len(packet))

    def refused(self, packet: bytes) -> Reason:
        with pytest.raises(Malformed) as caught:
            self.receive(packet)
        assert self.received == []
        return caught.value.reason


def packet(source: bytes = GUEST, payload: bytes = b"payload!", fragment: int = 0, protocol: int = UDP) -> bytes:
    return ipv4.emit_header(source, REMOTE, protocol, len(payload), 64, 0, 7, fragment) + payload


def test_a_packet_goes_to_the_handler_of_its_protocol_in_its_own_frame() -> None:
    bench = Bench()
    bench.receive(packet())
    [(ip, buf)] = bench.received
    assert ip == IpHeader(4, GUEST, REMOTE, UDP, 64, 0, 14, 34, 42, may_fragment=True)
    assert buf == bytes(14) + packet()


def test_a_protocol_without_a_handler_is_refused() -> None:
    assert Bench().refused(packet(protocol=TCP)) is Reason.IP_PROTOCOL


def test_the_header_checksum_is_always_verified() -> None:
    data = packet()
    assert Bench().refused(data[:8] + b"\1" + data[9:]) is Reason.IPV4_CHECKSUM


@pytest.mark.parametrize(
    "source",
    ["0.1.2.3", "127.0.0.1", "127.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255", "10.0.2.255", "0.0.0.0"],
)
def test_a_source_that_no_guest_may_use_is_refused(source: str) -> None:
    bench = Bench()
    assert bench.refused(packet(address(source))) is Reason.IP_SOURCE
    assert bench.context.guest.ipv4 == GUEST


@pytest.mark.parametrize("source", ["10.0.2.2", "10.0.2.3"])
def test_no_packet_of_a_guest_comes_from_an_address_of_ours(source: str) -> None:
    ipv4_config = Ipv4Config(address=GUEST, prefix_length=24, gateway="10.0.2.2")
    bench = Bench(NetworkConfig(ipv4=ipv4_config, map_host_loopback=("10.0.2.3",)))
    assert bench.refused(packet(address(source))) is Reason.IP_SOURCE
    assert bench.context.guest.stations.find(address(source)) is None


def test_a_guest_may_have_an_address_of_ours_by_configuration() -> None:
    """As if a name server of the host has the host's address, and so the guest's as well."""
    bench = Bench(NetworkConfig(ipv4=CONFIG.ipv4, dns_forward=((GUEST, Endpoint("127.0.0.1", 53)),)))
    bench.receive(packet(REMOTE))
    bench.receive(packet(GUEST))
    assert len(bench.received) == 2


@pytest.mark.parametrize("prefix_length", [31, 32])
def test_a_network_of_two_hosts_has_no_broadcast_address(prefix_length: int) -> None:
    odd = address("10.0.2.1")
    ipv4_config = Ipv4Config(address=odd, prefix_length=prefix_length, gateway=None)
    bench = Bench(NetworkConfig(ipv4=ipv4_config))
    bench.context.guest.ipv4 = None
    bench.receive(packet(odd))
    assert bench.context.guest.ipv4 == odd


def test_without_an_address_a_guest_can_ask_for_one() -> None:
    bench = Bench()
    unspecified = address("0.0.0.0")
    bench.receive(packet(unspecified, udp.emit(unspecified, REMOTE, 68, 67, b"DISCOVER")))
    assert len(bench.received) == 1
    assert bench.context.guest.ipv4 == GUEST
    other = packet(unspecified, udp.emit(unspecified, REMOTE, 68, 53, b"DISCOVER"))
    with pytest.raises(Malformed, match=Reason.IP_SOURCE.value.split("(")[0]):
        bench.receive(other)


def test_the_guests_address_is_that_of_its_latest_packet() -> None:
    bench = Bench()
    other = address("172.16.0.9")
    bench.receive(packet(other))
    assert bench.context.guest.ipv4 == other


def test_a_guest_may_use_an_address_that_is_not_configured() -> None:
    bench = Bench(NetworkConfig(ipv6=Ipv6Config(address=None, gateway=address("fe80::1"))))
    bench.receive(packet())
    assert bench.context.guest.ipv4 == GUEST


def test_the_fragments_of_linux_become_datagrams() -> None:
    bench = Bench()
    pieces = [frame for frame in frames(ETHERTYPE_IPV4) if ipv4.parse(frame, 14, len(frame))[2] & ipv4.FRAGMENTED]
    for frame in reversed(pieces):
        bench.ipv4.receive(frame, 14, len(frame))
    datas = []
    for ip, buf in bench.received:
        datagram = udp.parse(buf, ip, True)
        datas.append(buf[datagram.start : datagram.end])
    assert datas == [(bytes(range(256)) * 12)[::-1], bytes(range(256)) * 12]
    assert [(ip.header, ip.start, ip.end) for ip, _ in bench.received] == [(14, 34, 3114)] * 2


def test_a_whole_packet_that_must_not_be_fragmented_is_no_fragment() -> None:
    bench = Bench()
    bench.receive(packet(fragment=ipv4.DONT_FRAGMENT))
    bench.receive(packet(fragment=0x8000))
    assert len(bench.received) == 2


def test_fragments_of_different_protocols_do_not_mix() -> None:
    bench = Bench()
    bench.receive(packet(fragment=ipv4.MORE_FRAGMENTS, protocol=TCP))
    bench.receive(packet(fragment=1))
    assert bench.received == []


def test_a_datagram_too_large_for_ip_is_refused() -> None:
    assert Bench().refused(packet(fragment=0x1FFF)) is Reason.FRAGMENT_MALFORMED


@pytest.mark.parametrize("fragment", [ipv4.MORE_FRAGMENTS, 1])
@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "224.0.0.5"])
def test_the_source_of_a_fragment_is_checked_like_any_other(source: str, fragment: int) -> None:
    assert Bench().refused(packet(address(source), fragment=fragment)) is Reason.IP_SOURCE


def test_the_offload_of_the_last_fragments_frame_is_not_the_datagrams() -> None:
    bench = Bench()
    bench.receive(packet(fragment=ipv4.MORE_FRAGMENTS))
    bench.context.gso_size = 1
    bench.receive(packet(fragment=1))
    assert len(bench.received) == 1
    assert bench.context.gso_size == 0


@given(ANY_FRAME, st.booleans())
def test_any_bytes_are_handed_on_or_malformed(frame: bytes, view: bool) -> None:
    bench = Bench()
    start = min(14, len(frame))
    try:
        bench.ipv4.receive(memoryview(frame) if view else frame, start, len(frame))
    except Malformed:
        assert bench.received == []
