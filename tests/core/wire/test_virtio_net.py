from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import virtio_net
from sansnet_core.wire.checksum import pseudo_sum
from sansnet_core.wire.ip import TCP, UDP
from sansnet_core.wire.virtio_net import HEADER, NEEDS_CSUM, VnetHeader
from tests.core.vectors import packets

FRAME = bytes(60)


def test_the_header_is_laid_out_as_virtio_1_says() -> None:
    packed = HEADER.pack(NEEDS_CSUM, virtio_net.GSO_TCPV4, 66, 1448, 34, 16, 0)
    assert packed == bytes.fromhex("01 01 4200 a805 2200 1000 0000")
    assert virtio_net.parse(packed + FRAME) == VnetHeader(NEEDS_CSUM, virtio_net.GSO_TCPV4, 1448, 34, 16)


def test_a_frame_without_requests() -> None:
    assert virtio_net.parse(virtio_net.NO_OFFLOAD + FRAME) == VnetHeader(0, 0, 0, 0, 0)
    assert virtio_net.parse(memoryview(virtio_net.NO_OFFLOAD)) == VnetHeader(0, 0, 0, 0, 0)


def test_the_number_of_buffers_is_not_for_this_direction() -> None:
    assert virtio_net.parse(HEADER.pack(0, 0, 0, 0, 0, 0, 9) + FRAME) == VnetHeader(0, 0, 0, 0, 0)


def test_a_checksum_that_somebody_vouches_for() -> None:
    header = HEADER.pack(virtio_net.DATA_VALID, 0, 0, 7, 0, 0, 0)
    assert virtio_net.parse(header + FRAME) == VnetHeader(virtio_net.DATA_VALID, 0, 0, 0, 0)


@pytest.mark.parametrize("kind", [virtio_net.GSO_TCPV4, virtio_net.GSO_TCPV6])
def test_congestion_bits_do_not_change_the_kind_of_segment(kind: int) -> None:
    header = HEADER.pack(NEEDS_CSUM, kind | 0x80, 54, 1448, 34, 16, 0)
    assert virtio_net.parse(header + FRAME).gso_type == kind


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(11), id="zeros, but shorter than a header"),
        pytest.param(b"\1" + bytes(10), id="shorter than a header"),
        pytest.param(HEADER.pack(NEEDS_CSUM, 0, 0, 0, 34, 25, 0) + FRAME, id="checksum beyond the frame"),
        pytest.param(HEADER.pack(NEEDS_CSUM, 0, 0, 0, 65535, 65535, 0) + FRAME, id="checksum far beyond"),
        pytest.param(HEADER.pack(NEEDS_CSUM, 3, 42, 1000, 34, 6, 0) + FRAME, id="UFO"),
        pytest.param(HEADER.pack(NEEDS_CSUM, 0x80, 42, 1000, 34, 6, 0) + FRAME, id="ECN without TCP"),
        pytest.param(HEADER.pack(NEEDS_CSUM, 1, 54, 0, 34, 16, 0) + FRAME, id="segments of 0 bytes"),
    ],
)
def test_a_header_that_is_wrong_is_refused(frame: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        virtio_net.parse(frame)
    assert caught.value.reason is Reason.VNET_HEADER


def test_a_checksum_may_be_the_last_word_of_a_frame() -> None:
    assert virtio_net.parse(HEADER.pack(NEEDS_CSUM, 0, 0, 0, 34, 24, 0) + FRAME).checksum_offset == 24


@pytest.mark.parametrize(("protocol", "offset"), [(TCP, 16), (UDP, 6)])
def test_a_partial_checksum_is_completed_to_what_linux_sends(protocol: int, offset: int) -> None:
    for frame, ip in packets(protocol):
        field = ip.start + offset
        partial = (pseudo_sum(ip.source, ip.destination, protocol) + ip.end - ip.start) % 65535
        unfinished = frame[:field] + partial.to_bytes(2, "big") + frame[field + 2 :]
        header = HEADER.pack(NEEDS_CSUM, 0, 0, 0, ip.start, offset, 0)
        assert virtio_net.complete(header + unfinished) == frame
        assert virtio_net.complete(memoryview(header + unfinished)) == frame


@pytest.mark.parametrize("header", [virtio_net.NO_OFFLOAD, HEADER.pack(NEEDS_CSUM, 0, 0, 0, 65535, 0, 0)])
def test_a_frame_that_cannot_be_completed_stays_as_it_is(header: bytes) -> None:
    assert virtio_net.complete(header + b"frame") == b"frame"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_header_or_malformed(data: bytes) -> None:
    assert len(virtio_net.complete(data)) == max(0, len(data) - 12)
    try:
        header = virtio_net.parse(data)
    except Malformed:
        return
    if header.flags & NEEDS_CSUM:
        assert 12 + header.checksum_start + header.checksum_offset + 2 <= len(data)
    assert (header.gso_type == virtio_net.GSO_NONE) == (header.gso_size == 0)
