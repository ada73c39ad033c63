"""The headers of packets, from Ethernet to TCP.

A parser raises `Malformed` and nothing else; the bounds that it gives lie within the frame and in order; a second
reader, written from the RFCs, finds the same; a summary never raises and is one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.errors import HeaderProblem, Malformed
from sansnet_core.summary import summary
from sansnet_core.testing import packets
from sansnet_core.wire import arp, ethernet, icmp4, icmp6, ipv4, ipv6, ndp, quoted, tcp, udp
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP, IpHeader
from tests.fuzz import corpus

__all__ = ["arp_packet", "ipv4_packet", "ipv6_packet", "message_of_icmp", "segment", "summary_of_frame"]

_ADDRESSES: Final = (
    bytes(16),
    bytes.fromhex("fe800000000000000000000000000015"),
    bytes.fromhex("20010db8000000000000000000000015"),
    bytes.fromhex("ff0200000000000000000001ff000015"),
)


@cache
def _frames() -> tuple[bytes, ...]:
    return tuple(corpus.frames().values())


def _packets(version: int) -> Iterable[bytes]:
    return [packet.emit() for packet in corpus.packets().values() if packet.version == version]


def _payloads(*protocols: int) -> Iterable[bytes]:
    """Payloads behind the bytes that choose the header."""
    return [b"\0\1\2" + packet.payload for packet in corpus.packets().values() if packet.protocol in protocols]


def _header(choices: Choices) -> IpHeader:
    """An IP header whose payload is what is left, with some bytes before and behind it."""
    six = choices.flag()
    size = 16 if six else 4
    source, destination = choices.pick(_ADDRESSES)[-size:], choices.pick(_ADDRESSES)[-size:]
    return IpHeader(6 if six else 4, source, destination, 0, 255, 0, 14, 54, 54 + choices.left)


def _in_frame(payload: bytes) -> bytes:
    return bytes(54) + payload + b"\xee" * 4


@target(seeds=_frames, words=(b"\x08\x00\x45", b"\x86\xdd\x60", b"\x08\x06", b"\x81\x00"))
def summary_of_frame(data: bytes) -> None:
    """The line about a frame."""
    text = summary(data)
    assert text.isprintable()
    assert len(text) < 500 + 40 * len(data)
    if data[12:14] == ethernet.ETHERTYPE_VLAN:
        try:
            assert ethernet.without_priority_tag(data, 0) == data[:12] + data[16:]
        except Malformed:
            assert len(data) < 18 or data[14] & 15 or data[15]


@target(max_size=128, seeds=lambda: [frame[14:] for frame in _frames() if frame[12:14] == b"\x08\x06"])
def arp_packet(data: bytes) -> None:
    """An ARP packet."""
    frame = bytes(14) + data
    assert arp.summary(frame, 14, len(frame)).isprintable()
    try:
        packet = arp.parse(frame, 14, len(frame))
    except Malformed:
        return
    assert arp.emit(packet) == data[: arp.SIZE]


@target(seeds=lambda: _packets(4), words=(b"\x45\0", b"\x46\0", b"\x4f\0"))
def ipv4_packet(data: bytes) -> None:
    """An IPv4 packet with padding behind it."""
    frame = bytes(14) + data
    try:
        header, identification, field = ipv4.parse(frame, 14, len(frame), verify=False)
    except Malformed:
        size = (data[0] & 15) * 4 if data else 0
        total = int.from_bytes(data[2:4], "big")
        assert len(data) < 20 or data[0] >> 4 != 4 or not 20 <= size <= total <= len(data)
        return
    assert 14 + 20 <= header.start <= header.end <= len(frame)
    try:
        ipv4.parse(frame, 14, len(frame))
    except Malformed:
        assert packets.checksum(data[: header.start - 14]) != 0
    else:
        assert packets.checksum(data[: header.start - 14]) == 0
    if header.start == 34:
        size = header.end - header.start
        made = ipv4.emit_header(*header[1:4], size, header.ttl, header.tos, identification, field)
        assert made[:10] + made[12:] == data[:10] + data[12:20]
        assert packets.checksum(made) == 0


def _chain(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The extension headers of a packet: kind, offset, size. It ends where a header is cut off."""
    kind, place = data[6], 40
    while kind in (0, 43, 44, 60) and place + 8 <= len(data):
        size = 8 if kind == 44 else 8 + 8 * data[place + 1]
        yield kind, place, size
        if kind == 44 and int.from_bytes(data[place + 2 : place + 4], "big") & 0xFFF9:
            return
        kind, place = data[place], place + size


