"""The beginning of a packet, as an ICMP or ICMPv6 error about the packet quotes it."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.orders import Buffer
from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import IpHeader

__all__ = ["Quoted", "parse"]

_MIN_QUOTED: Final = 8
"""Bytes behind the IP header that every error quotes (RFC 792)."""
_PORTS_AND_NUMBER: Final = Struct("!4sI")


class Quoted(NamedTuple):
    """The quoted part of a packet.

    Attributes:
        protocol: of its payload.
        source: 4 or 16 bytes.
        destination: 4 or 16 bytes.
        ports: source and destination port of TCP or UDP, 4 bytes in network order.
        number: the next 32 bits; TCP's sequence number.
    """

    protocol: int
    source: bytes
    destination: bytes
    ports: bytes
    number: int

    def reverse_key(self) -> bytes:
        """Addresses and ports in the order of a packet in the other direction."""
        return self.destination + self.source + self.ports[2:] + self.ports[:2]


def parse(buf: Buffer, ip: IpHeader, icmp: IcmpHeader) -> Quoted | None:
    """Read the packet that an error quotes, without checks of length and checksum, since it is truncated.

    Args:
        buf: holds the error.
        ip: its IP header.
        icmp: its ICMP header.

    Returns:
        None if the quote is too short, or has IPv6 extension headers, which we send in fragments only.
    """
    start, size = icmp.start, icmp.end - icmp.start
    if size < 20 or buf[start] >> 4 != ip.version:
        return None
    if ip.version == 4:
        header, protocol, addresses, width = (buf[start] & 15) << 2, buf[start + 9], start + 12, 4
    else:
        header, protocol, addresses, width = 40, buf[start + 6], start + 8, 16
    if size < header + _MIN_QUOTED or header < addresses + 2 * width - start:
        return None
    source = bytes(buf[addresses : addresses + width])
    destination = bytes(buf[addresses + width : addresses + 2 * width])
    ports, number = _PORTS_AND_NUMBER.unpack_from(buf, start + header)
    return Quoted(protocol, source, destination, ports, number)
