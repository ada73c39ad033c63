from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import tcp
from sansnet_core.wire.ip import TCP
from tests.core.vectors import A4, ANY_FRAME, B4, ENDS, header, packets

# Ports 1000 and 80, sequence 1, acknowledgment 2, 24 bytes of header, PSH and ACK, window 512, checksum, MSS; "data"
VECTOR = bytes.fromhex("03e80050000000010000000260180200350b0000020405b4") + b"data"


def reason(data: bytes, version: int = 4, verify: bool = True) -> Reason:
    with pytest.raises(Malformed) as caught:
        tcp.parse(data, header(TCP, len(data), version), verify)
    return caught.value.reason


def options(*parts: bytes) -> tcp.TcpOptions:
    data = b"".join(parts)
    return tcp.parse_options(data, 0, len(data))


def test_a_segment_is_read() -> None:
    expected = tcp.TcpHeader(1000, 80, 1, 2, tcp.PSH | tcp.ACK, 512, 24, 28, 20)
    assert tcp.parse(VECTOR, header(TCP, 28), True) == expected


def test_a_segment_is_written() -> None:
    written = tcp.emit(A4, B4, 1000, 80, 1, 2, tcp.PSH | tcp.ACK, 512, tcp.mss_option(1460), b"data")
    assert written == VECTOR


def test_a_segment_has_neither_options_nor_data_by_default() -> None:
    assert tcp.emit(A4, B4, 1000, 80, 1, 2, tcp.ACK, 512)[12:14] == b"\x50\x10"
    assert len(tcp.emit(A4, B4, 1000, 80, 1, 2, tcp.ACK, 512)) == 20


def test_sack_without_blocks_means_nothing() -> None:
    assert options(tcp.sack_option([(1, 2)]), b"\5\2").sack == ((1, 2),)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(VECTOR[:19], id="shorter than a header"),
        pytest.param(VECTOR[:12] + b"\x40" + VECTOR[13:], id="data offset below 5"),
        pytest.param(VECTOR[:12] + b"\x80" + VECTOR[13:], id="data offset beyond the segment"),
    ],
)
def test_a_header_that_is_wrong_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.TCP_MALFORMED


@pytest.mark.parametrize("data", [b"\0\0" + VECTOR[2:], VECTOR[:2] + b"\0\0" + VECTOR[4:]])
def test_port_0_is_refused(data: bytes) -> None:
    assert reason(data) is Reason.TCP_PORT


@pytest.mark.parametrize("version", [4, 6])
def test_a_wrong_checksum_is_refused_if_asked(version: int) -> None:
    data = VECTOR[:-1] + b"?"
    assert reason(data, version) is Reason.TCP_CHECKSUM
    assert tcp.parse(data, header(TCP, 28, version), False).end == 28


def test_what_linux_sends_is_read_and_written_back() -> None:
    found = packets(TCP)
    assert {ip.version for _, ip in found} == {4, 6}
    for frame, ip in found:
        segment = tcp.parse(frame, ip, True)
        written = tcp.emit(
            ip.source,
            ip.destination,
            *segment[:6],
            frame[segment.options_start : segment.start],
            frame[segment.start : segment.end],
        )
        assert written == frame[ip.start : ip.end]


def test_the_options_of_linux_are_read() -> None:
    frame, ip = packets(TCP)[0]
    segment = tcp.parse(frame, ip, True)
    expected = tcp.TcpOptions(mss=1460, window_scale=10, sack_permitted=True, sack=())
    assert tcp.parse_options(frame, segment.options_start, segment.start) == expected


def test_no_options() -> None:
    assert options() == (None, None, False, ())


def test_options_are_written_and_read() -> None:
    blocks = [(1, 2), (0xFFFFFFF0, 5), (7, 8), (9, 10)]
    parts = [tcp.mss_option(1300), tcp.window_scale_option(7), tcp.sack_permitted_option(), tcp.sack_option(blocks)]
    assert [len(part) % 4 for part in parts] == [0, 0, 0, 0]
    assert options(*parts) == (1300, 7, True, tuple(blocks))


def test_the_largest_window_scale_is_14() -> None:
    assert options(tcp.window_scale_option(255)).window_scale == 14


def test_options_behind_the_end_do_not_count() -> None:
    assert options(tcp.sack_permitted_option(), b"\0", tcp.mss_option(1000)) == (None, None, True, ())


