"""Packets of TCP, UDP and ICMP."""

from __future__ import annotations

import struct
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

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
    checksum,
    icmp,
    pseudo_header,
    udp,
)
from sansnet_core.testing.strategies.envelopes import Packet, ethernet_parts
from sansnet_core.testing.strategies.parties import Parties
from sansnet_core.testing.strategies.parts import Part, Parts, joined, sizes, split

__all__ = [
    "GUEST_PORTS",
    "arp_parts",
    "checksummed",
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
_REMOTE_PORTS: Final = (80, 443, 53, 22, 853, 7, 65535)
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


def ends(parties: Parties, *, groups: bool = False) -> SearchStrategy[tuple[bytes, bytes]]:
    """Source and destination of a packet of the guest; the destination may be a group."""
    pairs = []
    for size in parties.families:
        destinations = parties.destinations(size) + (parties.groups(size) if groups else ())
        pairs.append(st.tuples(st.sampled_from(parties.sources(size)), st.sampled_from(destinations)))
    return st.one_of(pairs)


def near(value: int) -> SearchStrategy[int]:
    """Sequence numbers near one, or at distances where comparisons may go wrong; modulo 2^32."""
    steps = st.sampled_from(_STEPS) | st.integers(-5000, 5000)
    return steps.map(lambda step: (value + step) % _MODULUS)


def checksummed(source: bytes, destination: bytes, protocol: int, parts: Parts, place: int) -> Parts:
    """The parts of a message, in which the part with the index `place` is its checksum, with the right one."""
    blank = (*parts[:place], Part(parts[place].name, bytes(2)), *parts[place + 1 :])
    data = joined(blank)
    pseudo = b"" if protocol == ICMP else pseudo_header(source, destination, protocol, len(data))
    value = checksum(pseudo + data)
    value = value or 0xFFFF if protocol == UDP else value
    return (*blank[:place], Part(parts[place].name, struct.pack("!H", value)), *blank[place + 1 :])


# ARP


@st.composite
def arp_parts(draw: DrawFn, parties: Parties) -> Parts:
    """Frames of ARP: requests, probes, announcements, replies (RFC 826, RFC 5227)."""
    own = draw(st.sampled_from(parties.sources(4)))
    target = draw(st.sampled_from([parties.gateways[4], *parties.destinations(4), own]))
    sender = draw(st.sampled_from([own, own, bytes(4)]))
    operation = draw(st.sampled_from([1, 1, 2]))
    receiver = parties.mac if operation == 2 else b"\xff" * 6
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + parties.guest_mac + sender + bytes(6) + target
    vnet = (Part("vnet", bytes(12)),) if parties.vnet else ()
    padding = (Part("padding", bytes(18)),) if draw(st.booleans()) else ()
    return (*vnet, *ethernet_parts(parties, receiver, ARP), *split("arp", _ARP, body), *padding)


# UDP


def udp_parts(source: bytes, source_port: int, destination: bytes, destination_port: int, payload: Parts) -> Parts:
    """A datagram with the right checksum."""
    packet = udp(source, source_port, destination, destination_port, joined(payload))
    return (*split("udp", _UDP, packet.payload), *payload)


@st.composite
def udp_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Datagrams with any payload to any port; with offloads also runs of them."""
    source, destination = draw(ends(parties, groups=True))
    ports = draw(st.sampled_from(GUEST_PORTS)), draw(st.sampled_from(_REMOTE_PORTS))
    room = parties.room(len(source)) - 8
    gso_size = 0
    payload = draw(sizes(room))
    if parties.vnet and draw(st.integers(0, 3)) == 3:
        gso_size, count = draw(st.sampled_from([1, 100, 1200])), draw(st.integers(2, 20))
        gso_size = max(1, min(gso_size, room, (_largest(parties) - 48) // count))
        payload = bytes(range(256)) * (gso_size * count // 256 + 1)
        payload = payload[: gso_size * count - draw(st.integers(0, gso_size - 1))]
        gso_size *= len(payload) > gso_size
    parts = udp_parts(source, ports[0], destination, ports[1], (Part("udp.payload", payload),))
    if len(source) == 4 and not gso_size and draw(st.integers(0, 7)) == 7:  # without a checksum (RFC 768)
        parts = (*parts[:3], Part("udp.checksum", bytes(2)), *parts[4:])
    return Packet(source, destination, UDP, parts, gso_size=gso_size, header=8)


def _largest(parties: Parties) -> int:
    """Bytes of the largest IP packet that a frame can have."""
    return min(parties.config.link.max_frame_size - 14, 65535)


# TCP


def _sack(blocks: list[bytes]) -> bytes:
    return bytes((5, 2 + 8 * len(blocks))) + b"".join(blocks)


@st.composite
def tcp_options(draw: DrawFn, syn: bool, room: int = 40) -> Parts:
    """Options in up to `room` bytes, padded to a multiple of 4; those of a SYN among them if `syn`."""
    kinds = [
        st.just(b"\1"),
        st.tuples(st.integers(0, _MODULUS - 1), st.integers(0, _MODULUS - 1)).map(
            lambda stamps: struct.pack("!BBII", 8, 10, *stamps)  # timestamps (RFC 7323)
        ),
        st.sampled_from([bytes((30, 4, 0x20, 0)), bytes((254, 4, 0xF9, 0x89)), bytes((28, 4, 0, 1)), bytes((34, 2))]),
    ]
    if syn:
        sizes_ = st.sampled_from([1460, 536, 1220, 8960, 65535, 88, 1, 0]) | st.integers(0, 65535)
        kinds += [
            sizes_.map(lambda mss: struct.pack("!BBH", 2, 4, mss)),
            st.sampled_from([7, 0, 14, 15, 255, 1]).map(lambda shift: bytes((3, 3, shift))),
            st.just(bytes((4, 2))),
        ]
    else:
        block = st.tuples(st.integers(0, _MODULUS - 1), near(0)).map(
            lambda each: struct.pack("!II", each[0], (each[0] + each[1]) % _MODULUS)
        )
        kinds.append(st.lists(block, min_size=1, max_size=4).map(_sack))
    parts: Parts = ()
    for option in draw(st.lists(st.one_of(kinds), max_size=6)):
        if len(joined(parts)) + len(option) <= min(room & ~3, _WHOLE_OPTIONS):
            parts = (*parts, Part(f"tcp.option{option[0]}", option))
    rest = -len(joined(parts)) % 4
    return (*parts, Part("tcp.padding", bytes(rest))) if rest else parts


@st.composite
def tcp_packets(
    draw: DrawFn, parties: Parties, sequence: int | None = None, acknowledgment: int | None = None
) -> Packet:
    """Segments of any kind.

    Their numbers are near the `sequence` number that the network expects, and the `acknowledgment` that the guest may
    send; with None, any.
    """
    source, destination = draw(ends(parties))
    flags = draw(st.sampled_from(_FLAGS))
    any_number = st.sampled_from([0, 1000, 1001, _MODULUS - 1]) | st.integers(0, _MODULUS - 1)
    room = parties.room(len(source)) - 20
    options = draw(tcp_options(bool(flags & SYN), room))
    room -= len(joined(options))
    gso_size = 0
    if parties.vnet and not flags & (SYN | RST | URG) and draw(st.integers(0, 3)) == 3:
        gso_size = max(1, min(draw(st.sampled_from([1448, 536, 1, 8])), room))
        room = _largest(parties) - (40 if len(source) == 4 else 60) - len(joined(options))
    payload = b"" if not draw(st.booleans()) else draw(sizes(room))
    gso_size *= len(payload) > gso_size
    segment = Segment(
        source,
        draw(st.sampled_from(GUEST_PORTS)),
        destination,
        draw(st.sampled_from(_REMOTE_PORTS)),
        draw(any_number if sequence is None else near(sequence)),
        draw(any_number if acknowledgment is None else near(acknowledgment)),
        flags,
        draw(st.sampled_from([65535, 0, 1, 1000, 29200, 64]) | st.integers(0, 65535)),
        payload,
        urgent=draw(st.sampled_from([0, 1, 65535])) if flags & URG else 0,
        raw_options=joined(options),
    )
    head = segment.emit()
    parts = (*split("tcp", _TCP, head), *options, *((Part("tcp.payload", payload),) if payload else ()))
    return Packet(source, destination, TCP, parts, gso_size=gso_size, header=20 + len(joined(options)))


def data_packets(
    source: bytes, source_port: int, destination: bytes, destination_port: int, parts: Parts
) -> SearchStrategy[Packet]:
    """Segments with the data of an application, wherever they are in the stream."""
    numbers = st.sampled_from([1001, 1000])

    def make(place: tuple[int, int]) -> Packet:
        segment = Segment(source, source_port, destination, destination_port, *place, ACK | PSH, payload=joined(parts))
        return Packet(source, destination, TCP, (*split("tcp", _TCP, segment.emit()), *parts))

    return st.tuples(numbers, numbers).map(make)


# ICMP and ICMPv6


@st.composite
def echo_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Pings, and answers to pings that nothing sent."""
    source, destination = draw(ends(parties, groups=True))
    kinds = (8, 8, 0) if len(source) == 4 else (128, 128, 129)
    data = draw(sizes(parties.room(len(source)) - 8))
    fields = struct.pack("!HH", draw(st.sampled_from([7, 0, 65535])), draw(st.sampled_from([1, 0, 2, 65535])))
    message = icmp(source, destination, draw(st.sampled_from(kinds)), 0, fields + data)
    names = (*_ICMP, ("identifier", 2), ("sequence", 2))
    return Packet(
        source, destination, message.protocol, (*split("icmp", names, message.payload), Part("icmp.payload", data))
    )


@st.composite
def error_packets(draw: DrawFn, parties: Parties) -> Packet:
    """Errors about packets from the network: unreachable, too big, time exceeded, parameter problem."""
    source, destination = draw(ends(parties))
    if len(source) == 4:
        kind = draw(st.sampled_from([(3, code) for code in range(16)] + [(11, 0), (11, 1), (12, 0), (4, 0), (5, 1)]))
    else:
        kind = draw(st.sampled_from([(1, code) for code in range(8)] + [(2, 0), (3, 0), (3, 1), (4, 0), (4, 2)]))
    rest = draw(st.sampled_from([0, 68, 576, 1280, 1500, 65535, 0xFFFFFFFF]))
    quoted = draw(st.one_of(udp_packets(parties), tcp_packets(parties), echo_packets(parties)))
    about = Ip(quoted.destination, quoted.source, quoted.protocol, joined(quoted.parts))
    data = about.emit()[: min(draw(st.sampled_from([28, 48, 68, 548, 1232])), parties.room(len(source)) - 8)]
    message = icmp(source, destination, *kind, struct.pack("!I", rest) + data)
    parts = split("icmp", (*_ICMP, ("rest", 4)), message.payload)
    protocol = ICMP if len(source) == 4 else ICMPV6
    return Packet(source, destination, protocol, (*parts, *_quoted(about, data)))


def _quoted(about: Ip, data: bytes) -> Parts:
    size = 20 if about.version == 4 else 40
    return Part("quoted.ip", data[:size]), Part("quoted.transport", data[size:])
