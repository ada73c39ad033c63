"""Packets of TCP, UDP and ICMP."""

from __future__ import annotations

import struct
from typing import Final

from hypothesis.strategies import DrawFn

from sansnet_core.testing.packets import (
    ACK,
    ARP,
    FIN,
    ICMP,
    ICMPV6,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    Ip,
    Segment,
    icmp,
    udp,
)
from sansnet_core.testing.strategies.envelopes import Packet, ethernet_parts
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, below, chance, choose, joined, sizes, split

__all__ = [
    "GUEST_PORTS",
    "arp_parts",
    "data_packets",
    "echo_packets",
    "ends",
    "error_packets",
    "near",
    "tcp_options",
    "tcp_packets",
    "udp_packets",
    "udp_parts",
]

GUEST_PORTS: Final = (40000, 40001, 40002, 5353, 1, 65535)
"""Few, so that frames meet in the same flows."""
_TCP: Final = (
    *(("source_port", 2), ("destination_port", 2), ("sequence", 4), ("acknowledgment", 4), ("data_offset", 1)),
    *(("flags", 1), ("window", 2), ("checksum", 2), ("urgent", 2)),
)
_UDP: Final = (("source_port", 2), ("destination_port", 2), ("length", 2), ("checksum", 2))
_ICMP: Final = (("type", 1), ("code", 1), ("checksum", 2))
_ARP: Final = (
    *(("hardware", 2), ("protocol", 2), ("hardware_size", 1), ("protocol_size", 1), ("operation", 2)),
    *(("sender_mac", 6), ("sender", 4), ("target_mac", 6), ("target", 4)),
)
_FLAGS: Final = (
    *(SYN, ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN | ACK, FIN, 0, ACK | URG, ACK | PSH | FIN, SYN | 0xC0),
    *(SYN | FIN, SYN | RST, ACK | 0x40, ACK | 0x80, 0xFF),
)
_STEPS: Final = (
    *(0, 1, -1, 2, 100, 536, 1460, -1460, 65535, 65536),
    *(1 << 20, -(1 << 20), 1 << 31, (1 << 31) - 1, -(1 << 30)),
)
_MODULUS: Final = 1 << 32
_WHOLE_OPTIONS: Final = 40
"""Bytes of options that fit into a TCP header."""


def ends(draw: DrawFn, parties: Parties, *, groups: bool = False) -> tuple[bytes, bytes]:
    """Source and destination of a packet of the guest; the destination may be a group."""
    size = choose(draw, parties.families)
    destinations = parties.destinations(size) + (parties.groups(size) if groups else ())
    return choose(draw, parties.sources(size)), choose(draw, destinations)


def near(draw: DrawFn, value: int) -> int:
    """A sequence number near another one, or at a distance where comparisons may go wrong; modulo 2^32."""
    step = below(draw, 10_000) - 5000 if chance(draw, 3) else choose(draw, _STEPS)
    return (value + step) % _MODULUS


# ARP


def arp_parts(draw: DrawFn, parties: Parties) -> Parts:
    """Frames of ARP: requests, probes, announcements, replies (RFC 826, RFC 5227)."""
    own = choose(draw, parties.sources(4))
    target = choose(draw, [parties.gateways[4], *parties.destinations(4), own])
    sender = choose(draw, [own, own, bytes(4)])
    operation = choose(draw, [1, 1, 2])
    receiver = parties.mac if operation == 2 else b"\xff" * 6
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + parties.guest_mac + sender + bytes(6) + target
    vnet = (Part("vnet", bytes(12)),) if parties.vnet else ()
    padding = (Part("padding", bytes(18)),) if chance(draw, 2) else ()
    return (*vnet, *ethernet_parts(parties, receiver, ARP), *split("arp", _ARP, body), *padding)


# UDP


def udp_parts(source: bytes, source_port: int, destination: bytes, destination_port: int, payload: Parts) -> Parts:
    """A datagram with the right checksum."""
    packet = udp(source, source_port, destination, destination_port, joined(payload))
    return (*split("udp", _UDP, packet.payload), *payload)


