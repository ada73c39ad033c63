"""`struct virtio_net_hdr_v1`, before each frame of a link with offloads (virtio 1.2, 5.1.6; little-endian)."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish, ones_sum

__all__ = [
    "DATA_VALID",
    "GSO_NONE",
    "GSO_TCPV4",
    "GSO_TCPV6",
    "GSO_UDP_L4",
    "HEADER",
    "HEADER_SIZE",
    "NEEDS_CSUM",
    "NO_OFFLOAD",
    "VnetHeader",
    "complete",
    "parse",
]

HEADER: Final = Struct("<BBHHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers."""
HEADER_SIZE: Final = 12
NO_OFFLOAD: Final = bytes(HEADER_SIZE)
"""The header of a frame without offloads."""

# flags
NEEDS_CSUM: Final = 1
"""The checksum field covers the pseudo-header only."""
DATA_VALID: Final = 2
"""The checksum was verified."""

# gso_type
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
_GSO_ECN: Final = 0x80
"""Added to the type of a TCP frame with CWR, which only the first segment of the frame keeps."""
_GSO_TYPES: Final = frozenset((GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_TCPV4 | _GSO_ECN, GSO_TCPV6 | _GSO_ECN))


class VnetHeader(NamedTuple):
    """A header whose offsets are inside its frame.

    Attributes:
        flags: `NEEDS_CSUM`, `DATA_VALID`.
        gso_type: one of the `GSO_` constants.
        gso_size: payload bytes of each piece; 0 for a frame that is not split.
        checksum_start: first byte that the partial checksum covers, counted from the Ethernet header.
        checksum_offset: offset of the checksum field from there.
    """

    flags: int
    gso_type: int
    gso_size: int
    checksum_start: int
    checksum_offset: int


def parse(frame: Buffer) -> VnetHeader:
    """Read the header of a frame.

    Raises:
        Malformed: with VNET_HEADER.
    """
    if len(frame) < HEADER_SIZE:
        raise Malformed(Reason.VNET_HEADER)
    flags, gso_type, _, gso_size, start, offset, _ = HEADER.unpack_from(frame)
    if flags & NEEDS_CSUM and HEADER_SIZE + start + offset + 2 > len(frame):
        raise Malformed(Reason.VNET_HEADER)
    if gso_type == GSO_NONE:
        gso_size = 0
    elif gso_type not in _GSO_TYPES or not gso_size:
        raise Malformed(Reason.VNET_HEADER)
    return tuple.__new__(VnetHeader, (flags, gso_type & ~_GSO_ECN, gso_size, start, offset))


def complete(frame: Buffer) -> bytes:
    """The frame without this header, with its checksum completed; for captures.

    Never raises, so that frames with an invalid header can be captured, too.
    """
    body = memoryview(frame)[HEADER_SIZE:]
    try:
        header = parse(frame)
    except Malformed:
        return bytes(body)
    if not header.flags & NEEDS_CSUM:
        return bytes(body)
    field = header.checksum_start + header.checksum_offset
    checksum = finish(ones_sum(body[header.checksum_start :]))
    return b"".join((body[:field], checksum.to_bytes(2, "big"), body[field + 2 :]))
