"""Builds and reads frames, independently of the core.

Building is generous: any field can be set to nonsense. Reading is strict: whatever a well-behaved network must not
send is an `AssertionError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypedDict

__all__ = [
    "ACK",
    "ARP",
    "FIN",
    "GSO_NONE",
    "GSO_TCPV4",
    "GSO_TCPV6",
    "GSO_UDP_L4",
    "ICMP",
    "ICMPV6",
    "IPV4",
    "IPV6",
    "NEEDS_CSUM",
    "PSH",
    "RST",
    "SYN",
    "TCP",
    "UDP",
    "URG",
    "Ip",
    "ReadFrame",
    "Segment",
    "SegmentFields",
    "arp_request",
    "checksum",
    "dhcp_discover",
    "echo_request",
    "ethernet",
    "fragments",
    "glue",
    "icmp",
    "neighbor_solicitation",
    "pseudo_header",
    "read_frame",
    "read_ip",
    "read_segments",
    "router_solicitation",
    "udp",
]

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
PSH: Final = 8
ACK: Final = 16
URG: Final = 32

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

IPV4: Final = 0x0800
ARP: Final = 0x0806
IPV6: Final = 0x86DD

GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
NEEDS_CSUM: Final = 1

_FLAGS: Final = "FSRPAUEC"


def checksum(data: bytes) -> int:
    """RFC 1071, word by word as the RFC has it; 0 for data that holds its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, size: int) -> bytes:
    """RFC 9293 3.1 and RFC 8200 8.1."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, size)
    return source + destination + struct.pack("!IHBB", size, 0, 0, protocol)


def glue(frame: bytes | memoryview | tuple[bytes, bytes | memoryview]) -> bytes:
    """One `bytes` of a frame that may come in two parts."""
    return b"".join(frame) if isinstance(frame, tuple) else bytes(frame)


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """An Ethernet II frame, without padding."""
    return destination + source + struct.pack("!H", ethertype) + payload


@dataclass(frozen=True, slots=True)
class Ip:
    """An IP packet of either family; also the builder of one.

    Attributes:
        source, destination: addresses, of 4 or 16 bytes.
        protocol: number of the protocol of the payload.
        payload: all bytes behind the header of IPv4 or the first header of IPv6.
        ttl: of IPv4, or the hop limit of IPv6.
        tos: the byte of DSCP and ECN; the traffic class of IPv6.
        options: of IPv4, a multiple of 4 bytes.
        identification: of IPv4.
        fragment: the flags and the offset of IPv4 as one number of 16 bits; 0x4000 is "don't fragment".
    """

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    ttl: int = 64
    tos: int = 0
    options: bytes = b""
    identification: int = 0
    fragment: int = 0x4000

    @property
    def version(self) -> int:
        """4 or 6, as the addresses are."""
        return 4 if len(self.source) == 4 else 6

    def emit(self) -> bytes:
        """Header and payload."""
        if self.version == 6:
            head = struct.pack("!IHBB", 0x60000000 | self.tos << 20, len(self.payload), self.protocol, self.ttl)
            return head + self.source + self.destination + self.payload
        size = 20 + len(self.options)
        words = (0x40 | size // 4, self.tos, size + len(self.payload), self.identification, self.fragment)
        first = struct.pack("!BBHHHBB", *words, self.ttl, self.protocol)
        rest = self.source + self.destination + self.options
        return first + struct.pack("!H", checksum(first + bytes(2) + rest)) + rest + self.payload


class SegmentFields(TypedDict, total=False):
    """The fields of a segment that a test may set, besides flags and payload."""

    sequence: int
    acknowledgment: int
    window: int
    mss: int | None
    scale: int | None
    sack_permitted: bool
    sack: tuple[tuple[int, int], ...]
    urgent: int
    raw_options: bytes | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment with its addresses; also the builder of one.

    Attributes:
        source, destination: addresses, of 4 or 16 bytes.
        source_port, destination_port: 0 to 65535.
        sequence, acknowledgment: as on the wire, modulo 2^32.
        flags: `SYN`, `ACK` and the like, added.
        window: the field as on the wire, not scaled.
        payload: the data.
        mss, scale: values of these options; None without them.
        sack_permitted: whether there is this option.
        sack: blocks of selective acknowledgments, each with its start and its end.
        urgent: the urgent pointer.
        raw_options: replaces all options, when building; None for those above.
    """

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    sequence: int = 0
    acknowledgment: int = 0
    flags: int = 0
    window: int = 65535
    payload: bytes = b""
    mss: int | None = None
    scale: int | None = None
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()
    urgent: int = 0
    raw_options: bytes | None = None

    def __str__(self) -> str:
        flags = "".join(letter for bit, letter in enumerate(_FLAGS) if self.flags >> bit & 1) or "-"
        extra = f" sack {self.sack}" if self.sack else ""
        return f"{flags} seq {self.sequence} len {len(self.payload)} ack {self.acknowledgment} win {self.window}{extra}"

    @property
    def size(self) -> int:
        """Sequence numbers that the segment takes: SEG.LEN of RFC 9293."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def options(self) -> bytes:
        """The bytes of the options."""
        if self.raw_options is not None:
            return self.raw_options
        parts = b""
        if self.mss is not None:
            parts += struct.pack("!BBH", 2, 4, self.mss)
        if self.sack_permitted:
            parts += bytes((4, 2, 1, 1))
        if self.scale is not None:
            parts += bytes((1, 3, 3, self.scale))
        if self.sack:
            parts += bytes((1, 1, 5, 2 + 8 * len(self.sack)))
            parts += b"".join(struct.pack("!II", *block) for block in self.sack)
        return parts

    def emit(self, *, right_checksum: bool = True) -> bytes:
        """Header and payload; with a checksum of the pseudo-header alone if not `right_checksum`."""
        options = self.options()
        head = struct.pack(
            "!HHIIBBHHH",
            self.source_port,
            self.destination_port,
            self.sequence & 0xFFFFFFFF,
            self.acknowledgment & 0xFFFFFFFF,
            (20 + len(options)) // 4 << 4,
            self.flags,
            self.window,
            0,
            self.urgent,
        )
        body = head + options + self.payload
        pseudo = pseudo_header(self.source, self.destination, TCP, len(body))
        value = checksum(pseudo + body) if right_checksum else ~checksum(pseudo) & 0xFFFF
        return body[:16] + struct.pack("!H", value) + body[18:]

    def ip(self) -> Ip:
        """The packet that carries it."""
        return Ip(self.source, self.destination, TCP, self.emit())


def udp(source: bytes, source_port: int, destination: bytes, destination_port: int, payload: bytes) -> Ip:
    """A UDP datagram in a packet."""
    size = 8 + len(payload)
    head = struct.pack("!HHHH", source_port, destination_port, size, 0)
    value = checksum(pseudo_header(source, destination, UDP, size) + head + payload) or 0xFFFF
    return Ip(source, destination, UDP, head[:6] + struct.pack("!H", value) + payload)


def icmp(source: bytes, destination: bytes, kind: int, code: int, body: bytes, *, ttl: int = 64) -> Ip:
    """An ICMP or ICMPv6 message; `body` is all behind the checksum."""
    protocol = ICMP if len(source) == 4 else ICMPV6
    head = bytes((kind, code, 0, 0)) + body
    pseudo = pseudo_header(source, destination, protocol, len(head)) if protocol == ICMPV6 else b""
    head = head[:2] + struct.pack("!H", checksum(pseudo + head)) + body
    return Ip(source, destination, protocol, head, ttl=ttl)


def echo_request(source: bytes, destination: bytes, identifier: int, sequence: int, data: bytes) -> Ip:
    """A ping."""
    kind = 8 if len(source) == 4 else 128
    return icmp(source, destination, kind, 0, struct.pack("!HH", identifier, sequence) + data)


def router_solicitation(source: bytes, mac: bytes) -> Ip:
    """RFC 4861, 4.1."""
    everyone = bytes.fromhex("ff020000000000000000000000000002")
    return icmp(source, everyone, 133, 0, bytes(4) + b"\1\1" + mac, ttl=255)


def neighbor_solicitation(source: bytes, target: bytes, mac: bytes) -> Ip:
    """RFC 4861, 4.3, to the solicited-node address."""
    group = bytes.fromhex("ff0200000000000000000001ff") + target[-3:]
    return icmp(source, group, 135, 0, bytes(4) + target + b"\1\1" + mac, ttl=255)


def arp_request(mac: bytes, address: bytes, target: bytes) -> bytes:
    """A whole frame that asks for `target`."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + mac + address + bytes(6) + target
    return ethernet(b"\xff" * 6, mac, ARP, body)


