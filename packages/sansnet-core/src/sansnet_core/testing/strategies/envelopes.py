"""Puts packets of a transport protocol into IP, Ethernet and `virtio_net_hdr`, as the guest of a network does."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from sansnet_core.testing.packets import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    ICMPV6,
    IPV4,
    IPV6,
    NEEDS_CSUM,
    TCP,
    UDP,
    Ip,
    checksum,
    fragments,
    pseudo_header,
)
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, below, chance, choose, joined, number, split

__all__ = ["Packet", "ethernet_parts", "in_fragments", "in_frame"]

_VNET: Final = (
    ("flags", 1),
    ("gso_type", 1),
    ("header_size", 2),
    ("gso_size", 2),
    ("checksum_start", 2),
    ("checksum_offset", 2),
    ("buffers", 2),
)
_IPV4: Final = (
    *(("version", 1), ("tos", 1), ("length", 2), ("identification", 2), ("fragment", 2), ("ttl", 1), ("protocol", 1)),
    *(("checksum", 2), ("source", 4), ("destination", 4)),
)
_IPV6: Final = (
    *(("version", 4), ("length", 2), ("next_header", 1), ("hop_limit", 1), ("source", 16), ("destination", 16)),
)
_FRAGMENT: Final = (("next_header", 1), ("reserved", 1), ("offset", 2), ("identification", 4))
_CHECKSUMS: Final = {TCP: ("tcp.checksum", 16), UDP: ("udp.checksum", 6)}
_OPTIONS4: Final = [
    b"",
    bytes((148, 4, 0, 0)),  # router alert (RFC 2113)
    bytes((1, 1, 1, 0)),
    bytes((7, 7, 4, 0, 0, 0, 0, 0)),  # record route
    bytes((68, 8, 5, 0, 0, 0, 0, 0)),  # timestamp
    bytes((1,)) * 40,
]
_TTLS: Final = (64, 64, 64, 255, 1, 2, 128)
_TOS: Final = (0, 0, 0, 2, 3, 0xB8)
_EXTENSIONS: Final = [
    (0, bytes((5, 2, 0, 0, 1, 0))),  # hop-by-hop options: router alert (RFC 2711), PadN
    (0, bytes((1, 4, 0, 0, 0, 0))),
    (60, bytes((1, 4, 0, 0, 0, 0))),  # destination options: PadN
    (60, bytes((0, 0, 0, 0, 0, 0))),
    (60, bytes((0x1E, 12, *range(12)))),  # for experiments (RFC 4727), to be skipped
    (43, bytes((0, 0, 0, 0, 0, 0))),  # routing without segments left
    (44, bytes((0, 0, 0, 0, 9, 9))),  # a single fragment (RFC 6946)
]


_LONGEST: Final = 40
"""Bytes of the longest options or extension headers."""


_EXTENSION_HEADERS: Final = st.lists(st.sampled_from(_EXTENSIONS), max_size=3, unique_by=lambda each: each[0])


class Packet(NamedTuple):
    """A packet without its IP header.

    Attributes:
        source, destination: 4 or 16 bytes.
        protocol: IP protocol number.
        parts: the payload of IP, with a right checksum.
        hop_limit: None means any.
        gso_size: payload bytes of each segment or datagram, if the guest left segmentation to the network; 0 if not.
        header: bytes of the transport header, for such a packet.
    """

    source: bytes
    destination: bytes
    protocol: int
    parts: Parts
    hop_limit: int | None = None
    gso_size: int = 0
    header: int = 0


def ethernet_parts(parties: Parties, destination: bytes, ethertype: int, *, tagged: bool = False) -> Parts:
    """The header of a frame from the guest; with a priority tag (IEEE 802.1Q) if `tagged`."""
    tag = (number("ethernet.tag_type", 0x8100, 2), number("ethernet.tag", 0, 2)) if tagged else ()
    ends = Part("ethernet.destination", destination), Part("ethernet.source", parties.guest_mac)
    return (*ends, *tag, number("ethernet.type", ethertype, 2))


def _receiver(parties: Parties, destination: bytes) -> bytes:
    """The Ethernet address for an IP destination (RFC 1112 6.4, RFC 2464 7)."""
    if len(destination) == 16 and destination[0] == 0xFF:
        return b"\x33\x33" + destination[12:]
    if destination == b"\xff" * 4:
        return b"\xff" * 6
    if len(destination) == 4 and destination[0] >> 4 == 14:
        return b"\x01\x00\x5e" + bytes((destination[1] & 127,)) + destination[2:]
    return parties.mac


def _vnet_parts(flags: int, kind: int, header: int, size: int, start: int, offset: int) -> Parts:
    return split("vnet", _VNET, struct.pack("<BBHHHHH", flags, kind, header, size, start, offset, 0))


def _ip_parts(ip: Ip, payload: Parts) -> Parts:
    head = replace(ip, payload=joined(payload)).emit()
    if ip.version == 6:
        return (*split("ipv6", _IPV6, head), *payload)
    options = (Part("ipv4.options", ip.options),) if ip.options else ()
    return (*split("ipv4", _IPV4, head), *options, *payload)


def _extended(draw: DrawFn, packet: Packet) -> tuple[int, Parts]:
    """The payload of IPv6 behind up to three extension headers, in the order of RFC 8200, 4.1; and its protocol."""
    protocol, parts = packet.protocol, packet.parts
    chosen = draw(_EXTENSION_HEADERS)
    for kind, body in sorted(chosen, key=lambda each: (0, 43, 44, 60).index(each[0]), reverse=True):
        if kind == 44 and packet.protocol == ICMPV6:
            continue  # RFC 6980, 5
        head = number(f"extension{kind}.next_header", protocol, 1), number(f"extension{kind}.size", len(body) // 8, 1)
        parts = (*head, Part(f"extension{kind}.body", body), *parts)
        protocol = kind
    return protocol, parts


def in_frame(draw: DrawFn, parties: Parties, packet: Packet) -> Parts:
    """A valid frame with a packet, or with one of its fragments."""
    size, protocol, parts = len(packet.source), packet.protocol, packet.parts
    ip = Ip(packet.source, packet.destination, protocol, b"")
    ip = replace(ip, ttl=packet.hop_limit or choose(draw, _TTLS), tos=choose(draw, _TOS))
    bare = packet.hop_limit is not None  # NDP and the like, which must not be fragmented (RFC 6980)
    left = parties.room(size) - len(joined(parts))
    whole = left >= 0 and (bare or below(draw, 8) < 6)
    if packet.gso_size:
        whole = bare = True
    bare = bare or left < _LONGEST
    if size == 4:
        options = b"" if bare or not chance(draw, 8) else choose(draw, _OPTIONS4)
        flags = choose(draw, [0x4000, 0])
        ip = replace(ip, options=options, fragment=flags, identification=below(draw, 4))
    if not whole:
        ip, parts = _fragment(draw, ip, parts, parties.room(size) - len(ip.options))
    elif size == 16 and not bare and chance(draw, 8):
        protocol, parts = _extended(draw, packet)
        ip = replace(ip, protocol=protocol)
    tagged = not bare and draw(st.integers(0, 15)) == 15
    receiver = _receiver(parties, packet.destination)
    ethernet = ethernet_parts(parties, receiver, IPV4 if size == 4 else IPV6, tagged=tagged)
    if not parties.vnet:
        return (*ethernet, *_ip_parts(ip, parts))
    start = len(joined(ethernet)) + (20 + len(ip.options) if size == 4 else 40)
    plain = ip.protocol == packet.protocol and whole
    vnet, parts = _offloaded(draw, packet, parts, start) if plain else (_vnet_parts(0, 0, 0, 0, 0, 0), parts)
    return (*vnet, *ethernet, *_ip_parts(ip, parts))


def _offloaded(draw: DrawFn, packet: Packet, parts: Parts, start: int) -> tuple[Parts, Parts]:
    """The offload header of a whole packet, and its payload, with a partial checksum if the header says so."""
    place = _CHECKSUMS.get(packet.protocol)
    if place is None or not (packet.gso_size or chance(draw, 2)):
        return _vnet_parts(choose(draw, [0, 2]), GSO_NONE, 0, 0, 0, 0), parts
    name, offset = place
    pseudo = pseudo_header(packet.source, packet.destination, packet.protocol, len(joined(parts)))
    partial = number(name, ~checksum(pseudo) & 0xFFFF, 2)
    parts = tuple(partial if part.name == name else part for part in parts)
    kind = GSO_NONE
    if packet.gso_size:
        of_tcp = GSO_TCPV4 if len(packet.source) == 4 else GSO_TCPV6
        kind = GSO_UDP_L4 if packet.protocol == UDP else of_tcp
    header = start + packet.header if packet.gso_size else 0
    return _vnet_parts(NEEDS_CSUM, kind, header, packet.gso_size, start, offset), parts


def _fragment(draw: DrawFn, ip: Ip, parts: Parts, room: int) -> tuple[Ip, Parts]:
    """One fragment of a packet. Few identifications are used, so that fragments of other frames may complete it."""
    data = joined(parts)
    least = _least_fragment(ip)
    step = choose(draw, [each for each in (8, 16, 24, 64, 512) if least <= each <= room - 8] or [8])
    pieces = fragments(replace(ip, payload=data, fragment=0), step, below(draw, 4))
    if step < least:
        del pieces[:1]
    if not pieces:
        return ip, parts
    piece = choose(draw, pieces[:8]) if chance(draw, 2) else pieces[-1]
    if ip.version == 4:
        return replace(piece, payload=b""), (Part("ipv4.payload", piece.payload),)
    head = split("fragment", _FRAGMENT, piece.payload)
    return replace(piece, payload=b""), (*head, Part("fragment.payload", piece.payload[8:]))


def _least_fragment(ip: Ip) -> int:
    """Bytes of the first fragment, which over IPv6 has the whole header of the upper layer (RFC 8200, 4.5)."""
    return 24 if ip.version == 6 and ip.protocol == TCP else 8


def in_fragments(draw: DrawFn, parties: Parties, packet: Packet) -> list[bytes]:
    """All frames of a packet in fragments, in order or not."""
    ip = Ip(packet.source, packet.destination, packet.protocol, joined(packet.parts), fragment=0)
    size = max(_least_fragment(ip), min(choose(draw, [8, 64, 512, 1400]), (parties.mtu - 60) // 8 * 8, 65528))
    size = max(size, -(-len(ip.payload) // 512) * 8)  # at most 64 of them
    pieces = fragments(ip, size, below(draw, 65536))
    if chance(draw, 2):
        pieces = draw(st.permutations(pieces))
    ethertype = IPV4 if ip.version == 4 else IPV6
    head = (bytes(12) if parties.vnet else b"") + joined(
        ethernet_parts(parties, _receiver(parties, packet.destination), ethertype)
    )
    return [head + piece.emit() for piece in pieces]
