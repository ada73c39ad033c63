"""IPv4 (RFC 791)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish
from sansnet_core.wire.ip import IpHeader

__all__ = [
    "DONT_FRAGMENT",
    "FRAGMENTED",
    "HEADER_SIZE",
    "MORE_FRAGMENTS",
    "OFFSET",
    "emit_header",
    "is_routed",
    "parse",
]

# version and header length, TOS, total length, identification, flags and offset, TTL, protocol, checksum, addresses
_HEADER: Final = Struct("!BBHHHBBH4s4s")
HEADER_SIZE: Final = 20

DONT_FRAGMENT: Final = 0x4000
MORE_FRAGMENTS: Final = 0x2000
OFFSET: Final = 0x1FFF
"""Bits of the fragment field: the offset, in units of 8 bytes."""
FRAGMENTED: Final = MORE_FRAGMENTS | OFFSET
"""Bits of the fragment field, none of which is set in a whole packet."""


_END: Final = 0
_NO_OPERATION: Final = 1
_SOURCE_ROUTES: Final = (131, 137)
"""The options of a loose and of a strict source route (RFC 791, 3.1)."""


def parse(buf: Buffer, start: int, limit: int, verify: bool = True) -> tuple[IpHeader, int, int]:
    """Read a header; options are skipped.

    Args:
        buf: holds the packet.
        start: offset of the header.
        limit: end of the frame; bytes beyond the total length are padding.
        verify: check the header checksum.

    Returns:
        The header, its identification, and the field of flags and offset (16 bits; see `FRAGMENTED`).

    Raises:
        Malformed: with IPV4_MALFORMED or IPV4_CHECKSUM.
    """
    if limit - start < 20:
        raise Malformed(Reason.IPV4_MALFORMED)
    first, tos, total, identification, fragment, ttl, protocol, _, source, destination = _HEADER.unpack_from(buf, start)
    size = (first & 15) << 2
    if first >> 4 != 4 or not 20 <= size <= total <= limit - start:
        raise Malformed(Reason.IPV4_MALFORMED)
    payload = start + size
    # `ones_sum` without its call: a header is short and of even size
    if verify and int.from_bytes(buf[start:payload], "big") % 65535:
        raise Malformed(Reason.IPV4_CHECKSUM)
    may_fragment = not fragment & DONT_FRAGMENT
    header = (4, source, destination, protocol, ttl, tos, start, payload, start + total, may_fragment)
    return tuple.__new__(IpHeader, header), identification, fragment


def is_routed(buf: Buffer, at: int, end: int) -> bool:
    """Whether the options of a header have a source route that is not complete: the destination is not the last one.

    Args:
        buf: holds the header.
        at: offset of its options.
        end: offset behind them.
    """
    while at < end and buf[at] != _END:
        if buf[at] == _NO_OPERATION:
            at += 1
            continue
        if end - at < 3 or buf[at + 1] < 2:
            return False
        if buf[at] in _SOURCE_ROUTES and buf[at + 2] <= buf[at + 1]:
            return True
        at += buf[at + 1]
    return False


def emit_header(
    source: bytes, destination: bytes, protocol: int, size: int, ttl: int, tos: int, identification: int, fragment: int
) -> bytes:
    """A header without options (RFC 791, 3.1), 20 bytes.

    Args:
        source: 4 bytes.
        destination: 4 bytes.
        protocol: of the payload.
        size: bytes of payload.
        ttl: 8 bits.
        tos: 8 bits.
        identification: 16 bits.
        fragment: the field of flags and offset, 16 bits.
    """
    total = 0x4500 + tos + 20 + size + identification + fragment + (ttl << 8) + protocol
    checksum = finish(total + int.from_bytes(source + destination, "big") % 65535)
    return _HEADER.pack(0x45, tos, 20 + size, identification, fragment, ttl, protocol, checksum, source, destination)
