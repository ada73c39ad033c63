from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import ipv4
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4
from sansnet_core.wire.ip import UDP, IpHeader
from tests.core.vectors import ANY_FRAME, frames

# Version 4, 20 bytes, TOS 0x2e, 28 bytes, identification 0x1234, DF, TTL 64, UDP; then 8 bytes of payload
VECTOR = bytes.fromhex("452e001c123440004011a46bc0000201c0000202") + b"payload!"
HEADER = IpHeader(4, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), UDP, 64, 0x2E, 0, 20, 28)


def changed(index: int, *values: int) -> bytes:
    return VECTOR[:index] + bytes(values) + VECTOR[index + len(values) :]


def test_a_packet_is_read() -> None:
    assert ipv4.parse(VECTOR, 0, len(VECTOR)) == (HEADER, 0x1234, ipv4.DONT_FRAGMENT)


def test_a_header_is_written() -> None:
    written = ipv4.emit_header(HEADER.source, HEADER.destination, UDP, 8, 64, 0x2E, 0x1234, ipv4.DONT_FRAGMENT)
    assert written == VECTOR[:20]


def test_a_packet_is_read_from_a_view_and_its_addresses_are_bytes() -> None:
    ip, _, _ = ipv4.parse(memoryview(VECTOR), 0, len(VECTOR))
    assert ip == HEADER
    assert type(ip.source) is type(ip.destination) is bytes


@pytest.mark.parametrize("padding", [0, 1])
def test_a_packet_may_be_empty(padding: int) -> None:
    head = ipv4.emit_header(HEADER.source, HEADER.destination, UDP, 0, 64, 0, 0, 0)
    ip, _, _ = ipv4.parse(bytes(14) + head + bytes(padding), 14, 34 + padding)
    assert (ip.start, ip.end) == (34, 34)


def test_the_total_length_trims_padding() -> None:
    frame = bytes(14) + VECTOR + bytes(18)
    ip, _, _ = ipv4.parse(frame, 14, len(frame))
    assert (ip.header, ip.start, ip.end) == (14, 34, 42)


def test_options_are_skipped() -> None:
    head = bytes([0x46]) + VECTOR[1:3] + bytes([32]) + VECTOR[4:20] + b"\x94\4\0\0"  # router alert
    ip, _, _ = ipv4.parse(head + b"payload!", 0, 32, verify=False)
    assert (ip.start, ip.end) == (24, 32)


@pytest.mark.parametrize(
    ("options", "routed"),
    [
        (b"\x83\7\4\1\2\3\4\0", True),  # loose
        (b"\x89\7\4\1\2\3\4\0", True),  # strict
        (b"\1\1\7\3\4\x83\7\4\1\2\3\4", True),  # behind others
        (b"\x83\7\7\1\2\3\4\0", True),  # the pointer is at the last byte
        (b"\x83\7\x08\1\2\3\4\0", False),  # complete
        (b"\x83\3\4\0", False),  # without addresses
        (b"\7\7\4\1\2\3\4\0", False),  # record route
        (b"\0\x83\7\4\1\2\3\4", False),  # behind the end
        (b"\x94\1\x83\7\4\1\2\3", False),  # behind a broken one
        (b"\1\1\x83\7", False),  # cut
        (b"", False),
    ],
)
def test_a_source_route_that_is_not_complete_is_found(options: bytes, routed: bool) -> None:
    assert ipv4.is_routed(b"head" + options + b"\x83\7\4", 4, 4 + len(options)) is routed


def test_a_fragment_says_where_it_belongs() -> None:
    head = ipv4.emit_header(HEADER.source, HEADER.destination, UDP, 8, 64, 0, 7, ipv4.MORE_FRAGMENTS | 185)
    _, identification, fragment = ipv4.parse(head + bytes(8), 0, 28)
    assert identification == 7
    assert fragment & ipv4.FRAGMENTED
    assert fragment & ipv4.OFFSET == 185


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(VECTOR[:19], id="shorter than a header"),
        pytest.param(changed(0, 0x65), id="version 6"),
        pytest.param(changed(0, 0x44), id="header length below 20"),
        pytest.param(changed(0, 0x4F), id="header longer than the packet"),
        pytest.param(changed(2, 0, 29), id="total length beyond the frame"),
        pytest.param(changed(2, 0, 19), id="total length below the header's"),
    ],
)
def test_a_header_that_is_wrong_is_refused(packet: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        ipv4.parse(packet, 0, len(packet))
    assert caught.value.reason is Reason.IPV4_MALFORMED


def test_a_wrong_checksum_is_refused_if_asked() -> None:
    packet = changed(8, 63)
    with pytest.raises(Malformed) as caught:
        ipv4.parse(packet, 0, len(packet))
    assert caught.value.reason is Reason.IPV4_CHECKSUM
    assert ipv4.parse(packet, 0, len(packet), verify=False)[0].ttl == 63


def test_what_linux_sends_is_read_and_written_back() -> None:
    for frame in frames(ETHERTYPE_IPV4):
        ip, identification, fragment = ipv4.parse(frame, 14, len(frame))
        size = ip.end - ip.start
        fields = ip.source, ip.destination, ip.protocol, size, ip.ttl, ip.tos, identification, fragment
        assert ipv4.emit_header(*fields) == frame[14:34]


@given(
    source=st.binary(min_size=4, max_size=4),
    destination=st.binary(min_size=4, max_size=4),
    protocol=st.integers(0, 255),
    payload=st.binary(max_size=40),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    identification=st.integers(0, 65535),
    fragment=st.integers(0, 65535),
)
def test_every_header_that_is_written_is_read(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    ttl: int,
    tos: int,
    identification: int,
    fragment: int,
) -> None:
    size = len(payload)
    packet = ipv4.emit_header(source, destination, protocol, size, ttl, tos, identification, fragment) + payload
    may_fragment = not fragment & ipv4.DONT_FRAGMENT
    header = IpHeader(4, source, destination, protocol, ttl, tos, 0, 20, 20 + size, may_fragment)
    assert ipv4.parse(packet, 0, len(packet)) == (header, identification, fragment)


@given(ANY_FRAME, st.integers(0, 40), st.booleans())
def test_any_bytes_are_a_header_or_malformed(data: bytes, start: int, verify: bool) -> None:
    try:
        ip, _, _ = ipv4.parse(data, start, len(data), verify)
    except Malformed:
        return
    assert start + 20 <= ip.start <= ip.end <= len(data)
