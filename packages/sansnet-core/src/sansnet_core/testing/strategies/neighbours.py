"""Packets of NDP, MLD and IGMP, and messages of DHCP and DHCPv6."""

from __future__ import annotations

import struct
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sansnet_core.testing.packets import ICMPV6, UDP, icmp
from sansnet_core.testing.strategies.envelopes import Packet
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, below, chance, choose, joined, number, split
from sansnet_core.testing.strategies.transports import udp_parts

__all__ = ["dhcp6_packets", "dhcp6_parts", "dhcp_packets", "dhcp_parts", "group_packets", "ndp_packets"]

_ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
_ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
_DHCP6_SERVERS: Final = bytes.fromhex("ff020000000000000000000000010002")
_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")
_IGMP: Final = 2


def _ndp_option(name: str, kind: int, data: bytes) -> Parts:
    data += bytes(-(len(data) + 2) % 8)
    return (
        number(f"{name}.type", kind, 1),
        number(f"{name}.size", (len(data) + 2) // 8, 1),
        Part(f"{name}.data", data),
    )


def ndp_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Solicitations and advertisements of routers and neighbours, and duplicate address detection (RFC 4861, 4862)."""
    own = choose(draw, parties.sources(16))
    unspecified = chance(draw, 4)
    source = bytes(16) if unspecified else own
    addresses = [parties.gateways[16], *parties.sources(16), *parties.destinations(16)]
    target = choose(draw, addresses)
    mac = _ndp_option("link_address", 1, parties.guest_mac)
    options: Parts = () if unspecified or chance(draw, 2) else mac
    if chance(draw, 4):
        options += _ndp_option("nonce", 14, choose(draw, (bytes(6), b"\1\2\3\4\5\6")))
    kind = choose(draw, [135, 135, 133, 136, 134, 137])
    body: Parts
    if kind == 135:
        body = (number("ndp.reserved", 0, 4), Part("ndp.target", target))
        group = _SOLICITED_NODE + target[13:]
        destination = group if unspecified else choose(draw, [group, target])
    elif kind == 133:
        body, destination = (number("ndp.reserved", 0, 4),), _ALL_ROUTERS
    elif kind == 136:
        body = (number("ndp.flags", choose(draw, [0x60000000, 0x20000000, 0]), 4), Part("ndp.target", own))
        options, source = _ndp_option("link_address", 2, parties.guest_mac), own
        destination = choose(draw, [parties.gateways[16], _ALL_NODES])
    elif kind == 134:
        body, destination, source = (
            (Part("ndp.advertisement", struct.pack("!IQ", 64 << 24 | 1800, 0)),),
            _ALL_NODES,
            own,
        )
    else:
        body = (number("ndp.reserved", 0, 4), Part("ndp.target", target), Part("ndp.destination", target))
        destination, source = parties.gateways[16], own
    message = icmp(source, destination, kind, 0, joined((*body, *options)))
    head = split("icmp", (("type", 1), ("code", 1), ("checksum", 2)), message.payload)
    return Packet(source, destination, ICMPV6, (*head, *body, *options), hop_limit=255)


def group_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Reports of IGMP and MLD about the groups that the guest receives (RFC 3376, RFC 3810)."""
    if choose(draw, parties.families) == 4:
        body = struct.pack("!BBHHHBBH4s", 0x22, 0, 0, 0, 1, 4, 0, 0, bytes((224, 0, 0, 251)))
        parts = (Part("igmp.head", body[:8]), Part("igmp.group", body[8:]))
        return Packet(parties.sources(4)[0], bytes((224, 0, 0, 22)), _IGMP, parts, hop_limit=1)
    destination = bytes.fromhex("ff020000000000000000000000000016")
    source = choose(draw, [parties.link_local, bytes(16)])
    group = struct.pack("!HHBBH16s", 0, 1, 4, 0, 0, bytes.fromhex("ff0200000000000000000000000000fb"))
    message = icmp(source, destination, 143, 0, group)
    head = split("icmp", (("type", 1), ("code", 1), ("checksum", 2)), message.payload)
    return Packet(source, destination, ICMPV6, (*head, Part("mld.group", group)), hop_limit=1)


# DHCP (RFC 2131, RFC 2132)

_BOOTP: Final = (
    *(("operation", 1), ("hardware_type", 1), ("hardware_size", 1), ("hops", 1), ("transaction", 4), ("seconds", 2)),
    *(("flags", 2), ("client", 4), ("yours", 4), ("server", 4), ("relay", 4), ("hardware", 16), ("sname", 64)),
    *(("file", 128), ("cookie", 4)),
)
_SOME_OPTIONS: Final = st.lists(
    st.sampled_from((50, 54, 55, 57, 61, 12, 80, 81, 60, 51, 82, 52)), unique=True, max_size=6
)
_DHCP_KINDS: Final = (1, 3, 8, 4, 7)
"""DISCOVER, REQUEST, INFORM, DECLINE, RELEASE."""


def dhcp_parts(draw: DrawFn, parties: Parties) -> Parts:
    """Messages of a DHCP client, and of BOOTP."""
    own, gateway = parties.sources(4)[0], parties.gateways[4]
    kind = choose(draw, [*_DHCP_KINDS, None])
    client = choose(draw, [bytes(4), own, parties.sources(4)[1]])
    relay = choose(draw, [bytes(4), bytes(4), bytes(4), gateway, bytes((10, 9, 9, 9))])
    flags = choose(draw, [0, 0x8000])
    transaction = choose(draw, [0x5A5A5A5A, 0, 0xFFFFFFFF])
    fixed = struct.pack("!BBBBIHH", 1, 1, 6, 0, transaction, 0, flags)
    hardware = parties.guest_mac + bytes(10)
    head = fixed + client + bytes(8) + relay + hardware + bytes(192) + bytes.fromhex("63825363")
    if kind is None:
        return (*split("dhcp", _BOOTP, head[:236] + bytes(4)), Part("dhcp.vendor", bytes(60)))
    choices: dict[int, list[bytes]] = {
        50: [own, parties.sources(4)[1], bytes(4)],
        54: [gateway, bytes((10, 9, 9, 9))],
        55: [bytes((1, 3, 6, 15, 26, 51, 54, 119, 121, 12)), b"\1", bytes(range(1, 255))],
        57: [b"\x05\xdc", b"\x02\x40", b"\0\0", b"\xff\xff"],
        61: [b"\1" + parties.guest_mac, b"\xff" + bytes(18)],
        12: [b"guest", b"x" * 63],
        80: [b""],
        81: [b"\x05\0\0guest", b"\x04\0\0\5guest\0"],
        60: [b"udhcp 1.36"],
        51: [b"\0\0\x0e\x10"],
        82: [b"\1\4port"],
        52: [b"\0", b"\3"],
    }
    options: Parts = (Part("dhcp.option53", bytes((53, 1, kind))),)
    for code in draw(_SOME_OPTIONS):
        value = choose(draw, choices[code])
        options += (Part(f"dhcp.option{code}", bytes((code, len(value))) + value),)
    end = choose(draw, [b"\xff", b"\0\0\xff", b"\xff" + bytes(60), b""])
    return (*split("dhcp", _BOOTP, head), *options, *((Part("dhcp.end", end),) if end else ()))


def dhcp_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Messages of a DHCP client in datagrams."""
    renews = chance(draw, 4)
    source = parties.sources(4)[0] if renews else bytes(4)
    destination = parties.gateways[4] if renews else b"\xff" * 4
    return Packet(source, destination, UDP, udp_parts(source, 68, destination, 67, dhcp_parts(draw, parties)))


# DHCPv6 (RFC 8415)

_SOME_OPTIONS6: Final = st.lists(st.sampled_from((6, 8, 14, 39, 16, 20)), unique=True, max_size=4)
_DHCP6_KINDS: Final = (1, 3, 5, 6, 4, 11, 8, 9)
"""SOLICIT, REQUEST, RENEW, REBIND, CONFIRM, INFORMATION-REQUEST, RELEASE, DECLINE."""


def _dhcp6_option(code: int, value: bytes) -> Part:
    return Part(f"dhcp6.option{code}", struct.pack("!HH", code, len(value)) + value)


def dhcp6_parts(draw: DrawFn, parties: Parties) -> Parts:
    """Messages of a DHCPv6 client."""
    kind = choose(draw, _DHCP6_KINDS)
    own, *others = parties.sources(16)
    options: Parts = (_dhcp6_option(1, struct.pack("!HH", 3, 1) + parties.guest_mac),)
    if kind in (3, 5, 8, 9):
        options += (_dhcp6_option(2, struct.pack("!HH", 3, 1) + parties.mac),)
    for _ in range(below(draw, 3) if kind != 11 else 0):
        association = choose(draw, [3, 3, 4, 25])
        inner = b""
        for address in [own, *others][: below(draw, 3)] if association != 25 else ():
            inner += struct.pack("!HH16sII", 5, 24, address, 0, 0)
        times = b"" if association == 4 else bytes(8)
        options += (_dhcp6_option(association, struct.pack("!I", choose(draw, [1, 0, 0xFFFFFFFF])) + times + inner),)
    choices: dict[int, list[bytes]] = {
        6: [struct.pack("!3H", 23, 24, 39), b"\0\x17", b""],
        8: [b"\0\0", b"\xff\xff"],
        14: [b""],
        39: [b"\0\5guest\0", b"\1\5guest"],
        16: [struct.pack("!IH", 311, 4) + b"MSFT"],
        20: [b""],
    }
    for code in draw(_SOME_OPTIONS6):
        options += (_dhcp6_option(code, choose(draw, choices[code])),)
    transaction = choose(draw, [0x616263, 0, 0xFFFFFF])
    return (number("dhcp6.type", kind, 1), number("dhcp6.transaction", transaction, 3), *options)


def dhcp6_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Messages of a DHCPv6 client in datagrams."""
    source = choose(draw, [parties.link_local, parties.link_local, parties.sources(16)[0]])
    parts = udp_parts(source, 546, _DHCP6_SERVERS, 547, dhcp6_parts(draw, parties))
    return Packet(source, _DHCP6_SERVERS, UDP, parts)
