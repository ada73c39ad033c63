"""Several stations behind one link: each gets the packets to its addresses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sansnet_core import Endpoint, Limits, Reason
from sansnet_core.addresses import format, parse
from sansnet_core.testing import (
    GATEWAY,
    GATEWAY6,
    OUTSIDER,
    OUTSIDER6,
    SERVER,
    SERVER6,
    GuestStack,
    HostScript,
    Pair,
    make_config,
)
from sansnet_core.testing.packets import (
    ARP,
    ReadFrame,
    arp_request,
    dhcp_discover,
    echo_request,
    ethernet,
    neighbor_solicitation,
    read_frame,
    read_ip,
    udp,
)

SECOND4, SECOND6 = parse("10.0.2.16"), parse("2001:db8::16")
SECOND_MAC, THIRD_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000003")
SERVERS = pytest.mark.parametrize("server", [SERVER, SERVER6], ids=format)


class Switch(GuestStack):
    """Stations on one cable; a frame to one of them reaches no other."""

    def __init__(self, *stations: GuestStack) -> None:
        super().__init__()
        self.stations = {station.mac: station for station in stations}

    def at(self, now: float) -> None:
        for station in self.stations.values():
            station.at(now)

    def take_frames(self) -> list[bytes]:
        return [frame for station in self.stations.values() for frame in station.take_frames()]

    def receive(self, frame: bytes | memoryview | tuple[bytes, bytes | memoryview], now: float) -> None:
        destination = read_frame(frame, vnet=False).destination
        assert destination[0] & 1 or destination in self.stations, "a frame for nobody"
        for mac, station in self.stations.items():
            if destination[0] & 1 or destination == mac:
                station.receive(frame, now)

    def next_deadline(self) -> float | None:
        found = [one for station in self.stations.values() if (one := station.next_deadline()) is not None]
        return min(found, default=None)

    def handle_deadline(self, now: float) -> None:
        for station in self.stations.values():
            station.handle_deadline(now)


class Two(Pair):
    """A network with two stations on its link."""

    def __init__(self, limits: Limits | None = None, *, script: HostScript | None = None) -> None:
        super().__init__(make_config(limits=limits), script)
        self.first = GuestStack()
        self.second = GuestStack(mac=SECOND_MAC, ipv4=SECOND4, ipv6=SECOND6)
        self.guest = self.switch = Switch(self.first, self.second)
        self.guest.at(self.now)

    def speak(self, station: GuestStack, server: bytes = SERVER) -> None:
        """A station sends a packet without effect."""
        station.send(udp(station.address(len(server)), 9999, server, 9, b"noise"))
        self.settle()

    def frames(self) -> list[ReadFrame]:
        """The frames that the network sent since the last call."""
        taken, self.sent = self.sent, []
        return [read_frame(frame, vnet=False) for _, frame in taken]


@SERVERS
def test_connections_of_two_stations_work_at_the_same_time(server: bytes) -> None:
    pair = Two(script=HostScript(echo=True))
    one = pair.first.connect((server, 80), now=pair.now)
    two = pair.second.connect((server, 80), port=50000, now=pair.now)
    pair.drive(lambda: one.established and two.established)
    for connection, other in ((one, pair.second), (two, pair.first)):
        connection.send(bytes(100_000))
        pair.speak(other, server)
    pair.drive(lambda: len(one.received) == len(two.received) == 100_000)


@SERVERS
def test_what_comes_late_goes_to_the_station_that_asked(server: bytes) -> None:
    pair = Two()
    pair.first.send(udp(pair.first.address(len(server)), 4000, server, 7, b"question"))
    pair.first.send(echo_request(pair.first.address(len(server)), server, 7, 1, b"ping"))
    pair.settle()
    pair.speak(pair.second, server)
    socket = pair.host.datagrams[0].socket
    pair.host.datagram(socket, Endpoint(server, 7), b"answer", pair.now)
    pair.network.echo_received(pair.host.echoes[0].socket, server, 1, b"ping", 64, 0, pair.now)
    pair.settle()
    assert [data for _, _, _, data in pair.first.datagrams] == [b"answer"]
    assert len(pair.first.others) == 1
    assert not pair.second.datagrams
    assert not pair.second.others


def test_an_error_goes_to_the_station_that_sent() -> None:
    pair = Two()
    pair.speak(pair.second)
    pair.first.send(udp(pair.first.ipv4, 4000, parse("240.0.0.1"), 7, b"closed"))
    pair.settle()
    assert len(pair.first.others) == 1
    assert pair.second.others == []


@SERVERS
def test_a_flow_follows_its_address_to_another_station(server: bytes) -> None:
    pair = Two(script=HostScript(echo=True))
    connection = pair.first.connect((server, 80), now=pair.now)
    pair.drive(lambda: connection.established)
    pair.settle()
    pair.switch.stations = {THIRD_MAC: pair.first, SECOND_MAC: pair.second}
    pair.first.mac = THIRD_MAC
    address = pair.first.address(len(server))
    if len(server) == 4:
        pair.first.send_frame(arp_request(THIRD_MAC, address, address))
    else:
        packet = neighbor_solicitation(address, GATEWAY6, THIRD_MAC)
        pair.first.send_frame(ethernet(pair.config.mac, THIRD_MAC, 0x86DD, packet.emit()))
    pair.settle()
    pair.frames()
    pair.host.produce(pair.host.stream, b"hello")
    pair.drive(lambda: bytes(connection.received) == b"hello")
    assert {frame.destination for frame in pair.frames()} == {THIRD_MAC}


def test_the_answer_to_arp_tells_which_station_it_is() -> None:
    pair = Two()
    reply = arp_request(SECOND_MAC, SECOND4, GATEWAY)
    pair.second.send_frame(reply[:20] + b"\0\2" + reply[22:])
    pair.settle()
    pair.speak(pair.first)
    assert pair.host.accept(OUTSIDER, 80, pair.now, guest_address=SECOND4) is not None
    pair.settle()
    assert {frame.destination for frame in pair.frames() if frame.ethertype != ARP} == {SECOND_MAC}


@pytest.mark.parametrize(("outsider", "address"), [(OUTSIDER, SECOND4), (OUTSIDER6, SECOND6)], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_station_that_was_not_heard_is_asked_for(outsider: Endpoint, address: bytes, protocol: str) -> None:
    pair = Two()
    pair.speak(pair.first)
    pair.frames()
    network = pair.network
    if protocol == "tcp":
        assert network.stream_accepted(outsider, address, 80, pair.now) is not None
    else:
        socket = network.forward_added(address, 80, pair.now)
        for _ in range(2):
            network.datagram_received(socket, outsider, b"hello", 0, 64, 0, pair.now)
    frames = [read_frame(frame, vnet=False) for frame in network.take_frames()]
    asked = [frame for frame in frames if frame.destination[0] & 1]
    assert len(asked) == 1
    assert address in asked[0].payload
    if len(address) == 4:
        assert asked[0].ethertype == ARP
    else:
        assert read_ip(asked[0]).payload[0] == 135


@pytest.mark.parametrize("target", [SECOND4, SECOND6], ids=format)
def test_what_one_station_has_is_not_answered_to_another_one(target: bytes) -> None:
    pair = Two()

    def ask(mac: bytes) -> list[ReadFrame]:
        """The answers to a station that looks for an address."""
        if len(target) == 4:
            frame = arp_request(mac, pair.first.ipv4, target)
        else:
            packet = neighbor_solicitation(parse("fe80::77"), target, mac)
            frame = ethernet(pair.config.mac, mac, 0x86DD, packet.emit())
        pair.network.receive_frames([frame], pair.now)
        return [read_frame(frame, vnet=False) for frame in pair.network.take_frames()]

    assert len(ask(pair.first.mac)) == 1, "it was not heard yet"
    pair.speak(pair.second, SERVER if len(target) == 4 else SERVER6)
    pair.speak(pair.first, SERVER if len(target) == 4 else SERVER6)
    assert ask(pair.first.mac) == []
    assert len(ask(SECOND_MAC)) == 1, "it has the address no more"


@pytest.mark.parametrize("quiet", [0.0, 3.0], ids=["at once", "after a rest"])
def test_a_guest_that_rotates_its_addresses_stays_within_the_bound(quiet: float) -> None:
    pair = Two(Limits(stations=16, udp_flows=4), script=HostScript(echo=True))
    connection = pair.first.connect((SERVER, 80), now=pair.now)
    pair.drive(lambda: connection.established)
    pair.wait(quiet)
    for number in range(300):
        address = bytes((172, 16, number >> 8, number & 255))
        pair.second.send(udp(address, 4000, SERVER, 7, b"x"))
        pair.second.send_frame(arp_request(SECOND_MAC, address[::-1], GATEWAY))
        pair.settle()
    stations = pair.network._context.guest.stations
    assert len(stations) == 16
    pair.second.ipv4 = bytes((172, 16, 1, 43))
    pair.frames()
    pair.host.produce(pair.host.stream, b"still here")
    pair.drive(lambda: bytes(connection.received) == b"still here")
    assert {frame.destination for frame in pair.frames()} == {pair.first.mac}


def test_an_address_of_ours_is_no_stations() -> None:
    pair = Two()
    pair.second.send_frame(arp_request(SECOND_MAC, GATEWAY, GATEWAY))
    pair.second.send(udp(GATEWAY, 4000, SERVER, 7, b"spoofed"))
    pair.settle()
    assert pair.network._context.guest.stations.find(GATEWAY) is None


def test_a_lease_goes_to_the_station_that_asks() -> None:
    pair = Two()
    pair.speak(pair.first)
    pair.frames()
    packet = dhcp_discover(SECOND_MAC)
    packet = replace(packet, payload=packet.payload[:18] + bytes(2) + packet.payload[20:])  # without the broadcast flag
    pair.second.send_frame(ethernet(b"\xff" * 6, SECOND_MAC, 0x0800, packet.emit()))
    pair.settle()
    assert [frame.destination for frame in pair.frames()] == [SECOND_MAC]


def test_a_frame_from_a_group_address_is_dropped() -> None:
    pair = Two()
    packet = udp(pair.first.ipv4, 4000, SERVER, 7, b"x")
    pair.first.send_frame(ethernet(pair.config.mac, b"\3\0\0\0\0\1", 0x0800, packet.emit()))
    pair.settle()
    assert pair.network.statistics().drops == {Reason.ETHERNET_SOURCE: 1}


# 802.1Q


def tagged(control: int, frame: bytes, *, ethertype: bytes = b"\x81\0") -> bytes:
    """The frame with a tag."""
    return frame[:12] + ethertype + control.to_bytes(2, "big") + frame[12:]


def plain(data: bytes = b"tagged") -> bytes:
    guest = GuestStack()
    packet = udp(guest.ipv4, 4000, SERVER, 7, data)
    return ethernet(guest.gateway_mac, guest.mac, 0x0800, packet.emit())


@pytest.mark.parametrize("control", [0, 0x1000, 0xE000], ids=hex)
@pytest.mark.parametrize("view", [bytes, memoryview])
def test_a_priority_tag_makes_no_difference(control: int, view: type[bytes] | type[memoryview]) -> None:
    pair = Pair()
    pair.network.receive_frames([view(tagged(control, plain()))], pair.now)
    pair.settle()
    assert [bytes(order.data) for order in pair.host.datagrams] == [b"tagged"]


def test_the_largest_frame_may_have_a_priority_tag() -> None:
    pair = Pair()
    pair.network.receive_frames([tagged(0, plain(bytes(1472)))], pair.now)
    pair.network.receive_frames([tagged(0, plain(bytes(1473)))], pair.now)
    pair.settle()
    assert [len(order.data) for order in pair.host.datagrams] == [1472]
    assert pair.network.statistics().drops == {Reason.FRAME_TOO_LARGE: 1}


def test_arp_with_a_priority_tag_is_answered() -> None:
    pair = Pair()
    pair.guest.send_frame(tagged(0x6000, arp_request(pair.guest.mac, pair.guest.ipv4, GATEWAY)))
    pair.settle()
    assert len(pair.guest.others) == 1


def test_a_run_of_datagrams_may_have_a_priority_tag() -> None:
    config = make_config()
    link = config.link.__replace__(vnet_header=True, max_frame_size=65535)
    pair = Pair(config.__replace__(link=link))
    head = bytes((1, 5)) + (46).to_bytes(2, "little") + (100).to_bytes(2, "little") + b"\x26\0\x06\0" + bytes(2)
    pair.network.receive_frames([head + tagged(0, plain(bytes(250)))], pair.now)
    pair.settle()
    [order] = pair.host.datagrams
    assert (len(order.data), order.segment_size) == (250, 100)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (tagged(1, plain()), Reason.ETHERNET_TYPE),
        (tagged(0x6FFF, plain()), Reason.ETHERNET_TYPE),
        (tagged(0x0100, plain()), Reason.ETHERNET_TYPE),
        (tagged(0, tagged(0, plain())), Reason.ETHERNET_TYPE),
        (tagged(0, plain(), ethertype=b"\x88\xa8"), Reason.ETHERNET_TYPE),
        (tagged(0, plain())[:17], Reason.ETHERNET_TRUNCATED),
        (tagged(0, plain())[:14], Reason.ETHERNET_TRUNCATED),
    ],
    ids=["VLAN 1", "VLAN 4095", "VLAN 256", "nested", "802.1ad", "17 bytes", "14 bytes"],
)
def test_other_tags_are_dropped(frame: bytes, reason: Reason) -> None:
    pair = Pair()
    pair.network.receive_frames([frame], pair.now)
    pair.settle()
    assert pair.host.datagrams == []
    assert pair.network.statistics().drops == {reason: 1}


def test_a_frame_of_802_3_is_not_taken() -> None:
    """RFC 1042: the length in place of the EtherType, then SNAP."""
    guest = GuestStack()
    snap = bytes.fromhex("aaaa03 000000 0800") + plain()[14:]
    pair = Pair()
    pair.network.receive_frames([ethernet(guest.gateway_mac, guest.mac, len(snap), snap)], pair.now)
    pair.settle()
    assert pair.host.datagrams == []
    assert pair.network.statistics().drops == {Reason.ETHERNET_TYPE: 1}


def test_a_broadcast_with_a_tag_is_still_one() -> None:
    pair = Pair()
    packet = udp(pair.guest.ipv4, 4000, parse("172.16.7.255"), 7, b"x")
    pair.guest.send_frame(tagged(0, ethernet(b"\xff" * 6, pair.guest.mac, 0x0800, packet.emit())))
    pair.settle()
    assert pair.network.statistics().drops == {Reason.IP_BROADCAST: 1}