def dhcp_discover(mac: bytes, transaction: int = 0x5A5A5A5A, *, kind: int = 1) -> Ip:
    """DHCPDISCOVER, or with `kind` another message without further options."""
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, transaction, 0, 0x8000) + bytes(16) + mac + bytes(10 + 64 + 128)
    options = bytes.fromhex("63825363") + bytes((53, 1, kind, 55, 4, 1, 3, 6, 26, 255))
    return udp(bytes(4), 68, b"\xff" * 4, 67, head + options)


def fragments(packet: Ip, size: int, identification: int = 7) -> list[Ip]:
    """The packet cut into fragments of `size` payload bytes, a multiple of 8 (RFC 791, 3.2; RFC 8200, 4.5)."""
    assert size % 8 == 0
    parts = []
    for offset in range(0, len(packet.payload), size):
        part = packet.payload[offset : offset + size]
        more = offset + size < len(packet.payload)
        if packet.version == 4:
            changed = replace(packet, payload=part, identification=identification, fragment=offset // 8 | more << 13)
        else:
            head = struct.pack("!BBHI", packet.protocol, 0, offset | more, identification)
            changed = replace(packet, payload=head + part, protocol=44)
        parts.append(changed)
    return parts


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """A frame from the network, its offload header understood.

    Attributes:
        destination, source: Ethernet addresses, of 6 bytes.
        ethertype: `IPV4`, `IPV6`, `ARP` or another one.
        payload: all behind the Ethernet header, with its padding.
        partial: whether the transport checksum is for the guest to complete.
        gso_type: `GSO_NONE`, or the kind of segmentation that is left to the guest.
        gso_size: payload bytes of each segment then; 0 without segmentation.
        size: bytes of the frame without its offload header.
    """

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes
    partial: bool = False
    gso_type: int = GSO_NONE
    gso_size: int = 0
    size: int = field(default=0, compare=False)


def read_frame(frame: bytes | memoryview | tuple[bytes, bytes | memoryview], *, vnet: bool) -> ReadFrame:
    """Takes a frame from the network apart, as strictly as virtio 1.2 5.1.6 allows."""
    data = glue(frame)
    flags = gso_type = header_size = gso_size = start = offset = 0
    if vnet:
        flags, gso_type, header_size, gso_size, start, offset, buffers = struct.unpack_from("<BBHHHHH", data)
        data = data[12:]
        assert flags in (0, NEEDS_CSUM), f"flags {flags}"
        assert gso_type in (GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4)
        assert buffers <= 1
    assert len(data) >= (14 if vnet else 60), "frame too short for Ethernet"
    ethertype = struct.unpack_from("!H", data, 12)[0]
    if flags:
        protocol = data[23] if ethertype == IPV4 else data[20]
        assert start == (34 if ethertype == IPV4 else 54)
        assert offset == {TCP: 16, UDP: 6}[protocol]
    if gso_type:
        assert flags, "segmentation without a partial checksum"
        assert gso_size > 0
        assert gso_type == GSO_UDP_L4 or (gso_type == GSO_TCPV4) == (ethertype == IPV4)
        transport = 8 if gso_type == GSO_UDP_L4 else (data[start + 12] >> 4) * 4
        assert header_size == start + transport
        assert len(data) - header_size > gso_size, "segmentation of a frame that is one segment"
    else:
        assert gso_size == 0
    return ReadFrame(data[:6], data[6:12], ethertype, data[14:], bool(flags), gso_type, gso_size, len(data))


def read_ip(frame: ReadFrame) -> Ip:
    """The packet in a frame, its lengths and checksums verified; a fragment keeps its payload as it is."""
    data = frame.payload
    if frame.ethertype == IPV4:
        size = (data[0] & 15) * 4
        total, identification, fragment = struct.unpack_from("!HHH", data, 2)
        assert data[0] >> 4 == 4
        assert size == 20, "options from the network"
        assert total == len(data) or frame.size == 60, f"total length {total}, but {len(data)} bytes"
        assert checksum(data[:20]) == 0, "IPv4 header checksum"
        ip = Ip(data[12:16], data[16:20], data[9], data[size:total], data[8], data[1], b"", identification, fragment)
        whole = fragment & 0x3FFF == 0
    else:
        assert frame.ethertype == IPV6
        first, size, protocol, ttl = struct.unpack_from("!IHBB", data)
        assert first >> 28 == 6
        assert size == len(data) - 40 or frame.size == 60, f"payload length {size}, but {len(data) - 40} bytes"
        ip = Ip(data[8:24], data[24:40], protocol, data[40 : 40 + size], ttl, first >> 20 & 0xFF)
        whole = protocol != 44
    if whole:
        _check_transport(ip, frame.partial)
    return ip


def _check_transport(ip: Ip, partial: bool) -> None:
    pseudo = pseudo_header(ip.source, ip.destination, ip.protocol, len(ip.payload))
    if ip.protocol in (TCP, UDP):
        field_value = struct.unpack_from("!H", ip.payload, 16 if ip.protocol == TCP else 6)[0]
        if partial:
            assert field_value % 65535 == (~checksum(pseudo) & 0xFFFF) % 65535, "partial checksum"
            # Linux takes 0 for a datagram without a checksum, which IPv6 forbids (RFC 8200, 8.1)
            assert ip.protocol == TCP or field_value != 0, "UDP without a partial checksum"
            return
        assert ip.protocol == TCP or field_value != 0, "UDP without a checksum"
    if ip.protocol in (TCP, UDP, ICMPV6):
        assert checksum(pseudo + ip.payload) == 0, f"checksum of protocol {ip.protocol}"
    elif ip.protocol == ICMP:
        assert checksum(ip.payload) == 0, "ICMP checksum"


def _read_options(segment: Segment, data: bytes) -> Segment:
    position = 0
    while position < len(data):
        kind = data[position]
        if kind <= 1:
            if kind == 0:
                assert not any(data[position:]), "bytes behind the end of options"
                break
            position += 1
            continue
        size = data[position + 1]
        assert 2 <= size <= len(data) - position, "option length"
        value = data[position + 2 : position + size]
        position += size
        if kind == 2:
            segment = replace(segment, mss=struct.unpack("!H", value)[0])
        elif kind == 3:
            segment = replace(segment, scale=value[0])
        elif kind == 4:
            segment = replace(segment, sack_permitted=True)
        elif kind == 5:
            edges = struct.unpack(f"!{len(value) // 4}I", value)
            segment = replace(segment, sack=tuple(zip(edges[::2], edges[1::2], strict=True)))
        else:
            raise AssertionError(f"TCP option {kind} that nobody asked for")
    return segment


def read_segments(ip: Ip, gso_size: int = 0) -> Iterable[Segment]:
    """The TCP segment in a packet, or all those that a guest makes of an offloaded one."""
    data = ip.payload
    ports_and_numbers = struct.unpack_from("!HHIIBBHHH", data)
    source_port, destination_port, sequence, acknowledgment, offset, flags, window, _, urgent = ports_and_numbers
    size = (offset >> 4) * 4
    assert 20 <= size <= len(data), "data offset"
    assert offset & 15 == 0, "reserved bits"
    payload = data[size:]
    segment = Segment(
        ip.source, source_port, ip.destination, destination_port, sequence, acknowledgment, flags, window, payload
    )
    segment = replace(_read_options(segment, data[20:size]), urgent=urgent)
    if segment.mss is not None or segment.scale is not None or segment.sack_permitted:
        assert flags & SYN, "an option of SYN segments in another one"
    if not gso_size or len(payload) <= gso_size:
        return [segment]
    assert not flags & (SYN | RST | URG), "segmentation of a control segment"
    return [
        replace(
            segment,
            sequence=(sequence + start) & 0xFFFFFFFF,
            payload=payload[start : start + gso_size],
            flags=flags if start + gso_size >= len(payload) else flags & ~(FIN | PSH),
        )
        for start in range(0, len(payload), gso_size)
    ]