def udp_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Datagrams with any payload to any port; with offloads also runs of them."""
    source, destination = ends(draw, parties, groups=True)
    ports = choose(draw, GUEST_PORTS), choose(draw, parties.ports)
    room = parties.room(len(source)) - 8
    gso_size = 0
    payload = sizes(draw, room)
    if parties.vnet and chance(draw, 4):
        gso_size, count = choose(draw, [1, 100, 1200]), 2 + below(draw, 19)
        gso_size = max(1, min(gso_size, room, (_largest(parties) - 48) // count))
        payload = bytes(range(256)) * (gso_size * count // 256 + 1)
        payload = payload[: gso_size * count - below(draw, gso_size)]
        gso_size *= len(payload) > gso_size
    parts = udp_parts(source, ports[0], destination, ports[1], (Part("udp.payload", payload),))
    if len(source) == 4 and not gso_size and chance(draw, 8):  # without a checksum (RFC 768)
        parts = (*parts[:3], Part("udp.checksum", bytes(2)), *parts[4:])
    return Packet(source, destination, UDP, parts, gso_size=gso_size, header=8)


def _largest(parties: Parties) -> int:
    """Bytes of the largest IP packet that a frame can have."""
    return min(parties.config.link.max_frame_size - 14, 65535)


# TCP


_FOREIGN_OPTIONS: Final = (
    bytes((30, 4, 0x20, 0)),  # multipath TCP (RFC 8684)
    bytes((254, 4, 0xF9, 0x89)),  # for experiments (RFC 6994)
    bytes((28, 4, 0, 1)),  # user timeout (RFC 5482)
    bytes((34, 2)),  # fast open (RFC 7413)
)
_SIZES: Final = (1460, 536, 1220, 8960, 65535, 88, 1, 0)
_WINDOWS: Final = (65535, 0, 1, 1000, 29200, 64)
_SHIFTS: Final = (7, 0, 14, 15, 255, 1)


def _number(draw: DrawFn) -> int:
    """Any sequence number, often one of a few."""
    return below(draw, _MODULUS) if chance(draw, 3) else choose(draw, (0, 1000, 1001, _MODULUS - 1))


def _option(draw: DrawFn, syn: bool) -> bytes:
    match below(draw, 7 if syn else 4):
        case 0:
            return b"\1"
        case 1:  # timestamps (RFC 7323)
            return struct.pack("!BBII", 8, 10, _number(draw), _number(draw))
        case 2:
            return choose(draw, _FOREIGN_OPTIONS)
        case 3 if not syn:
            starts = [_number(draw) for _ in range(1 + below(draw, 4))]
            blocks = b"".join(struct.pack("!II", start, near(draw, start)) for start in starts)
            return bytes((5, 2 + len(blocks))) + blocks
        case 3 | 4:
            return struct.pack("!BBH", 2, 4, below(draw, 65536) if chance(draw, 4) else choose(draw, _SIZES))
        case 5:
            return bytes((3, 3, choose(draw, _SHIFTS)))
        case _:
            return bytes((4, 2))


def tcp_options(draw: DrawFn, syn: bool, room: int = 40) -> Parts:
    """Options in up to `room` bytes, padded to a multiple of 4; those of a SYN among them if `syn`."""
    parts: Parts = ()
    for _ in range(below(draw, 7)):
        option = _option(draw, syn)
        if len(joined(parts)) + len(option) <= min(room & ~3, _WHOLE_OPTIONS):
            parts = (*parts, Part(f"tcp.option{option[0]}", option))
    rest = -len(joined(parts)) % 4
    return (*parts, Part("tcp.padding", bytes(rest))) if rest else parts


def tcp_packets(
    draw: DrawFn, parties: Parties, sequence: int | None = None, acknowledgment: int | None = None
) -> Packet:
    """Segments of any kind.

    Their numbers are near the `sequence` number that the network expects, and the `acknowledgment` that the guest may
    send; with None, any.
    """
    source, destination = ends(draw, parties)
    flags = choose(draw, _FLAGS)
    room = parties.room(len(source)) - 20
    options = tcp_options(draw, bool(flags & SYN), room)
    room -= len(joined(options))
    gso_size = 0
    if parties.vnet and not flags & (SYN | RST | URG) and chance(draw, 4):
        gso_size = max(1, min(choose(draw, [1448, 536, 1, 8]), room))
        room = _largest(parties) - (40 if len(source) == 4 else 60) - len(joined(options))
    payload = b"" if not chance(draw, 2) else sizes(draw, room)
    gso_size *= len(payload) > gso_size
    segment = Segment(
        source,
        choose(draw, GUEST_PORTS),
        destination,
        choose(draw, parties.ports),
        _number(draw) if sequence is None else near(draw, sequence),
        _number(draw) if acknowledgment is None else near(draw, acknowledgment),
        flags,
        below(draw, 65536) if chance(draw, 4) else choose(draw, _WINDOWS),
        payload,
        urgent=choose(draw, [0, 1, 65535]) if flags & URG else 0,
        raw_options=joined(options),
    )
    head = segment.emit()
    parts = (*split("tcp", _TCP, head), *options, *((Part("tcp.payload", payload),) if payload else ()))
    return Packet(source, destination, TCP, parts, gso_size=gso_size, header=20 + len(joined(options)))


def data_packets(
    draw: DrawFn, source: bytes, source_port: int, destination: bytes, destination_port: int, parts: Parts
) -> Packet:
    """A segment with the data of an application, at a likely place of the stream."""
    numbers = choose(draw, (1001, 1000)), choose(draw, (1001, 1000))
    segment = Segment(source, source_port, destination, destination_port, *numbers, ACK | PSH, payload=joined(parts))
    return Packet(source, destination, TCP, (*split("tcp", _TCP, segment.emit()), *parts))


# ICMP and ICMPv6


def echo_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Pings, and answers to pings that nothing sent."""
    source, destination = ends(draw, parties, groups=True)
    kinds = (8, 8, 0) if len(source) == 4 else (128, 128, 129)
    data = sizes(draw, parties.room(len(source)) - 8)
    fields = struct.pack("!HH", choose(draw, [7, 0, 65535]), choose(draw, [1, 0, 2, 65535]))
    message = icmp(source, destination, choose(draw, kinds), 0, fields + data)
    names = (*_ICMP, ("identifier", 2), ("sequence", 2))
    return Packet(
        source, destination, message.protocol, (*split("icmp", names, message.payload), Part("icmp.payload", data))
    )


