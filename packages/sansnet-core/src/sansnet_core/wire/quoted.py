"""The packet that an ICMP or ICMPv6 error is about: its beginning, quoted behind the error's header."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.orders import Buffer
from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import IpHeader

__all__ = ["Quoted", "parse"]

_LEAST: Final = 8
"""Bytes behind the IP header that every error quotes (RFC 792)."""
_PORTS_AND_NUMBER: Final = Struct("!4sI")


class Quoted(NamedTuple):
    """What is left of a packet.

    Attributes:
        protocol: of its payload.
        source: 4 or 16 bytes.
        destination: likewise.
        ports: source and destination port, as they stand in the header of TCP and UDP.
        number: the 32 bits behind them, which are TCP's sequence number.
    """

    protocol: int
    source: bytes
    destination: bytes
    ports: bytes
    number: int

    def reverse_key(self) -> bytes:
        """Addresses and ports as a packet has them that goes the other way."""
        return self.destination + self.source + self.ports[2:] + self.ports[:2]


def parse(buf: Buffer, ip: IpHeader, icmp: IcmpHeader) -> Quoted | None:
    """Read what an error quotes; it is cut short, so lengths and checksums in it are not looked at.

    Args:
        buf: holds the error.
        ip: its IP header.
        icmp: its ICMP header.

    Returns:
        None if too little is quoted, or a packet with IPv6 extension headers, of which we send none but in fragments.
    """
    start, size = icmp.start, icmp.end - icmp.start
    if size < 20 or buf[start] >> 4 != ip.version:
        return None
    if ip.version == 4:
        header, protocol, addresses, width = (buf[start] & 15) << 2, buf[start + 9], start + 12, 4
    else:
        header, protocol, addresses, width = 40, buf[start + 6], start + 8, 16
    if size < header + _LEAST or header < addresses + 2 * width - start:
        return None
    source = bytes(buf[addresses : addresses + width])
    destination = bytes(buf[addresses + width : addresses + 2 * width])
    ports, number = _PORTS_AND_NUMBER.unpack_from(buf, start + header)
    return Quoted(protocol, source, destination, ports, number)
