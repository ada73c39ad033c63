"""The messages of a vhost-user front-end, and the descriptors of a guest's rings, written from their specifications.

Sources: docs/interop/vhost-user.rst of QEMU, and virtio 1.2, 2.7.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.testing.strategies.parts import Part, Parts, below, chance, choose, joined, nearly

__all__ = ["VhostMessage", "vhost_messages", "vring_descriptors"]

_FEATURES: Final = (0, (1 << 32) | (1 << 30), (1 << 32) | (1 << 30) | (1 << 26), (1 << 64) - 1, 1 << 15)
_ADDRESSES: Final = (0, 0x1000, 0x40000, 0x7F0000000000, 1 << 32, (1 << 64) - 1, (1 << 64) - 4096)
_SIZES: Final = (0x100000, 4096, 0, 1, (1 << 64) - 1)
_NUMBERS: Final = (256, 0, 1, 2, 3, 8, 1024, 32768, 65535, 65536, (1 << 32) - 1)
_U64: Final = (2, 16, 20, 39)
"""SET_FEATURES, SET_PROTOCOL_FEATURES, NET_SET_MTU, SET_STATUS."""
_STATES: Final = (8, 10, 11, 18)
"""SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE."""
_FILES: Final = (12, 13, 14)
"""SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR."""
_EMPTY: Final = (1, 3, 4, 7, 15, 17, 36, 40)
"""Requests without a payload: features and their like, ownership, the descriptor of the log."""
_REGIONS: Final = (5, 37, 38)
"""SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG."""
_KNOWN: Final = (*_EMPTY, *_U64, *_STATES, *_FILES, *_REGIONS, 6, 9, 19)

_NEXT: Final = 1
_INDIRECT: Final = 4


class VhostMessage(NamedTuple):
    """A message and what comes with it.

    Attributes:
        data: the bytes, header included.
        fds: how many file descriptors come with it.
    """

    data: bytes
    fds: int


def _region(draw: DrawFn) -> bytes:
    fields = choose(draw, _ADDRESSES), choose(draw, _SIZES), choose(draw, _ADDRESSES), choose(draw, (0, 4096))
    return struct.pack("<4Q", *fields)


def _payload(draw: DrawFn, request: int) -> tuple[Parts, int]:
    """The payload of a request, and how many descriptors come with it."""
    if request in _U64:
        return (Part("vhost.u64", struct.pack("<Q", choose(draw, _FEATURES))),), 0
    if request in _STATES:
        fields = below(draw, 3), choose(draw, _NUMBERS)
        return (Part("vhost.ring", struct.pack("<I", fields[0])), Part("vhost.number", struct.pack("<I", fields[1]))), 0
    if request in _FILES:
        without = chance(draw, 3)
        return (Part("vhost.file", struct.pack("<Q", below(draw, 3) | without << 8)),), not without
    if request == 5:
        regions = [_region(draw) for _ in range(below(draw, 9))]
        head = Part("vhost.regions", struct.pack("<II", len(regions), 0))
        return (head, *(Part("vhost.region", region) for region in regions)), len(regions)
    if request in _REGIONS:
        return (Part("vhost.padding", bytes(8)), Part("vhost.region", _region(draw))), 1
    if request == 6:
        return (Part("vhost.log", struct.pack("<QQ", choose(draw, _SIZES), choose(draw, (0, 4096)))),), 1
    if request == 9:
        ring = struct.pack("<II", below(draw, 3), below(draw, 2))
        places = struct.pack("<4Q", *(choose(draw, _ADDRESSES) for _ in range(4)))
        return (Part("vhost.ring", ring), Part("vhost.addresses", places)), 0
    return ((Part("vhost.mac", bytes(8)),) if request == 19 else ()), int(request == 7)


@st.composite
def _messages(draw: DrawFn) -> VhostMessage:
    request = choose(draw, _KNOWN)
    payload, fds = _payload(draw, request)
    flags = 1 | chance(draw, 2) << 3  # the version, and whether an answer is needed
    sizes = struct.pack("<I", len(joined(payload)))
    head = Part("vhost.request", struct.pack("<I", request)), Part("vhost.flags", struct.pack("<I", flags))
    parts = (*head, Part("vhost.size", sizes), *payload)
    match below(draw, 4):
        case 0 | 1:
            return VhostMessage(joined(parts), fds)
        case 2:
            return VhostMessage(nearly(draw, parts, vnet=None), fds)
        case _:
            return VhostMessage(joined(parts), below(draw, 9))


def vhost_messages() -> SearchStrategy[VhostMessage]:
    """Messages of a vhost-user front-end: valid ones, ones with one thing wrong, ones with other descriptors."""
    return _messages()


@st.composite
def _descriptors(draw: DrawFn, size: int, memory: int) -> bytes:
    table = b""
    for _ in range(size):
        address = choose(draw, _ADDRESSES) if chance(draw, 4) else 16 * below(draw, max(memory // 16, 1))
        length = choose(draw, (16, 1500, 12, 0, 65549, (1 << 32) - 1))
        flags = choose(draw, (0, _NEXT, 2, 2 | _NEXT, _INDIRECT, _INDIRECT | _NEXT, 7, 0xFFFF))
        table += struct.pack("<QIHH", address, length, flags, below(draw, size + 1))
    return table


def vring_descriptors(size: int, memory: int) -> SearchStrategy[bytes]:
    """Descriptor tables of a split virtqueue, with chains of any kind: loops, indirect tables, wrong places.

    Args:
        size: number of descriptors.
        memory: bytes of the guest's memory, which begins at the address 0; most descriptors lead into it.
    """
    return _descriptors(size, memory)
