"""IPv6 (RFC 8200).

Hop-by-hop options, destination options, routing headers without segments left and fragment headers are skipped. Every
other header counts as the payload's protocol, and such packets are dropped with IP_PROTOCOL: AH and ESP protect fields
that a translator must change, Shim6 rewrites such fields, and mobility and HIP headers have no payload.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from sansnet_core.errors import HeaderProblem, Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire import icmp6
from sansnet_core.wire.ip import ICMPV6, TCP, UDP, IpHeader

__all__ = [
    "FRAGMENT",
    "FRAGMENT_HEADER",
    "FRAGMENT_HEADER_SIZE",
    "HEADER_SIZE",
    "MORE_FRAGMENTS",
    "OFFSET",
    "emit_header",
    "has_all_headers",
    "last_header",
    "parse",
]

# version, traffic class and flow label; payload length; next header; hop limit; addresses
_HEADER: Final = Struct("!IHBB16s16s")
HEADER_SIZE: Final = 40
FRAGMENT_HEADER: Final = Struct("!BBHI")
"""Next header, reserved, offset and M flag, identification."""
FRAGMENT_HEADER_SIZE: Final = 8
OFFSET: Final = 0xFFF8
"""Bits of the fragment field: the offset, in bytes."""
MORE_FRAGMENTS: Final = 1

_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
FRAGMENT: Final = 44
_DESTINATION_OPTIONS: Final = 60
_EXTENSIONS: Final = frozenset((_HOP_BY_HOP, _ROUTING, FRAGMENT, _DESTINATION_OPTIONS))

_MAX_EXTENSIONS: Final = 8
"""Most extension headers of a packet. RFC 8200, 4.1 recommends at most 5 of those that are skipped here. Linux has the
same limit for the options of one header."""

_UPPER_HEADERS: Final = {TCP: 20, UDP: 8, ICMPV6: 8}
"""Protocol -> bytes of its header without options."""

_PAD1: Final = 0


def parse(buf: Buffer, start: int, limit: int) -> tuple[IpHeader, int, int]:
    """Read a header and its extension headers, up to the fragment header of a fragment.

    Args:
        buf: holds the packet.
        start: offset of the header.
        limit: end of the frame; bytes beyond the payload length are padding.

    Returns:
        The header, and for a fragment its identification and the fragment field (offset and M flag, 16 bits). Both are
        0 for a whole packet, and for one in a single fragment (RFC 6946). The protocol of a fragment is the next header
        of its fragment header.

    Raises:
        Malformed: with IPV6_MALFORMED or IPV6_EXTENSION; `HeaderProblem` if it must be reported to the sender.
    """
    if limit - start < 40:
        raise Malformed(Reason.IPV6_MALFORMED)
    first, size, protocol, hop_limit, source, destination = _HEADER.unpack_from(buf, start)
    payload = start + 40
    end = payload + size
    if first >> 28 != 6 or end > limit:
        raise Malformed(Reason.IPV6_MALFORMED)
    identification = fragment = 0
    fragment_seen = False
    if protocol in _EXTENSIONS:
        protocol, payload, identification, fragment, fragment_seen = _walk(buf, protocol, payload, end)
    header = (6, source, destination, protocol, hop_limit, first >> 20 & 0xFF, start, payload, end, fragment_seen)
    return tuple.__new__(IpHeader, header), identification, fragment


def _walk(buf: Buffer, protocol: int, start: int, end: int) -> tuple[int, int, int, int, bool]:
    """Skip the extension headers.

    Returns:
        Protocol and offset of the payload, identification and field of a fragment, and whether there is a fragment
        header.
    """
    packet = start - 40
    count = 0
    fragment_seen = False
    pointer = 6
    while protocol in _EXTENSIONS:
        count += 1
        size = 8
        if end - start >= 8 and protocol != FRAGMENT:
            size += buf[start + 1] << 3
        if end - start < size or count > _MAX_EXTENSIONS:
            raise Malformed(Reason.IPV6_EXTENSION)
        if protocol == _HOP_BY_HOP and count > 1:  # RFC 8200, 4: like an unknown next header
            raise HeaderProblem(Reason.IPV6_EXTENSION, icmp6.UNRECOGNIZED_NEXT_HEADER, pointer)
        if protocol == FRAGMENT:
            if fragment_seen:
                raise Malformed(Reason.IPV6_EXTENSION)
            fragment_seen = True
            following, _, field, identification = FRAGMENT_HEADER.unpack_from(buf, start)
            field &= OFFSET | MORE_FRAGMENTS
            if field:
                return following, start + 8, identification, field, True
        elif protocol == _ROUTING:
            if buf[start + 3]:  # segments left, and no type is supported (RFC 8200 4.4, RFC 5095)
                raise HeaderProblem(Reason.IPV6_EXTENSION, icmp6.ERRONEOUS_HEADER_FIELD, start + 2 - packet)
        else:
            _check_options(buf, start + 2, start + size, packet)
        pointer = start - packet
        protocol = buf[start]
        start += size
    return protocol, start, 0, 0, fragment_seen


def _check_options(buf: Buffer, start: int, end: int, packet: int) -> None:
    """Refuse options that must not be skipped: the two highest bits of their type are not 00 (RFC 8200, 4.2)."""
    while start < end:
        kind = buf[start]
        if kind == _PAD1:
            start += 1
            continue
        following = start + 2 + (buf[start + 1] if end - start > 1 else end)
        action = kind >> 6
        if following > end or action == 1:
            raise Malformed(Reason.IPV6_EXTENSION)
        if action:
            pointer = start - packet
            raise HeaderProblem(Reason.IPV6_EXTENSION, icmp6.UNRECOGNIZED_OPTION, pointer, to_groups=action == 2)
        start = following


def last_header(buf: Buffer, start: int, end: int) -> tuple[int, int, int]:
    """Skip the extension headers of a packet without checking them.

    Args:
        buf: holds the packet.
        start: offset of the packet.
        end: end of the packet.

    Returns:
        The protocol of the payload, or of the header that could not be read; its offset in `buf`, or `end` if it is not
        in this packet; and the offset in the packet of the field with the protocol.
    """
    protocol, pointer, position = buf[start + 6], 6, start + 40
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS or end - position < 8:
            break
        pointer = position - start
        size = 8 if protocol == FRAGMENT else (buf[position + 1] + 1) << 3
        later = protocol == FRAGMENT and FRAGMENT_HEADER.unpack_from(buf, position)[2] & OFFSET
        protocol, position = buf[position], end if later else position + size
    return protocol, min(position, end), pointer


def has_all_headers(buf: Buffer, protocol: int, start: int, end: int) -> bool:
    """Whether a first fragment has all headers, up to that of the upper layer (RFC 8200, 4.5; RFC 7112, 5).

    Args:
        buf: holds the packet.
        protocol: next header of the fragment header.
        start: offset behind the fragment header.
        end: end of the packet.
    """
    for _ in range(_MAX_EXTENSIONS + 1):
        if protocol not in _EXTENSIONS:
            return end - start >= _UPPER_HEADERS.get(protocol, 0)
        if end - start < 8:
            return False
        size = 8 if protocol == FRAGMENT else (buf[start + 1] + 1) << 3
        protocol, start = buf[start], start + size
    return True  # too many, which is found once the packet is whole


def emit_header(source: bytes, destination: bytes, next_header: int, size: int, hop_limit: int, tos: int) -> bytes:
    """A header with flow label 0 (RFC 8200, 3), 40 bytes.

    Args:
        source: 16 bytes.
        destination: 16 bytes.
        next_header: protocol of the payload, or type of the first extension header.
        size: bytes behind this header.
        hop_limit: 8 bits.
        tos: the traffic class, 8 bits.
    """
    return _HEADER.pack(0x60000000 | tos << 20, size, next_header, hop_limit, source, destination)