@target(seeds=lambda: _packets(6), words=(b"\x60\0\0\0", b"\0\0\1\4", b"\x2c\0", b"\x2b\0", b"\x3c\0"))
def ipv6_packet(data: bytes) -> None:
    """An IPv6 packet with extension headers."""
    frame = bytes(14) + data
    if len(data) >= 40:
        protocol, place, pointer = ipv6.last_header(frame, 14, len(frame))
        assert 14 < place <= len(frame)
        assert frame[14 + pointer] == protocol
    try:
        header, _, field = ipv6.parse(frame, 14, len(frame))
    except HeaderProblem as problem:
        if problem.pointer >= len(data):
            raise AssertionError("a pointer behind the packet") from None
        return
    except Malformed:
        return
    assert 14 + 40 <= header.start <= header.end <= len(frame)
    assert header.end == 14 + 40 + int.from_bytes(data[4:6], "big")
    chain = list(_chain(data[: header.end - 14]))
    kind, place, size = chain[-1] if chain else (None, 40, 0)
    assert header.start == 14 + place + size
    assert header.protocol == (data[place] if chain else data[6])
    assert sum(each[0] == 44 for each in chain) <= 1
    assert header.may_fragment == any(each[0] == 44 for each in chain)
    assert bool(field) == (kind == 44 and bool(int.from_bytes(data[place + 2 : place + 4], "big") & 0xFFF9))
    assert not any(each[0] == 43 and data[each[1] + 3] for each in chain), "segments left"


def _options(data: bytes) -> tuple[int | None, int | None, bool, tuple[tuple[int, int], ...]]:
    """MSS, window scale, whether SACK is permitted, and its blocks: a second reader (RFC 9293 3.1, 7323 2.2, 2018)."""
    mss = scale = None
    permitted = False
    blocks: tuple[tuple[int, int], ...] = ()
    while data and data[0] != 0:
        if data[0] == 1:
            data = data[1:]
            continue
        if len(data) < 2 or data[1] < 2 or data[1] > len(data):
            break
        kind, value, data = data[0], data[2 : data[1]], data[data[1] :]
        numbers = [int.from_bytes(value[at : at + 4], "big") for at in range(0, len(value), 4)]
        if kind == 2 and len(value) == 2:
            mss = int.from_bytes(value, "big") or None
        elif kind == 3 and len(value) == 1:
            scale = min(14, value[0])
        elif kind == 4 and not value:
            permitted = True
        elif kind == 5 and value and len(value) % 8 == 0:
            blocks = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return mss, scale, permitted, blocks


@target(seeds=lambda: _payloads(TCP, UDP), words=(b"\2\4", b"\3\3", b"\4\2", b"\5\x0a", b"\5\x12"))
def segment(data: bytes) -> None:
    """A TCP segment, and the same bytes as a UDP datagram."""
    choices = Choices(data)
    ip = _header(choices)
    payload = choices.rest()
    frame = _in_frame(payload)
    for describe in (tcp.summary, udp.summary):
        assert describe(frame, ip, "a", "b").isprintable()
    pseudo = packets.pseudo_header(ip.source, ip.destination, TCP, len(payload))
    try:
        header = tcp.parse(frame, ip, verify=False)
    except Malformed:
        pass
    else:
        assert ip.start + 20 == header.options_start <= header.start <= header.end == ip.end
        options = frame[header.options_start : header.start]
        assert tcp.parse_options(frame, header.options_start, header.start) == _options(options)
        try:
            tcp.parse(frame, ip, verify=True)
        except Malformed:
            assert packets.checksum(pseudo + payload) != 0
        else:
            assert packets.checksum(pseudo + payload) == 0
    try:
        datagram = udp.parse(frame, ip, verify=True)
    except Malformed:
        return
    assert ip.start + 8 == datagram.start <= datagram.end <= ip.end
    made = udp.emit(ip.source, ip.destination, *datagram[:2], frame[datagram.start : datagram.end])
    assert made[6:8] != bytes(2), "no checksum"
    if int.from_bytes(payload[6:8], "big"):
        assert made[:6] + made[8:] == payload[: datagram.end - ip.start][:6] + payload[8 : datagram.end - ip.start]
        assert int.from_bytes(made[6:8], "big") % 65535 == int.from_bytes(payload[6:8], "big") % 65535


@target(seeds=lambda: _payloads(ICMP, ICMPV6), words=(b"\x87\0", b"\x85\0", b"\1\1", b"\2\1", b"\x45\0\0"))
def message_of_icmp(data: bytes) -> None:
    """An ICMP or ICMPv6 message, a solicitation, and a packet that is quoted."""
    choices = Choices(data)
    ip = _header(choices)
    payload = choices.rest()
    frame = _in_frame(payload)
    module = icmp4 if ip.version == 4 else icmp6
    assert module.summary(frame, ip, "a", "b").isprintable()
    try:
        header = module.parse(frame, ip, verify=False)
    except Malformed:
        return
    assert ip.start + 8 == header.start <= header.end == ip.end
    found = quoted.parse(frame, ip, header)
    if found is not None:
        assert len(found.source) == len(found.destination) == len(ip.source)
        assert found.source + found.destination in payload
        assert len(found.reverse_key()) == 2 * len(ip.source) + 4
    if ip.version == 6 and header.type in (icmp6.NEIGHBOUR_SOLICITATION, icmp6.ROUTER_SOLICITATION):
        assert ndp.summary(frame, ip, header).isprintable()
        try:
            solicitation = ndp.parse(frame, ip, header)
        except Malformed:
            return
        assert (solicitation.target is None) == (header.type == icmp6.ROUTER_SOLICITATION)
        assert solicitation.link_address is None or len(solicitation.link_address) == 6
        assert solicitation.target is None or len(solicitation.target) == 16
