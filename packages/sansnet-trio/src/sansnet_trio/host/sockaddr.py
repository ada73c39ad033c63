"""Conversion between the core's endpoints and the address tuples of Python's sockets.

Both directions have a cache: Python's addresses are text, and parsing it for each datagram costs more than a lookup.
"""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, TypeAlias

from sansnet_core import Endpoint, addresses

__all__ = ["SocketAddress", "decode", "decode_once", "encode", "encode_once", "family_of"]

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


def family_of(address: bytes) -> int:
    """AF_INET for 4 bytes, AF_INET6 for 16."""
    return AF_INET if len(address) == 4 else AF_INET6


def encode_once(address: bytes, port: int, scope: int = 0) -> SocketAddress:
    """The address tuple for `connect`, `bind` and `sendto`; not cached.

    Args:
        address: 4 or 16 bytes.
        port: in host order.
        scope: index of the interface for link-local addresses (unicast or multicast) without a zone.
    """
    if len(address) == 4:
        return inet_ntop(AF_INET, address), port
    # fe80::/10, and ff01::/16, ff02::/16 with any flags (RFC 4291, 2.5.6 and 2.7)
    local = (address[0] == 0xFE and address[1] & 0xC0 == 0x80) or (address[0] == 0xFF and address[1] & 0x0F in (1, 2))
    if not local:
        return inet_ntop(AF_INET6, address), port, 0, 0
    plain, zone = addresses.split_zone(address)
    return inet_ntop(AF_INET6, plain), port, 0, zone or scope


encode: Final = lru_cache(maxsize=4096)(encode_once)
"""The same for addresses that are used again."""


def decode_once(address: SocketAddress, scope: int | None = None) -> Endpoint:
    """The endpoint for an address tuple from `accept`, `recvfrom` or `recvmsg`; not cached.

    Args:
        address: the address tuple.
        scope: as for `encode`. A link-local address on another interface gets that interface as its zone; with None no
            address gets a zone.
    """
    if len(address) == 2:
        return Endpoint._make((inet_pton(AF_INET, address[0]), address[1]))
    packed = inet_pton(AF_INET6, address[0].partition("%")[0])
    zone = 0 if scope in (None, address[3]) else address[3]
    return Endpoint._make((addresses.with_zone(packed, zone), address[1]))


decode: Final = lru_cache(maxsize=4096)(decode_once)
"""The same for addresses that are seen again."""
