"""Frames with offloads on a cable: each segment is one that the guest or the kernel would have made."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.impairment import Impairment, Netem
from sansnet_core.impairment.segments import corrupted, split
from sansnet_core.testing import packets
from sansnet_core.testing.packets import Ip, Segment
from sansnet_core.wire import virtio_net

MAC: Final = bytes.fromhex("020000000001")
HERE: Final = {4: bytes((10, 0, 2, 15)), 6: bytes.fromhex("20010db8000000000000000000000015")}
THERE: Final = {4: bytes((192, 0, 2, 80)), 6: bytes.fromhex("20010db8ffff00000000000000000080")}


def offloaded(ip: Ip, kind: int, gso_size: int, *, tag: bytes = b"") -> bytes:
    """A frame with a partial checksum, behind its `virtio_net_hdr`."""
    packet = bytearray(ip.emit())
    head = 20 if ip.version == 4 else 40
    field = head + (6 if kind == virtio_net.GSO_UDP_L4 else 16)
    pseudo = packets.pseudo_header(ip.source, ip.destination, ip.protocol, len(packet) - head)
    struct.pack_into("!H", packet, field, packets.checksum(pseudo) ^ 0xFFFF)
    ethertype = 0x0800 if ip.version == 4 else 0x86DD
    frame = packets.ethernet(MAC, MAC, ethertype, bytes(packet))
    frame = frame[:12] + tag + frame[12:]
    start = 14 + len(tag) + head
    return virtio_net.HEADER.pack(virtio_net.NEEDS_CSUM, kind, 0, gso_size, start, field - head, 0) + frame


def completed(frame: bytes) -> packets.ReadFrame:
    """A frame with its checksum completed, read by the kit, which checks all lengths and checksums."""
    body = virtio_net.complete(frame)
    return packets.read_frame(body.ljust(60, b"\0"), vnet=False)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1449, 2 * 1448, 60000])
@pytest.mark.parametrize("options", [b"", bytes((1, 1, 1, 0))])
def test_tcp(version: int, size: int, options: bytes) -> None:
    data = bytes(range(256)) * 300
    flags = packets.ACK | packets.PSH | packets.FIN
    segment = Segment(HERE[version], 1000, THERE[version], 80, 0xFFFFFF00, 5, flags, 6000, data[:size])
    kind = virtio_net.GSO_TCPV4 if version == 4 else virtio_net.GSO_TCPV6
    pieces = split(offloaded(segment.ip(), kind, 1448))
    assert len(pieces) == -(-size // 1448)
    found = b""
    for number, piece in enumerate(pieces):
        header = virtio_net.parse(piece)
        assert (header.flags, header.gso_type, header.gso_size) == (virtio_net.NEEDS_CSUM, 0, 0)
        [read] = packets.read_segments(packets.read_ip(completed(piece)))
        assert read.sequence == (0xFFFFFF00 + len(found)) % (1 << 32)
        last = number == len(pieces) - 1
        assert read.flags == (flags if last else packets.ACK)
        assert len(read.payload) <= 1448
        found += read.payload
    assert found == data[:size]


def test_the_first_segment_alone_has_cwr_and_identifications_differ() -> None:
    segment = Segment(HERE[4], 1000, THERE[4], 80, 1, 5, packets.ACK | 0x80, 6000, bytes(3000))
    pieces = split(offloaded(segment.ip(), virtio_net.GSO_TCPV4 | 0x80, 1000))
    assert [piece[12 + 34 + 13] & 0x80 for piece in pieces] == [0x80, 0, 0]
    assert len({piece[12 + 18 : 12 + 20] for piece in pieces}) == 3


@pytest.mark.parametrize("version", [4, 6])
def test_udp(version: int) -> None:
    data = bytes(range(256)) * 16
    ip = packets.udp(HERE[version], 1000, THERE[version], 53, data)
    pieces = split(offloaded(ip, virtio_net.GSO_UDP_L4, 1200))
    found = [packets.read_ip(completed(piece)).payload[8:] for piece in pieces]
    assert found == [data[start : start + 1200] for start in range(0, len(data), 1200)]


def test_a_priority_tag_stays() -> None:
    tag = bytes.fromhex("8100e000")
    segment = Segment(HERE[4], 1000, THERE[4], 80, 1, 5, packets.ACK, 6000, bytes(3000))
    pieces = split(offloaded(segment.ip(), virtio_net.GSO_TCPV4, 1000, tag=tag))
    assert [piece[24:28] for piece in pieces] == [tag] * 3
    untagged = [piece[:24] + piece[28:] for piece in pieces]
    lengths = [int.from_bytes(piece[28:30], "big") for piece in untagged]
    assert lengths == [1040, 1040, 1040]


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (1, b"\x03"),  # a kind that does not exist
        (0, b"\0"),  # without a partial checksum
        (4, b"\x2f\0"),  # smaller segments than Linux makes
        (4, b"\0\0"),
        (4, b"\xff\xff"),  # all of it is one segment
        (6, b"\0\0"),  # the transport header begins before the IP header ends
        (6, b"\xff\xff"),
        (24, b"\x12\x34"),  # neither IPv4 nor IPv6
        (58, b"\x00"),  # a TCP header of 0 bytes
    ],
)
def test_a_frame_that_cannot_be_split_stays_as_it_is(offset: int, value: bytes) -> None:
    segment = Segment(HERE[4], 1000, THERE[4], 80, 1, 5, packets.ACK, 6000, bytes(3000))
    frame = bytearray(offloaded(segment.ip(), virtio_net.GSO_TCPV4, 1000))
    assert len(split(bytes(frame))) == 3
    frame[offset : offset + len(value)] = value
    assert split(bytes(frame)) == [bytes(frame)]


@given(st.binary(max_size=200), st.integers(0, 70_000), st.integers(0, 200))
def test_hostile_frames_never_raise_and_make_a_bounded_number_of_segments(head: bytes, size: int, kind: int) -> None:
    kinds = (virtio_net.GSO_TCPV4, virtio_net.GSO_TCPV6, virtio_net.GSO_UDP_L4, kind)
    for gso in kinds:
        begun = bytes((1, gso)) + head[:10] + bytes(12) + b"\x08\0\x45" + head[10:]
        frame = begun + bytes(size)
        pieces = split(frame)
        assert 1 <= len(pieces) <= 1 + len(frame) // 48
        cable = Netem(Impairment(corrupt=1.0), vnet_header=True)
        cable.put([frame, begun, head], 0.0)
        cable.take(0.0)


@given(
    st.sampled_from([virtio_net.GSO_TCPV4, virtio_net.GSO_UDP_L4]),
    st.integers(0, 0xFFFF),
    st.integers(0, 120),
    st.binary(min_size=60, max_size=120),
    st.integers(0, 66_000),
)
def test_hostile_offsets_never_raise(kind: int, gso_size: int, start: int, body: bytes, size: int) -> None:
    header = virtio_net.HEADER.pack(virtio_net.NEEDS_CSUM, kind, 0, gso_size, start, 6, 0)
    for ethertype in (b"\x08\0", b"\x86\xdd", b"\x81\0\0\0\x08\0"):
        split(header + bytes(12) + ethertype + body + bytes(size))


def test_a_wrong_bit_is_noticed_although_the_checksum_was_partial() -> None:
    segment = Segment(HERE[4], 1000, THERE[4], 80, 1, 5, packets.ACK, 6000, bytes(1000))
    frame = offloaded(segment.ip(), virtio_net.GSO_NONE, 0)
    wrong = corrupted(frame, 0.999, 12)
    assert wrong[:12] == bytes(12)
    assert len(wrong) == len(frame)
    with pytest.raises(AssertionError):
        packets.read_segments(packets.read_ip(packets.read_frame(wrong[12:], vnet=False)))
    right = virtio_net.complete(frame)
    assert sum(here != there for here, there in zip(wrong[12:], right, strict=True)) == 1


def test_a_cable_carries_segments() -> None:
    segment = Segment(HERE[4], 1000, THERE[4], 80, 1, 5, packets.ACK, 6000, bytes(14480))
    cable = Netem(Impairment(rate=8e6), vnet_header=True)
    frame = offloaded(segment.ip(), virtio_net.GSO_TCPV4, 1448)
    cable.put([(frame[:66], memoryview(frame)[66:])], 0.0)
    assert cable.statistics().frames == 10
    assert cable.next_deadline() == pytest.approx(0.001502)
