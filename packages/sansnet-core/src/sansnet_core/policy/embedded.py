"""IPv4 addresses inside of IPv6 addresses, to which a translator or a tunnel would send the packets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sansnet_core.addresses import Prefix

__all__ = ["TRANSLATOR_LENGTHS", "carried", "checked_translators"]

TRANSLATOR_LENGTHS: Final = (32, 40, 48, 56, 64, 96)
"""Possible lengths of a translator's prefix (RFC 6052, 2.2)."""

_AT_THE_END: Final = (
    bytes(12),  # IPv4-compatible (RFC 4291, 2.5.5.1)
    bytes(10) + b"\xff\xff",  # IPv4-mapped (RFC 4291, 2.5.5.2)
    bytes(8) + b"\xff\xff\0\0",  # IPv4-translated (RFC 2765, 2.1)
    b"\0\x64\xff\x9b" + bytes(8),  # NAT64 (RFC 6052, 2.1)
)
_LOCAL_TRANSLATORS: Final = b"\0\x64\xff\x9b\0\x01"
"""RFC 8215: a network chooses any prefix of 48 bits or more below this one."""
_ISATAP: Final = (b"\0\0\x5e\xfe", b"\x02\0\x5e\xfe")
"""RFC 5214, 6.1."""


def carried(address: bytes, translators: Iterable[Prefix] = ()) -> tuple[bytes, ...]:
    """The IPv4 addresses, 4 bytes each, that an IPv6 address may carry; none for an IPv4 address.

    Args:
        address: 4 or 16 bytes.
        translators: prefixes of NAT64 translators, each of one of `TRANSLATOR_LENGTHS`.
    """
    if len(address) == 4:
        return ()
    found: list[bytes] = []
    head = address[:2]
    if head == b"\x20\x02":  # 6to4 (RFC 3056, 2)
        found.append(address[2:6])
    elif head == b"\x20\x01" and address[:4] == b"\x20\x01\0\0":  # Teredo (RFC 4380, 4): the server, and the client
        found += [address[4:8], bytes(each ^ 0xFF for each in address[12:])]
    elif not address[0]:
        if address[:12] in _AT_THE_END and address not in (bytes(16), bytes(15) + b"\x01"):
            found.append(address[12:])
        elif address[:6] == _LOCAL_TRANSLATORS:
            # The length is not known. No host is in 0.0.0.0/8, so such a reading is not meant
            readings = (_embedded(address, length) for length in (48, 56, 64, 96))
            found += [reading for reading in readings if reading[0]]
    if address[8:12] in _ISATAP:
        found.append(address[12:])
    for prefix in translators:
        if prefix.contains(address):
            found.append(_embedded(address, prefix.length))
    return tuple(found)


def checked_translators(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Prefixes of translators, unchanged.

    Raises:
        ValueError: one has another length than `TRANSLATOR_LENGTHS`, or is of IPv4.
    """
    given = tuple(prefixes)
    for prefix in given:
        if len(prefix.address) != 16 or prefix.length not in TRANSLATOR_LENGTHS:
            lengths = ", ".join(map(str, TRANSLATOR_LENGTHS))
            raise ValueError(
                f"{prefix} is not the prefix of a translator; give an IPv6 prefix with one of {lengths} bits"
            )
    return given


def _embedded(address: bytes, length: int) -> bytes:
    """The IPv4 address behind a translator's prefix. Bits 64 to 71 are not part of it (RFC 6052, 2.2)."""
    if length == 96:
        return address[12:]
    rest = address[length // 8 : 8] + address[9:]
    return rest[:4]
