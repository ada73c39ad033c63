"""The checksum against the definition: words added one by one (RFC 1071)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.wire.checksum import finish, ones_sum, partial, pseudo_sum


def by_the_book(data: bytes) -> int:
    data += b"\0" * (len(data) & 1)
    total = sum(data[index] << 8 | data[index + 1] for index in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


SIZES = st.integers(0, 600) | st.integers(4000, 4300) | st.integers(0, 9000) | st.integers(65000, 65536)
PATTERNS = st.binary(min_size=1, max_size=40) | st.sampled_from([b"\xff", b"\xff\xff\0\1", b"\0"])


@given(SIZES, PATTERNS)
def test_sums_agree_with_the_definition(size: int, pattern: bytes) -> None:
    data = (pattern * (size // len(pattern) + 1))[:size]
    assert ones_sum(data) == by_the_book(data) % 65535
    assert ones_sum(memoryview(data)) == ones_sum(data)


@pytest.mark.parametrize("size", [511, 512, 513, 514, 2047, 4095, 4096, 4097, 4098, 4111, 8191, 65535])
@pytest.mark.parametrize("seed", range(3))
def test_sums_of_large_buffers(size: int, seed: int) -> None:
    data = Random(seed).randbytes(size)
    assert ones_sum(data) == by_the_book(data) % 65535


@given(st.integers(0, 1 << 40))
def test_a_checksum_makes_the_sum_vanish_and_is_never_zero(total: int) -> None:
    checksum = finish(total)
    assert 1 <= checksum <= 65535
    assert (total + checksum) % 65535 == 0


def test_the_pseudo_header_is_both_addresses_and_the_protocol() -> None:
    assert pseudo_sum(b"\x0a\0\0\1", b"\x0a\0\0\2", 17) == 0x0A00 + 1 + 0x0A00 + 2 + 17


def test_a_partial_checksum_is_never_zero() -> None:
    """Zero means no checksum to UDP, and the guest would complete none."""
    assert [partial(value) for value in (0, 1, 65534, 65535, 65536, 131070)] == [65535, 1, 65534, 65535, 1, 65535]
