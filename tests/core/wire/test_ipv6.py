from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse as address
from sansnet_core.errors import HeaderProblem, Malformed, Reason
from sansnet_core.wire import icmp6, ipv6
from sansnet_core.wire.ethernet import ETHERTYPE_IPV6
from sansnet_core.wire.ip import ICMPV6, TCP, UDP, IpHeader
from tests.core.vectors import ANY_FRAME, frames

SOURCE, DESTINATION = address("2001:db8::1"), address("2001:db8::2")
# Version 6, traffic class 0x2e, 8 bytes of UDP, hop limit 64; then the payload
VECTOR = bytes.fromhex("62e0000000081140") + SOURCE + DESTINATION + b"payload!"
HEADER = IpHeader(6, SOURCE, DESTINATION, UDP, 64, 0x2E, 0, 40, 48)

HOP_BY_HOP, ROUTING, FRAGMENT, ESP, AH, NO_NEXT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 50, 51, 59, 60
PADDING = bytes([1, 4, 0, 0, 0, 0])


def packet(first: int, *extensions: bytes, payload: bytes = b"payload!") -> bytes:
    body = b"".join(extensions) + payload
    return ipv6.emit_header(SOURCE, DESTINATION, first, len(body), 64, 0) + body


def options(following: int, data: bytes = PADDING) -> bytes:
    assert len(data) % 8 == 6
    return bytes([following, len(data) >> 3]) + data


def routing(following: int, segments_left: int, kind: int = 0) -> bytes:
    return bytes([following, 2, kind, segments_left]) + bytes(4) + DESTINATION


def fragment(following: int, field: int, identification: int = 7) -> bytes:
    return ipv6.FRAGMENT_HEADER.pack(following, 0, field, identification)


def reason(data: bytes) -> Reason:
    with pytest.raises(Malformed) as caught:
        ipv6.parse(data, 0, len(data))
    return caught.value.reason


def test_a_packet_is_read() -> None:
    assert ipv6.parse(VECTOR, 0, len(VECTOR)) == (HEADER, 0, 0)


def test_a_header_is_written() -> None:
    assert ipv6.emit_header(SOURCE, DESTINATION, UDP, 8, 64, 0x2E) == VECTOR[:40]


def test_a_packet_is_read_from_a_view_and_its_addresses_are_bytes() -> None:
    ip, _, _ = ipv6.parse(memoryview(VECTOR), 0, len(VECTOR))
    assert ip == HEADER
    assert type(ip.source) is type(ip.destination) is bytes


def test_the_flow_label_changes_nothing() -> None:
    assert ipv6.parse(VECTOR[:1] + b"\xef\xff\xff" + VECTOR[4:], 0, len(VECTOR)) == (HEADER, 0, 0)


def test_a_packet_may_be_empty() -> None:
    head = ipv6.emit_header(SOURCE, DESTINATION, NO_NEXT_HEADER, 0, 64, 0)
    ip, _, _ = ipv6.parse(bytes(14) + head, 14, 54)
    assert (ip.start, ip.end) == (54, 54)


def test_padding_behind_the_payload_is_trimmed() -> None:
    frame = bytes(14) + VECTOR + bytes(5)
    ip, _, _ = ipv6.parse(frame, 14, len(frame))
    assert (ip.header, ip.start, ip.end) == (14, 54, 62)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(VECTOR[:39], id="shorter than a header"),
        pytest.param(b"\x45" + VECTOR[1:], id="version 4"),
        pytest.param(VECTOR[:-1], id="payload beyond the frame"),
    ],
)
def test_a_header_that_is_wrong_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.IPV6_MALFORMED


