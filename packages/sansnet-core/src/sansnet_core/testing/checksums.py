"""Repairs the checksums of a frame whose other fields a test has changed, independently of the core."""

from __future__ import annotations

import struct
from typing import Final

from sansnet_core.testing.packets import (
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    NEEDS_CSUM,
    TCP,
    UDP,
    checksum,
    pseudo_header,
)

__all__ = ["with_checksums"]

_VLAN: Final = 0x8100
_EXTENSIONS: Final = (0, 43, 60)
"""Extension headers of IPv6 in front of a whole payload: hop-by-hop options, routing, destination options."""
_FIELD: Final = {ICMP: 2, ICMPV6: 2, UDP: 6, TCP: 16}
"""Protocol -> offset of the checksum in its header."""


def with_checksums(frame: bytes, *, vnet: bool = False) -> bytes:
    """The frame with right checksums of IPv4 and of TCP, UDP, ICMP or ICMPv6.

    A checksum that cannot be found stays as it is: that of a truncated header, of a fragment, and a transport checksum
    that the offload header leaves to the receiver.

    Args:
        frame: an Ethernet frame with any contents.
        vnet: whether a `virtio_net_hdr` is before it.
    """
    start = 12 if vnet else 0
    data = bytearray(frame)
    if len(data) < start + 14:
        return frame
    partial = vnet and data[0] & NEEDS_CSUM
    ethertype = struct.unpack_from("!H", data, start + 12)[0]
    if ethertype == _VLAN and len(data) >= start + 18:
        start += 4
        ethertype = struct.unpack_from("!H", data, start + 12)[0]
    place = {IPV4: _ipv4, IPV6: _ipv6}[ethertype](data, start + 14) if ethertype in (IPV4, IPV6) else None
    if place is not None and not partial:
        _transport(data, *place)
    return bytes(data)


def _ipv4(data: bytearray, start: int) -> tuple[bytes, bytes, int, int, int] | None:
    """Repair the header; source, destination, protocol, start and end of the payload, unless it is a fragment."""
    if len(data) < start + 20:
        return None
    size = (data[start] & 15) * 4
    if size < 20 or len(data) < start + size:
        return None
    data[start + 10 : start + 12] = bytes(2)
    data[start + 10 : start + 12] = struct.pack("!H", checksum(bytes(data[start : start + size])))
    total, _, fragment = struct.unpack_from("!HHH", data, start + 2)
    if fragment & 0x3FFF or total < size:
        return None
    source, destination = bytes(data[start + 12 : start + 16]), bytes(data[start + 16 : start + 20])
    return source, destination, data[start + 9], start + size, min(start + total, len(data))


def _ipv6(data: bytearray, start: int) -> tuple[bytes, bytes, int, int, int] | None:
    """Source, destination, protocol, start and end of the payload behind the extension headers."""
    if len(data) < start + 40:
        return None
    end = min(start + 40 + struct.unpack_from("!H", data, start + 4)[0], len(data))
    source, destination = bytes(data[start + 8 : start + 24]), bytes(data[start + 24 : start + 40])
    protocol, place = data[start + 6], start + 40
    while protocol in _EXTENSIONS and place + 8 <= end:
        protocol, place = data[place], place + 8 + 8 * data[place + 1]
    return source, destination, protocol, place, end


def _transport(data: bytearray, source: bytes, destination: bytes, protocol: int, start: int, end: int) -> None:
    field = start + _FIELD.get(protocol, 1 << 16)
    if field + 2 > end:
        return
    data[field : field + 2] = bytes(2)
    pseudo = b"" if protocol == ICMP else pseudo_header(source, destination, protocol, end - start)
    value = checksum(pseudo + bytes(data[start:end]))
    data[field : field + 2] = struct.pack("!H", value or 0xFFFF if protocol == UDP else value)
