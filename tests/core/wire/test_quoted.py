"""The quotes in ICMP errors, at each place in a buffer and cut at each length."""

from __future__ import annotations

import pytest

from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import IpHeader
from sansnet_core.wire.quoted import Quoted, parse

FOUR = (bytes((10, 0, 2, 15)), bytes((192, 0, 2, 80)))
SIX = (bytes(range(16)), bytes(range(16, 32)))
REST = bytes.fromhex("1234 0050 89abcdef") + b"more"


def quote(source: bytes, destination: bytes, *, words: int = 5) -> bytes:
    if len(source) == 4:
        options = bytes(4 * (words - 5))
        return bytes([0x40 | words, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0]) + source + destination + options + REST
    return bytes([0x60, 0, 0, 0, 0, 0, 6, 64]) + source + destination + REST


def read(data: bytes, version: int, *, before: int = 0, behind: int = 100) -> Quoted | None:
    buf = b"\xff" * before + data + b"\xff" * behind  # what lies around the error is not read
    ip = IpHeader(version, b"", b"", 1, 64, 0, 0, before, before + len(data), False)
    return parse(buf, ip, IcmpHeader(3, 3, 0, before, before + len(data)))


@pytest.mark.parametrize("before", [0, 1, 42])
@pytest.mark.parametrize("words", [5, 6, 15])
def test_a_quoted_ipv4_packet(words: int, before: int) -> None:
    assert read(quote(*FOUR, words=words), 4, before=before) == Quoted(6, *FOUR, REST[:4], 0x89ABCDEF)


@pytest.mark.parametrize("before", [0, 1, 62])
def test_a_quoted_ipv6_packet(before: int) -> None:
    assert read(quote(*SIX), 6, before=before) == Quoted(6, *SIX, REST[:4], 0x89ABCDEF)


@pytest.mark.parametrize(("before", "behind"), [(0, 0), (0, 100), (50, 0), (50, 100)])
@pytest.mark.parametrize(("version", "ends", "least"), [(4, FOUR, 28), (6, SIX, 48)])
def test_a_quote_has_eight_bytes_behind_the_header(
    version: int, ends: tuple[bytes, bytes], least: int, before: int, behind: int
) -> None:
    data = quote(*ends)
    for size in range(len(data) + 1):
        assert (read(data[:size], version, before=before, behind=behind) is not None) == (size >= least), size
    data = quote(*FOUR, words=7)
    for size in range(60):
        assert (read(data[:size], 4, before=before, behind=behind) is not None) == (size >= 36), size


def test_a_quote_of_the_other_version_or_with_a_short_header_is_not_read() -> None:
    assert read(quote(*FOUR), 6) is None
    assert read(quote(*SIX), 4) is None
    for words in range(5):
        assert read(bytes([0x40 | words]) + quote(*FOUR)[1:] + bytes(40), 4) is None


def test_the_key_of_the_other_direction() -> None:
    quoted = Quoted(6, *FOUR, bytes((1, 2, 3, 4)), 0)
    assert quoted.reverse_key() == FOUR[1] + FOUR[0] + bytes((3, 4, 1, 2))
