from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.orders import Frame
from sansnet_core.pcap import pcap_header, pcap_record, read
from sansnet_core.pcapng import pcapng_packet
from sansnet_core.wire.virtio_net import HEADER, NEEDS_CSUM, NO_OFFLOAD


def test_the_header_is_that_of_a_classic_capture_of_ethernet() -> None:
    assert pcap_header(65535) == bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000")


def test_a_record_has_its_time_and_both_lengths() -> None:
    record = pcap_record(b"frame", 1_700_000_000.25, 4, vnet=False)
    assert record == bytes.fromhex("00f15365 90d00300 04000000 05000000") + b"fram"


def test_a_time_is_rounded_to_microseconds() -> None:
    assert pcap_record(b"", 1.9999996, 4, vnet=False)[:8] == bytes.fromhex("02000000 00000000")


@pytest.mark.parametrize("frame", [b"frame", memoryview(b"frame"), (b"fr", b"ame"), (b"fr", memoryview(b"ame"))])
def test_a_frame_in_any_form(frame: Frame) -> None:
    assert list(read(pcap_header(100) + pcap_record(frame, 1.5, 100, vnet=False))) == [(1.5, b"frame")]


def test_a_partial_checksum_is_completed() -> None:
    header = HEADER.pack(NEEDS_CSUM, 0, 0, 0, 2, 2, 0)
    record = pcap_record((header + b"ab", b"\x12\x34\0\0"), 0.0, 100, vnet=True)
    assert record[16:] == b"ab\x12\x34\xed\xcb"


def test_the_offload_header_is_not_captured() -> None:
    assert pcap_record(NO_OFFLOAD + b"frame", 0.0, 100, vnet=True)[16:] == b"frame"


def test_a_record_that_is_cut_off_is_left_out() -> None:
    capture = pcap_header(100) + pcap_record(b"one", 1.0, 100, vnet=False) + pcap_record(b"two", 2.0, 100, vnet=False)
    for cut in range(1, 19):
        assert list(read(capture[:-cut])) == [(1.0, b"one")]


@pytest.mark.parametrize("data", [b"", bytes(24), pcap_header(1)[:23], pcap_header(1)[:20] + b"\x65\0\0\0"])
def test_other_data_is_no_capture(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a little-endian pcap capture"):
        list(read(data))


@given(st.lists(st.tuples(st.integers(0, 2**32 * 1_000_000 - 1), st.binary(max_size=50))), st.integers(0, 60))
def test_what_is_written_is_read(records: list[tuple[int, bytes]], snaplen: int) -> None:
    capture = pcap_header(snaplen)
    for micros, frame in records:
        capture += pcap_record(frame, micros / 1_000_000, snaplen, vnet=False)
    found = list(read(capture))
    assert [frame for _, frame in found] == [frame[:snaplen] for _, frame in records]
    assert [round(time * 1_000_000) for time, _ in found] == [micros for micros, _ in records]


@pytest.mark.parametrize("from_guest", [True, False, None])
def test_a_packet_of_pcapng_has_its_direction_if_it_is_known(from_guest: bool | None) -> None:
    block = pcapng_packet(b"frame", 1.5, 4, vnet=False, from_guest=from_guest)
    flags = b"" if from_guest is None else bytes([2, 0, 4, 0, 1 if from_guest else 2, 0, 0, 0]) + bytes(4)
    body = bytes([0] * 4) + (1_500_000_000).to_bytes(8, "little")[4:] + (1_500_000_000).to_bytes(8, "little")[:4]
    body += bytes([4, 0, 0, 0, 5, 0, 0, 0]) + b"fram" + flags
    size = (len(body) + 12).to_bytes(4, "little")
    assert block == bytes([6, 0, 0, 0]) + size + body + size