@pytest.mark.parametrize(
    ("data", "protocol", "size"),
    [
        pytest.param(packet(HOP_BY_HOP, options(UDP)), UDP, 8, id="hop-by-hop options"),
        pytest.param(packet(DESTINATION_OPTIONS, options(TCP)), TCP, 8, id="destination options"),
        pytest.param(packet(HOP_BY_HOP, options(ICMPV6, b"\5\2\0\0\1\0")), ICMPV6, 8, id="router alert, as MLD has it"),
        pytest.param(packet(HOP_BY_HOP, options(UDP, bytes(6))), UDP, 8, id="padding of single bytes"),
        pytest.param(packet(HOP_BY_HOP, options(UDP, b"\1\14" + bytes(12))), UDP, 8, id="16 bytes of options"),
        pytest.param(packet(ROUTING, routing(UDP, 0)), UDP, 8, id="routing header that is used up"),
        pytest.param(
            packet(
                HOP_BY_HOP,
                options(DESTINATION_OPTIONS),
                options(ROUTING),
                routing(FRAGMENT, 0),
                fragment(DESTINATION_OPTIONS, 0),
                options(UDP),
            ),
            UDP,
            8,
            id="all of them in the recommended order",
        ),
        pytest.param(packet(FRAGMENT, fragment(UDP, 0, 1)), UDP, 8, id="a single fragment is a whole packet"),
        pytest.param(packet(FRAGMENT, fragment(UDP, 6)), UDP, 8, id="reserved bits of the fragment header"),
        pytest.param(packet(NO_NEXT_HEADER), NO_NEXT_HEADER, 8, id="no next header"),
        pytest.param(packet(AH, options(UDP)), AH, 16, id="AH is left to its protocol"),
        pytest.param(packet(DESTINATION_OPTIONS, options(ESP)), ESP, 8, id="ESP behind options"),
        pytest.param(packet(DESTINATION_OPTIONS, options(UDP), payload=b""), UDP, 0, id="nothing behind"),
        pytest.param(
            packet(DESTINATION_OPTIONS, *[options(DESTINATION_OPTIONS)] * 7, options(UDP)), UDP, 8, id="8 headers"
        ),
    ],
)
def test_extension_headers_are_walked(data: bytes, protocol: int, size: int) -> None:
    ip, identification, field = ipv6.parse(data, 0, len(data))
    assert (ip.protocol, ip.start, ip.end) == (protocol, len(data) - size, len(data))
    assert identification == field == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packet(DESTINATION_OPTIONS, payload=bytes(7)), id="header cut off"),
        pytest.param(packet(DESTINATION_OPTIONS, bytes([UDP, 2]), payload=bytes(14)), id="length beyond the payload"),
        pytest.param(packet(DESTINATION_OPTIONS, bytes([UDP, 1]), PADDING, payload=b""), id="length beyond the end"),
        pytest.param(packet(FRAGMENT, payload=bytes(7)), id="fragment header cut off"),
        pytest.param(packet(HOP_BY_HOP, payload=b""), id="payload length 0, as jumbograms have it"),
        pytest.param(packet(DESTINATION_OPTIONS, options(HOP_BY_HOP), options(UDP)), id="hop-by-hop not first"),
        pytest.param(packet(HOP_BY_HOP, options(HOP_BY_HOP), options(UDP)), id="hop-by-hop twice"),
        pytest.param(packet(FRAGMENT, fragment(FRAGMENT, 0), fragment(UDP, 0, 1)), id="two fragment headers"),
        pytest.param(packet(ROUTING, routing(UDP, 1)), id="source route"),
        pytest.param(packet(ROUTING, routing(UDP, 1, kind=4)), id="segment route"),
        pytest.param(packet(HOP_BY_HOP, options(UDP, b"\xc2\4\0\1\0\0")), id="jumbo payload"),
        pytest.param(packet(DESTINATION_OPTIONS, options(UDP, b"\x40\4" + bytes(4))), id="option to discard on"),
        pytest.param(packet(DESTINATION_OPTIONS, options(UDP, b"\1\5" + bytes(4))), id="option beyond its header"),
        pytest.param(packet(DESTINATION_OPTIONS, options(UDP, b"\1\3\0\0\0\1")), id="option without a length"),
        pytest.param(packet(DESTINATION_OPTIONS, options(UDP, b"\1\3\0\0\0\1"), payload=b""), id="at the end"),
        pytest.param(
            packet(DESTINATION_OPTIONS, *[options(DESTINATION_OPTIONS)] * 8, options(UDP)), id="more than 8 headers"
        ),
    ],
)
def test_a_chain_that_is_wrong_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.IPV6_EXTENSION


@pytest.mark.parametrize(
    ("data", "may_fragment"),
    [
        (VECTOR, False),
        (packet(HOP_BY_HOP, options(UDP)), False),
        (packet(FRAGMENT, fragment(UDP, 0)), True),
        (packet(HOP_BY_HOP, options(FRAGMENT), fragment(DESTINATION_OPTIONS, 0), options(UDP)), True),
        (packet(FRAGMENT, fragment(UDP, 1)), True),
    ],
)
def test_only_a_packet_with_a_fragment_header_may_be_fragmented(data: bytes, may_fragment: bool) -> None:
    ip, _, _ = ipv6.parse(data, 0, len(data))
    assert ip.may_fragment is may_fragment


