"""The messages of vhost-user (QEMU, docs/interop/vhost-user.rst): headers, request numbers, payloads. Little-endian."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.orders import Buffer
from sansnet_core.vhost.faults import Fault, VhostViolation

__all__ = [
    "HEADER",
    "HEADER_SIZE",
    "LOG_LOCATION",
    "MAX_FDS",
    "MAX_PAYLOAD",
    "NEED_REPLY",
    "RING_ADDRESSES",
    "RING_LOGGED",
    "RING_STATE",
    "U64",
    "Header",
    "Region",
    "Request",
    "emit",
    "emit_region",
    "emit_regions",
    "parse_header",
    "parse_region",
    "parse_regions",
]

HEADER: Final = Struct("<III")
"""Request, flags, size of the payload in bytes."""
HEADER_SIZE: Final = 12
MAX_PAYLOAD: Final = 4096
"""Bytes. The longest request that is served has 264."""
MAX_FDS: Final = 8
"""File descriptors that one message can carry."""

# Header flags
_VERSION: Final = 1
_VERSION_MASK: Final = 3
_REPLY: Final = 4
NEED_REPLY: Final = 8

U64: Final = Struct("<Q")
RING_STATE: Final = Struct("<II")
"""Ring index, and a size, a position or a flag."""
RING_ADDRESSES: Final = Struct("<IIQQQQ")
"""Ring index, flags, user addresses of the descriptors, the used and the available ring, guest address of the log."""
LOG_LOCATION: Final = Struct("<QQ")
"""Size of the log and its offset in the file, in bytes."""
_REGION: Final = Struct("<QQQQ")
_REGION_COUNT: Final = Struct("<II")
_SLOT: Final = Struct("<QQQQQ")
_ADDRESS_SPACE: Final = 1 << 64

RING_LOGGED: Final = 1
"""VHOST_VRING_F_LOG: writes to the used ring are marked in the dirty log."""


class Request:
    """Numbers of the requests that are served. They are plain integers, because the front-end may send any number."""

    GET_FEATURES: Final = 1
    SET_FEATURES: Final = 2
    SET_OWNER: Final = 3
    RESET_OWNER: Final = 4
    SET_MEM_TABLE: Final = 5
    SET_LOG_BASE: Final = 6
    SET_LOG_FD: Final = 7
    SET_VRING_NUM: Final = 8
    SET_VRING_ADDR: Final = 9
    SET_VRING_BASE: Final = 10
    GET_VRING_BASE: Final = 11
    SET_VRING_KICK: Final = 12
    SET_VRING_CALL: Final = 13
    SET_VRING_ERR: Final = 14
    GET_PROTOCOL_FEATURES: Final = 15
    SET_PROTOCOL_FEATURES: Final = 16
    SET_VRING_ENABLE: Final = 18
    SEND_RARP: Final = 19
    NET_SET_MTU: Final = 20
    GET_MAX_MEM_SLOTS: Final = 36
    ADD_MEM_REG: Final = 37
    REM_MEM_REG: Final = 38
    SET_STATUS: Final = 39
    GET_STATUS: Final = 40


class Header(NamedTuple):
    """The header of a request.

    Attributes:
        request: its number, which may be none of `Request`.
        needs_reply: whether the front-end waits for an answer even if the request defines no reply.
        size: bytes of payload that follow.
    """

    request: int
    needs_reply: bool
    size: int


class Region(NamedTuple):
    """A part of the guest's memory. It is not empty and does not extend beyond the address space.

    Attributes:
        guest: guest-physical address.
        size: in bytes.
        user: address in the front-end's address space; ring addresses are of this kind.
        offset: in the file, in bytes.
    """

    guest: int
    size: int
    user: int
    offset: int


def parse_header(data: Buffer) -> Header:
    """Parse the 12 bytes of a header.

    Raises:
        VhostViolation: HEADER or MESSAGE_SIZE.
    """
    request, flags, size = HEADER.unpack(data)
    if flags & (_VERSION_MASK | _REPLY) != _VERSION:
        raise VhostViolation(Fault.HEADER)
    if size > MAX_PAYLOAD:
        raise VhostViolation(Fault.MESSAGE_SIZE)
    return Header(request, bool(flags & NEED_REPLY), size)


def emit(request: int, payload: bytes, *, reply: bool = True, needs_reply: bool = False) -> bytes:
    """A whole message. QEMU accepts replies only with exactly the version and the reply bit as flags."""
    return HEADER.pack(request, _VERSION | reply * _REPLY | needs_reply * NEED_REPLY, len(payload)) + payload


def parse_regions(payload: bytes) -> tuple[Region, ...]:
    """Parse the payload of SET_MEM_TABLE: a count and that many regions.

    Raises:
        VhostViolation: PAYLOAD or REGION_RANGE.
    """
    if len(payload) < _REGION_COUNT.size:
        raise VhostViolation(Fault.PAYLOAD)
    count, _ = _REGION_COUNT.unpack_from(payload)
    if len(payload) != _REGION_COUNT.size + count * _REGION.size:
        raise VhostViolation(Fault.PAYLOAD)
    return tuple(_check(*fields) for fields in _REGION.iter_unpack(payload[_REGION_COUNT.size :]))


def emit_regions(regions: tuple[Region, ...]) -> bytes:
    """The payload of SET_MEM_TABLE."""
    return _REGION_COUNT.pack(len(regions), 0) + b"".join(_REGION.pack(*region) for region in regions)


def parse_region(payload: bytes) -> Region:
    """Parse the payload of ADD_MEM_REG or REM_MEM_REG, 40 bytes.

    Raises:
        VhostViolation: PAYLOAD or REGION_RANGE.
    """
    if len(payload) != _SLOT.size:
        raise VhostViolation(Fault.PAYLOAD)
    return _check(*_SLOT.unpack(payload)[1:])


def emit_region(region: Region) -> bytes:
    """The payload of ADD_MEM_REG or REM_MEM_REG."""
    return _SLOT.pack(0, *region)


def _check(guest: int, size: int, user: int, offset: int) -> Region:
    if not size or max(guest, user, offset) + size > _ADDRESS_SPACE:
        raise VhostViolation(Fault.REGION_RANGE)
    return Region(guest, size, user, offset)
