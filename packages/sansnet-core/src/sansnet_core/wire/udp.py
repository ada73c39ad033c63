"""UDP (RFC 768, RFC 8200 8.1)."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish, ones_sum, pseudo_sum
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["HEADER_SIZE", "UdpHeader", "emit", "parse", "summary"]

# source port, destination port, length, checksum
_HEADER: Final = Struct("!HHHH")
HEADER_SIZE: Final = 8


class UdpHeader(NamedTuple):
    """A valid UDP header.

    Attributes:
        source_port, destination_port: 1 to 65535.
        start: where the data begins in the buffer.
        end: where it ends.
    """

    source_port: int
    destination_port: int
    start: int
    end: int


def parse(buf: Buffer, ip: IpHeader, verify: bool) -> UdpHeader:
    """Read a header. Port 0 is refused as source and destination, since it cannot be answered.

    Args:
        buf: holds the packet.
        ip: its IP header.
        verify: check the checksum, if the datagram has one.

    Raises:
        Malformed: with UDP_MALFORMED, UDP_PORT or UDP_CHECKSUM.
    """
    start = ip.start
    room = ip.end - start
    if room < 8:
        raise Malformed(Reason.UDP_MALFORMED)
    source_port, destination_port, size, checksum = _HEADER.unpack_from(buf, start)
    if not 8 <= size <= room:
        raise Malformed(Reason.UDP_MALFORMED)
    if not (source_port and destination_port):
        raise Malformed(Reason.UDP_PORT)
    end = start + size
    if checksum:
        if verify and (pseudo_sum(ip.source, ip.destination, UDP) + size + ones_sum(buf[start:end])) % 65535:
            raise Malformed(Reason.UDP_CHECKSUM)
    elif ip.version == 6:
        raise Malformed(Reason.UDP_CHECKSUM)
    return tuple.__new__(UdpHeader, (source_port, destination_port, start + 8, end))


def emit(source: bytes, destination: bytes, source_port: int, destination_port: int, payload: Buffer) -> bytes:
    """A datagram: header with checksum, and data.

    Args:
        source: 4 or 16 bytes.
        destination: of the same family.
        source_port: 1 to 65535.
        destination_port: 1 to 65535.
        payload: the data.
    """
    size = 8 + len(payload)
    total = pseudo_sum(source, destination, UDP) + source_port + destination_port + 2 * size + ones_sum(payload)
    return _HEADER.pack(source_port, destination_port, size, finish(total)) + payload


def summary(buf: Buffer, ip: IpHeader, source: str, destination: str) -> str:
    """One line of text; the addresses are given as text."""
    try:
        udp = parse(buf, ip, verify=False)
    except Malformed as error:
        return f"{source} > {destination}: UDP, {error}"
    ends = f"{source}.{udp.source_port} > {destination}.{udp.destination_port}"
    return f"{ends}: UDP, length {udp.end - udp.start}"