@pytest.mark.parametrize("field", [1, 8, 0xFFF8, 0xFFF9])
def test_a_fragment_says_where_it_belongs(field: int) -> None:
    data = packet(HOP_BY_HOP, options(FRAGMENT), fragment(DESTINATION_OPTIONS, field | 6, 0xDEADBEEF))
    ip, identification, found = ipv6.parse(data, 0, len(data))
    assert (identification, found) == (0xDEADBEEF, field)
    assert (ip.protocol, ip.start, ip.end) == (DESTINATION_OPTIONS, 56, 64)


def test_what_linux_sends_is_read_and_written_back() -> None:
    for frame in frames(ETHERTYPE_IPV6):
        ip, identification, field = ipv6.parse(frame, 14, len(frame))
        written = ipv6.emit_header(ip.source, ip.destination, frame[20], len(frame) - 54, ip.ttl, ip.tos)
        if field:
            written += ipv6.FRAGMENT_HEADER.pack(ip.protocol, 0, field, identification)
        written = written[:1] + frame[15:18] + written[4:]  # the flow label
        assert written == frame[14 : ip.start]


@given(
    source=st.binary(min_size=16, max_size=16),
    destination=st.binary(min_size=16, max_size=16),
    payload=st.binary(max_size=40),
    hop_limit=st.integers(0, 255),
    tos=st.integers(0, 255),
)
def test_every_header_that_is_written_is_read(
    source: bytes, destination: bytes, payload: bytes, hop_limit: int, tos: int
) -> None:
    data = ipv6.emit_header(source, destination, UDP, len(payload), hop_limit, tos) + payload
    header = IpHeader(6, source, destination, UDP, hop_limit, tos, 0, 40, len(data))
    assert ipv6.parse(data, 0, len(data)) == (header, 0, 0)


@given(ANY_FRAME, st.integers(0, 40))
def test_any_bytes_are_a_header_or_malformed(data: bytes, start: int) -> None:
    try:
        ip, _, _ = ipv6.parse(data, start, len(data))
    except Malformed:
        return
    assert start + 40 <= ip.start <= ip.end <= len(data)


@given(st.sampled_from([HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS]), st.binary(max_size=120))
def test_any_chain_is_walked_or_malformed(first: int, chain: bytes) -> None:
    data = packet(first, payload=chain)
    try:
        ip, _, _ = ipv6.parse(data, 0, len(data))
    except Malformed:
        assert reason(data) is Reason.IPV6_EXTENSION
    else:
        assert 48 <= ip.start <= ip.end == len(data)


@pytest.mark.parametrize("before", [0, 14])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (packet(UDP), (UDP, 40, 6)),
        (packet(HOP_BY_HOP, options(UDP)), (UDP, 48, 40)),
        (packet(HOP_BY_HOP, options(UDP, PADDING + bytes(8))), (UDP, 56, 40)),
        (packet(HOP_BY_HOP, options(DESTINATION_OPTIONS), options(TCP)), (TCP, 56, 48)),
        (packet(FRAGMENT, fragment(UDP, 0, 1)), (UDP, 48, 40)),
        (packet(FRAGMENT, bytes([UDP, 1]) + bytes(6)), (UDP, 48, 40)),  # its second byte is no length
        (packet(FRAGMENT, fragment(UDP, 8, 1)), (UDP, 56, 40)),  # the payload is in another packet
        (packet(ROUTING, options(FRAGMENT), fragment(ESP, 0, 1)), (ESP, 56, 48)),
        (packet(NO_NEXT_HEADER, payload=b""), (NO_NEXT_HEADER, 40, 6)),
        (packet(HOP_BY_HOP, payload=bytes(7)), (HOP_BY_HOP, 40, 6)),  # too short to be read
        (packet(HOP_BY_HOP, options(UDP), payload=b""), (UDP, 48, 40)),
        (packet(HOP_BY_HOP, bytes([UDP, 9]) + PADDING, payload=b""), (UDP, 48, 40)),  # longer than the packet
        (packet(ROUTING, *[options(ROUTING)] * 8), (ROUTING, 104, 96)),
        (packet(ROUTING, *[options(ROUTING)] * 9), (ROUTING, 104, 96)),
    ],
)
def test_the_last_header(data: bytes, expected: tuple[int, int, int], before: int) -> None:
    protocol, position, pointer = expected
    buf = b"\xff" * before + data + bytes(20)
    assert ipv6.last_header(buf, before, before + len(data)) == (protocol, before + position, pointer)


