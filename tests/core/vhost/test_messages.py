from __future__ import annotations

from contextlib import nullcontext
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.vhost import Fault, VhostViolation
from sansnet_core.vhost.messages import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Header,
    Region,
    emit,
    emit_region,
    emit_regions,
    parse_header,
    parse_region,
    parse_regions,
)

U64 = (1 << 64) - 1
REGIONS = st.builds(Region, st.integers(0, U64), st.integers(0, U64), st.integers(0, U64), st.integers(0, U64))
TABLE = (Region(0, 0xC0000000, 0x7F1200000000, 0), Region(0x100000000, 0x40000000, 0x7F12C0000000, 0xC0000000))


def test_a_reply_has_exactly_the_flags_that_qemu_takes() -> None:
    assert emit(11, b"\1\2") == bytes.fromhex("0b000000 05000000 02000000 0102")


def test_a_request() -> None:
    assert emit(1, b"", reply=False) == bytes.fromhex("01000000 01000000 00000000")
    assert emit(2, b"", reply=False, needs_reply=True) == bytes.fromhex("02000000 09000000 00000000")


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=MAX_PAYLOAD), st.booleans())
def test_headers_round_trip(request: int, payload: bytes, needs_reply: bool) -> None:
    message = emit(request, payload, reply=False, needs_reply=needs_reply)
    assert parse_header(message[:HEADER_SIZE]) == Header(request, needs_reply, len(payload))
    assert message[HEADER_SIZE:] == payload


@pytest.mark.parametrize("flags", [0, 2, 3, 4, 5, 8, 13])
def test_a_header_of_another_version_or_of_a_reply(flags: int) -> None:
    with pytest.raises(VhostViolation) as caught:
        parse_header(pack("<III", 1, flags, 0))
    assert caught.value.fault is Fault.HEADER


@pytest.mark.parametrize("size", [4097, 0xFFFFFFFF])
def test_a_message_that_is_too_long(size: int) -> None:
    with pytest.raises(VhostViolation) as caught:
        parse_header(pack("<III", 1, 1, size))
    assert caught.value.fault is Fault.MESSAGE_SIZE


def test_a_memory_table() -> None:
    payload = pack("<II", 2, 0) + pack("<QQQQ", *TABLE[0]) + pack("<QQQQ", *TABLE[1])
    assert parse_regions(payload) == TABLE
    assert emit_regions(TABLE) == payload


def test_a_memory_slot() -> None:
    payload = pack("<QQQQQ", 0, *TABLE[1])
    assert parse_region(payload) == TABLE[1]
    assert emit_region(TABLE[1]) == payload


@given(st.lists(REGIONS, max_size=9).map(tuple))
def test_regions_round_trip_or_are_refused(regions: tuple[Region, ...]) -> None:
    sound = all(
        region.size and max(region.guest, region.user, region.offset) + region.size <= 1 << 64 for region in regions
    )
    with nullcontext() if sound else pytest.raises(VhostViolation, match=Fault.REGION_RANGE.value):
        assert parse_regions(emit_regions(regions)) == regions
    with nullcontext() if sound else pytest.raises(VhostViolation, match=Fault.REGION_RANGE.value):
        assert tuple(parse_region(emit_region(region)) for region in regions) == regions


@pytest.mark.parametrize(
    "region",
    [
        pytest.param(Region(0, 0, 0, 0), id="empty"),
        pytest.param(Region(U64, 2, 0, 0), id="guest address wraps"),
        pytest.param(Region(0, 2, U64, 0), id="user address wraps"),
        pytest.param(Region(0, 2, 0, U64), id="offset wraps"),
    ],
)
def test_a_region_that_is_empty_or_wraps(region: Region) -> None:
    with pytest.raises(VhostViolation) as caught:
        parse_region(emit_region(region))
    assert caught.value.fault is Fault.REGION_RANGE


def test_a_region_that_ends_where_the_address_space_does() -> None:
    region = Region(U64, 1, U64, U64)
    assert parse_region(emit_region(region)) == region


@pytest.mark.parametrize(
    "payload", [b"", bytes(7), pack("<II", 1, 0), pack("<II", 0, 0) + b"x", pack("<II", 1 << 31, 0)]
)
def test_a_memory_table_of_another_length_than_it_says(payload: bytes) -> None:
    with pytest.raises(VhostViolation) as caught:
        parse_regions(payload)
    assert caught.value.fault is Fault.PAYLOAD


@pytest.mark.parametrize("length", [0, 39, 41])
def test_a_memory_slot_of_the_wrong_size(length: int) -> None:
    with pytest.raises(VhostViolation) as caught:
        parse_region(bytes(length))
    assert caught.value.fault is Fault.PAYLOAD
