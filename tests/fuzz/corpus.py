"""Seeds: one valid frame of every kind that a guest sends, and frames that are each invalid in one way."""

from __future__ import annotations

import struct
from dataclasses import replace

from sansnet_core.testing import GATEWAY, GATEWAY6, SERVER, SERVER6, GuestStack
from sansnet_core.testing.packets import (
    ACK,
    FIN,
    IPV4,
    IPV6,
    PSH,
    RST,
    SYN,
    UDP,
    Ip,
    Segment,
    arp_request,
    dhcp_discover,
    echo_request,
    ethernet,
    fragments,
    icmp,
    neighbor_solicitation,
    router_solicitation,
    udp,
)

__all__ = ["frames", "packets"]

_GUEST = GuestStack()
_LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000015")
_DHCP_SERVERS = bytes.fromhex("ff020000000000000000000000010002")


def _dhcp6_solicit() -> Ip:
    client = struct.pack("!HHHH", 1, 10, 3, 1) + _GUEST.mac
    address = struct.pack("!HHIII", 3, 12, 1, 0, 0)
    wanted = struct.pack("!HHHH", 6, 4, 23, 24)
    return udp(_LINK_LOCAL, 546, _DHCP_SERVERS, 547, b"\1abc" + client + address + wanted)


def _with_extension(packet: Ip, kind: int, body: bytes) -> Ip:
    """The packet behind one IPv6 extension header."""
    assert len(body) % 8 == 6
    return replace(packet, protocol=kind, payload=bytes((packet.protocol, len(body) // 8)) + body + packet.payload)


def packets() -> dict[str, Ip]:
    """By name."""
    guest, large = _GUEST, bytes(range(256)) * 8
    tcp4 = Segment(guest.ipv4, 40000, SERVER, 80, sequence=1000, mss=1460, scale=7, sack_permitted=True)
    tcp6 = replace(tcp4, source=guest.ipv6, destination=SERVER6)
    found: dict[str, Ip] = {}
    for name, segment in (("tcp4", tcp4), ("tcp6", tcp6)):
        bare = replace(segment, mss=None, scale=None, sack_permitted=False, sequence=1001, acknowledgment=5)
        found[f"{name} syn"] = replace(segment, flags=SYN).ip()
        found[f"{name} data"] = replace(bare, flags=ACK | PSH, payload=b"data").ip()
        found[f"{name} fin"] = replace(bare, flags=ACK | FIN).ip()
        found[f"{name} reset"] = replace(bare, flags=RST).ip()
        found[f"{name} sack"] = replace(bare, flags=ACK, sack=((1, 2), (3, 4), (9, 5))).ip()
        found[f"{name} options"] = replace(bare, flags=SYN, raw_options=bytes((3, 3, 200, 2, 4, 0, 0, 8))).ip()
    found["udp4"] = udp(guest.ipv4, 5000, SERVER, 53, b"question")
    found["udp6"] = udp(guest.ipv6, 5000, SERVER6, 53, b"question")
    asked = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + b"\4Host\7example\0" + struct.pack("!HH", 1, 1)
    asked += b"\0" + struct.pack("!HHIH", 41, 1232, 0x8000, 0)
    found["own name"] = udp(guest.ipv4, 5000, GATEWAY, 53, asked)
    found["udp empty"] = udp(guest.ipv4, 5000, SERVER, 53, b"")
    found["udp broadcast"] = udp(guest.ipv4, 5000, b"\xff" * 4, 1900, b"search")
    found["udp large fragment"] = fragments(udp(guest.ipv4, 5000, SERVER, 53, large), 1000)[0]
    found["udp last fragment"] = fragments(udp(guest.ipv4, 5000, SERVER, 53, large), 1000)[-1]
    found["udp6 fragment"] = fragments(udp(guest.ipv6, 5000, SERVER6, 53, large), 1000)[1]
    found["udp length"] = Ip(guest.ipv4, SERVER, UDP, struct.pack("!HHHH", 5000, 53, 7, 0))
    found["echo4"] = echo_request(guest.ipv4, SERVER, 7, 1, b"ping")
    found["echo6"] = echo_request(guest.ipv6, SERVER6, 7, 1, b"ping")
    found["echo gateway"] = echo_request(_LINK_LOCAL, GATEWAY6, 7, 1, b"ping")
    found["unreachable"] = icmp(guest.ipv4, SERVER, 3, 3, bytes(4) + found["udp4"].emit()[:28])
    found["igmp"] = Ip(guest.ipv4, bytes((224, 0, 0, 22)), 2, bytes(8))
    found["dhcp discover"] = dhcp_discover(guest.mac)
    found["dhcp request"] = dhcp_discover(guest.mac, kind=3)
    found["dhcp6 solicit"] = _dhcp6_solicit()
    found["router solicitation"] = router_solicitation(_LINK_LOCAL, guest.mac)
    found["neighbor solicitation"] = neighbor_solicitation(_LINK_LOCAL, GATEWAY6, guest.mac)
    found["duplicate address"] = neighbor_solicitation(bytes(16), guest.ipv6, guest.mac)
    found["ipv4 options"] = replace(found["udp4"], options=bytes((148, 4, 0, 0)))
    found["ipv4 source route"] = replace(found["udp4"], options=bytes((131, 7, 4, 1, 2, 3, 4, 0)))
    found["hop by hop"] = _with_extension(found["udp6"], 0, bytes((5, 2, 0, 0, 1, 0)))
    found["destination options"] = _with_extension(found["tcp6 syn"], 60, bytes((1, 4, 0, 0, 0, 0)))
    found["routing"] = _with_extension(found["udp6"], 43, bytes((0, 1, 0, 0, 0, 0)))
    found["from loopback"] = udp(bytes((127, 0, 0, 1)), 5000, SERVER, 53, b"x")
    found["to loopback"] = udp(guest.ipv4, 5000, bytes((127, 0, 0, 1)), 53, b"x")
    found["mapped"] = udp(guest.ipv6, 5000, bytes(10) + b"\xff\xff" + bytes((127, 0, 0, 1)), 53, b"x")
    return found


def frames() -> dict[str, bytes]:
    """Whole Ethernet frames, by name."""
    guest = _GUEST
    found = {
        name: ethernet(guest.gateway_mac, guest.mac, IPV4 if packet.version == 4 else IPV6, packet.emit())
        for name, packet in packets().items()
    }
    found["arp"] = arp_request(guest.mac, guest.ipv4, GATEWAY)
    found["arp probe"] = arp_request(guest.mac, bytes(4), guest.ipv4)
    found["unknown type"] = ethernet(guest.gateway_mac, guest.mac, 0x88CC, bytes(46))
    found["802.1Q"] = ethernet(guest.gateway_mac, guest.mac, 0x8100, bytes((0, 1, 8, 0)) + packets()["udp4"].emit())
    found["short"] = guest.gateway_mac + guest.mac
    found["empty"] = b""
    return found