@pytest.mark.parametrize("before", [0, 14])
@pytest.mark.parametrize(
    ("data", "code", "pointer", "to_groups"),
    [
        (packet(HOP_BY_HOP, options(UDP, bytes([0x80, 4, 0, 0, 0, 0]))), icmp6.UNRECOGNIZED_OPTION, 42, True),
        (packet(HOP_BY_HOP, options(UDP, bytes([0xC0, 4, 0, 0, 0, 0]))), icmp6.UNRECOGNIZED_OPTION, 42, False),
        (packet(HOP_BY_HOP, options(UDP, bytes([0, 0, 0xC0, 2, 0, 0]))), icmp6.UNRECOGNIZED_OPTION, 44, False),
        (packet(HOP_BY_HOP, options(UDP, bytes([0, 0x80, 3, 0, 0, 0]))), icmp6.UNRECOGNIZED_OPTION, 43, True),
        (packet(DESTINATION_OPTIONS, options(HOP_BY_HOP), options(UDP)), icmp6.UNRECOGNIZED_NEXT_HEADER, 40, False),
        (packet(ROUTING, routing(UDP, 1)), icmp6.ERRONEOUS_HEADER_FIELD, 42, False),
        (packet(HOP_BY_HOP, options(ROUTING), routing(UDP, 255)), icmp6.ERRONEOUS_HEADER_FIELD, 50, False),
    ],
)
def test_what_is_reported_to_the_sender(data: bytes, code: int, pointer: int, to_groups: bool, before: int) -> None:
    buf = bytes(before) + data
    with pytest.raises(HeaderProblem) as raised:
        ipv6.parse(buf, before, len(buf))
    problem = raised.value
    assert problem.reason is Reason.IPV6_EXTENSION
    assert (problem.code, problem.pointer, problem.to_groups) == (code, pointer, to_groups)


@pytest.mark.parametrize(
    "data", [bytes([0x40, 4, 0, 0, 0, 0]), bytes([0, 0, 0, 0, 0, 0x01]), bytes([1, 5, 0, 0, 0, 0])]
)
def test_an_option_that_must_be_discarded_or_does_not_fit_is_malformed(data: bytes) -> None:
    buf = packet(HOP_BY_HOP, options(UDP, data))
    with pytest.raises(Malformed) as raised:
        ipv6.parse(buf, 0, len(buf))
    assert type(raised.value) is Malformed
    assert raised.value.reason is Reason.IPV6_EXTENSION


@pytest.mark.parametrize("before", [0, 14])
@pytest.mark.parametrize(
    ("first", "chain", "is_whole"),
    [
        (UDP, bytes(8), True),
        (UDP, bytes(7), False),
        (TCP, bytes(20), True),
        (TCP, bytes(19), False),
        (ICMPV6, bytes(8), True),
        (ICMPV6, bytes(7), False),
        (ESP, b"", True),
        (DESTINATION_OPTIONS, bytes(7), False),
        (DESTINATION_OPTIONS, options(NO_NEXT_HEADER), True),
        (DESTINATION_OPTIONS, options(UDP) + bytes(8), True),
        (DESTINATION_OPTIONS, options(UDP) + bytes(7), False),
        (DESTINATION_OPTIONS, options(UDP, PADDING + bytes(8)) + bytes(8), True),
        (DESTINATION_OPTIONS, options(UDP, PADDING + bytes(8)) + bytes(7), False),
        (DESTINATION_OPTIONS, bytes([NO_NEXT_HEADER, 1]) + PADDING, False),  # longer than the packet
        (FRAGMENT, bytes([UDP, 5]) + PADDING + bytes(8), True),  # its second byte is no length
        (FRAGMENT, bytes([UDP, 0]) + PADDING + bytes(7), False),
        (ROUTING, options(ROUTING) * 7 + options(UDP) + bytes(7), False),
        (ROUTING, options(ROUTING) * 8, False),
        (ROUTING, options(ROUTING) * 9, True),  # too many, which is found later
    ],
)
def test_whether_a_first_fragment_has_all_headers(first: int, chain: bytes, is_whole: bool, before: int) -> None:
    buf = b"\xff" * before + chain + bytes(40)
    assert ipv6.has_all_headers(buf, first, before, before + len(chain)) is is_whole