_ERRORS: Final = {
    4: (*((3, code) for code in range(16)), (11, 0), (11, 1), (12, 0), (4, 0), (5, 1)),
    16: (*((1, code) for code in range(8)), (2, 0), (3, 0), (3, 1), (4, 0), (4, 2)),
}


def error_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Errors about packets from the network: unreachable, too big, time exceeded, parameter problem."""
    source, destination = ends(draw, parties)
    kind = choose(draw, _ERRORS[len(source)])
    rest = choose(draw, [0, 68, 576, 1280, 1500, 65535, 0xFFFFFFFF])
    quoted = choose(draw, (udp_packets, tcp_packets, echo_packets))(draw, parties)
    about = Ip(quoted.destination, quoted.source, quoted.protocol, joined(quoted.parts))
    data = about.emit()[: min(choose(draw, [28, 48, 68, 548, 1232]), parties.room(len(source)) - 8)]
    message = icmp(source, destination, *kind, struct.pack("!I", rest) + data)
    parts = split("icmp", (*_ICMP, ("rest", 4)), message.payload)
    protocol = ICMP if len(source) == 4 else ICMPV6
    return Packet(source, destination, protocol, (*parts, *_quoted(about, data)))


def _quoted(about: Ip, data: bytes) -> Parts:
    size = 20 if about.version == 4 else 40
    return Part("quoted.ip", data[:size]), Part("quoted.transport", data[size:])