@pytest.mark.parametrize(
    "absurd",
    [
        pytest.param(b"\2\3\1", id="MSS of 1 byte"),
        pytest.param(b"\2\4\0\0", id="MSS of 0"),
        pytest.param(b"\3\4\1\1", id="window scale of 2 bytes"),
        pytest.param(b"\4\3\1", id="SACK permitted with a value"),
        pytest.param(b"\5\2", id="SACK without blocks"),
        pytest.param(b"\5\6\1\2\3\4", id="SACK of half a block"),
        pytest.param(b"\x08\x0a" + bytes(8), id="timestamps"),
        pytest.param(b"\xfe\2", id="unknown"),
        pytest.param(b"\1\1\1", id="padding"),
    ],
)
def test_options_that_mean_nothing_are_skipped(absurd: bytes) -> None:
    assert options(absurd, tcp.mss_option(1000)) == (1000, None, False, ())


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\3\0", id="length 0"),
        pytest.param(b"\3\1", id="length 1"),
        pytest.param(b"\3\x10", id="length beyond the header"),
        pytest.param(b"\3", id="no length"),
    ],
)
def test_an_option_of_impossible_length_hides_what_follows(broken: bytes) -> None:
    assert options(tcp.mss_option(1000), broken) == (1000, None, False, ())
    assert options(broken, bytes(4)) == (None, None, False, ())


@given(ANY_FRAME, st.sampled_from([4, 6]), st.booleans())
def test_any_bytes_are_a_header_or_malformed(data: bytes, version: int, verify: bool) -> None:
    try:
        segment = tcp.parse(data, header(TCP, len(data), version), verify)
    except Malformed:
        return
    assert 20 == segment.options_start <= segment.start <= segment.end == len(data)
    tcp.parse_options(data, segment.options_start, segment.start)


OPTION_BYTES = st.sampled_from([b"\2\4\5\xb4", b"\4\2", b"\x08\x0a", b"\1", b"\3\3\7", b"\0"]) | st.binary(max_size=9)


@given(st.lists(OPTION_BYTES, max_size=8).map(b"".join) | st.binary(max_size=12).map(b"\2\4\5\xb4\4\2\x08\x0a".__add__))
def test_the_options_of_a_syn_are_read_as_any(data: bytes) -> None:
    expected = tcp.parse_options(data, 0, len(data))
    assert tcp.parse_syn_options(b"head" + data + b"tail", 4, 4 + len(data)) == expected
    assert tcp.parse_syn_options(memoryview(data), 0, len(data)) == expected


def test_syns_that_differ_by_their_timestamps_alone_have_the_same_options() -> None:
    first, second = (b"\2\4\5\xb4\4\2\x08\x0a" + stamp * 8 + b"\1\3\3\7" for stamp in (b"\1", b"\2"))
    assert tcp.parse_syn_options(first, 0, 20) == (1460, 7, True, ())
    assert tcp.parse_syn_options(first, 0, 20) is tcp.parse_syn_options(second, 0, 20)


@given(st.binary(max_size=40))
def test_any_bytes_are_options(data: bytes) -> None:
    found = options(data)
    assert found.mss is None or 1 <= found.mss <= 65535
    assert found.window_scale is None or 0 <= found.window_scale <= 14
    assert len(found.sack) <= 4


SEQUENCE = st.integers(0, 0xFFFFFFFF)
PORT = st.integers(1, 65535)


@given(st.sampled_from([4, 6]), PORT, PORT, SEQUENCE, SEQUENCE, st.integers(0, 255), st.binary(max_size=50))
def test_every_segment_that_is_written_is_read(
    version: int, source: int, destination: int, sequence: int, acknowledgment: int, flags: int, payload: bytes
) -> None:
    fields = source, destination, sequence, acknowledgment, flags, 65535
    data = tcp.emit(*ENDS[version], *fields, tcp.sack_permitted_option(), payload)
    assert tcp.parse(data, header(TCP, len(data), version), True) == (*fields, 24, len(data), 20)
    assert data[24:] == payload


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (5, 5, 0),
        (5, 6, -1),
        (6, 5, 1),
        (0xFFFFFFFF, 0, -1),
        (3, 0xFFFFFFFE, 5),
        (0x7FFFFFFF, 0, 0x7FFFFFFF),
        (0x80000000, 0, -0x80000000),
        (0, 0x80000000, -0x80000000),
    ],
)
def test_sequence_numbers_wrap(a: int, b: int, distance: int) -> None:
    assert tcp.diff(a, b) == distance
    assert tcp.add(b, distance) == a


@given(SEQUENCE, SEQUENCE)
def test_distances_are_signed(a: int, b: int) -> None:
    distance = tcp.diff(a, b)
    assert -(1 << 31) <= distance < 1 << 31
    assert tcp.add(b, distance) == a
