"""Frames that are for another station, and packets to one node in frames to many (RFC 1122, 2.4 and 3.3.6)."""

from __future__ import annotations

import struct

import pytest

from sansnet_core import Network, Reason
from sansnet_core.addresses import parse
from sansnet_core.records import replace
from sansnet_core.testing import GATEWAY, GATEWAY6, OUTSIDER, SECRET, SERVER, SERVER6, make_config
from sansnet_core.testing.packets import (
    ARP,
    IPV4,
    IPV6,
    Ip,
    Segment,
    arp_request,
    echo_request,
    ethernet,
    fragments,
    neighbor_solicitation,
    read_frame,
    router_solicitation,
    udp,
)
from tests.core.direct import GUEST, GUEST6, Direct

MAC, OTHER, BROADCAST = bytes.fromhex("020000000001"), bytes.fromhex("020000000002"), b"\xff" * 6
NEIGHBOUR, NEIGHBOUR6 = parse("10.0.2.16"), parse("2001:db8::16")
GROUP, GROUP6 = parse("239.1.2.3"), parse("ff05::1234")
SYN = 2


def packets(guest: bytes, to: bytes) -> list[Ip]:
    """A packet of each protocol."""
    return [
        Segment(guest, 4000, to, 80, 5, 6, SYN).ip(),
        udp(guest, 4000, to, 53, bytes(200)),
        echo_request(guest, to, 1, 1, bytes(200)),
    ]


def send(bench: Direct, packet: Ip, destination: bytes, source: bytes = MAC) -> None:
    ethertype = IPV4 if packet.version == 4 else IPV6
    bench.network.receive_frames([ethernet(destination, source, ethertype, packet.emit())], bench.now)
    bench.collect()


def is_silent(bench: Direct) -> bool:
    return not bench.take() and not bench.packets


@pytest.mark.parametrize("which", range(3), ids=["TCP", "UDP", "ping"])
@pytest.mark.parametrize(("guest", "to"), [(GUEST, NEIGHBOUR), (GUEST6, NEIGHBOUR6), (GUEST, SERVER)])
def test_a_frame_between_two_stations_is_not_for_us(guest: bytes, to: bytes, which: int) -> None:
    """A bridge in the guest sends it to all ports, while it does not know the port of the other station."""
    bench = Direct()
    send(bench, packets(guest, to)[which], OTHER)
    assert is_silent(bench)
    assert bench.drops() == {Reason.ETHERNET_DESTINATION: 1}
    send(bench, packets(guest, to)[which], bench.config.mac)
    assert not is_silent(bench)


def test_a_frame_to_another_station_tells_nothing_about_its_sender() -> None:
    bench = Direct()
    send(bench, udp(GUEST, 4000, SERVER, 53, b"data"), bench.config.mac)
    request = arp_request(MAC, GUEST, GATEWAY)
    bench.network.receive_frames([ethernet(OTHER, bytes.fromhex("020000000003"), ARP, request[14:])], bench.now)
    assert bench.network.take_frames() == []
    assert bench.network._context.guest.mac == MAC


def test_a_guest_without_arp_sends_to_its_own_address() -> None:
    """Linux does where ARP is switched off (arp_constructor in its net/ipv4/arp.c)."""
    bench = Direct()
    send(bench, udp(GUEST, 4000, SERVER, 53, b"data"), MAC)
    assert not is_silent(bench)


@pytest.mark.parametrize("frame", [BROADCAST, bytes.fromhex("01005e010203")], ids=["broadcast", "group"])
@pytest.mark.parametrize("which", range(3), ids=["TCP", "UDP", "ping"])
@pytest.mark.parametrize(("guest", "to"), [(GUEST, SERVER), (GUEST6, SERVER6), (GUEST, GATEWAY), (GUEST6, GATEWAY6)])
def test_a_packet_to_one_node_in_a_frame_to_many_is_dropped(guest: bytes, to: bytes, which: int, frame: bytes) -> None:
    bench = Direct()
    packet = packets(guest, to)[which]
    send(bench, packet, frame)
    for part in fragments(packet, 48 if packet.version == 4 else 56):
        send(bench, part, frame)
    bench.wait(100)
    assert is_silent(bench)
    assert set(bench.drops()) == {Reason.IP_BROADCAST}


@pytest.mark.parametrize(("guest", "to"), [(GUEST, GROUP), (GUEST6, GROUP6)])
@pytest.mark.parametrize("frame", [BROADCAST, None], ids=["broadcast", "unicast"])
def test_a_datagram_to_a_group_may_come_in_any_frame_for_us(guest: bytes, to: bytes, frame: bytes | None) -> None:
    """RFC 6085 allows a unicast frame."""
    bench = Direct()
    send(bench, udp(guest, 4000, to, 5000, b"data"), frame or bench.config.mac)
    assert len(bench.take()) == 2


def test_a_packet_to_a_guest_that_was_not_heard_goes_to_all_stations() -> None:
    """Linux drops a SYN in a broadcast frame, but answers the request for its address, and takes the next one."""
    config = replace(make_config(), guest_mac=None)
    network = Network(config, now=0.0, secret=SECRET)
    network.stream_accepted(OUTSIDER, None, 80, 0.0)
    sent = [read_frame(frame, vnet=False) for frame in network.take_frames()]
    assert sorted(frame.ethertype for frame in sent) == [IPV4, ARP]
    assert {frame.destination for frame in sent} == {BROADCAST}
    answer = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + MAC + GUEST + config.mac + GATEWAY
    network.receive_frames([ethernet(config.mac, MAC, ARP, answer)], 0.001)
    assert network.take_frames() == []
    network.handle_deadline(1.01)
    sent = [read_frame(frame, vnet=False) for frame in network.take_frames()]
    assert [frame.destination for frame in sent if frame.ethertype == IPV4] == [MAC]


@pytest.mark.parametrize("mac", ["ffffffffffff", "3333ff000001", "010000000000"])
def test_no_answer_goes_to_a_link_layer_address_of_a_group(mac: str) -> None:
    """A packet to one node would be in a frame to many."""
    group = bytes.fromhex(mac)
    bench = Direct(make_config())
    bench.wait(1000)  # past the first advertisements
    arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + group + GUEST + bytes(6) + GATEWAY
    bench.network.take_frames()
    bench.network.receive_frames([ethernet(BROADCAST, MAC, ARP, arp)], bench.now)
    assert bench.network.take_frames() == []
    for packet in (neighbor_solicitation(GUEST6, GATEWAY6, group), router_solicitation(GUEST6, group)):
        send(bench, packet, bytes.fromhex("3333ff000001"))
    assert bench.packets == []
    assert bench.drops() == {Reason.ARP_MALFORMED: 1, Reason.NDP_MALFORMED: 2}
