"""ARP for IPv4 over Ethernet (RFC 826)."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.ethernet import format_mac

__all__ = ["REPLY", "REQUEST", "SIZE", "ArpPacket", "emit", "parse", "summary"]

REQUEST: Final = 1
REPLY: Final = 2

# hardware type, protocol type, their address sizes, operation; hardware and protocol address of sender and target
_PACKET: Final = Struct("!HHBBH6s4s6s4s")
SIZE: Final = 28
_ETHERNET_IPV4: Final = (1, 0x0800, 6, 4)


class ArpPacket(NamedTuple):
    """A valid ARP packet.

    Attributes:
        operation: `REQUEST`, `REPLY`, or another number.
        sender_mac, target_mac: 6 bytes; the first one is of one station.
        sender, target: 4 bytes.
    """

    operation: int
    sender_mac: bytes
    sender: bytes
    target_mac: bytes
    target: bytes


def parse(buf: Buffer, start: int, limit: int) -> ArpPacket:
    """Read a packet; bytes behind it are padding.

    Args:
        buf: holds the frame.
        start: first byte behind the Ethernet header.
        limit: where the frame ends.

    Raises:
        Malformed: with ARP_MALFORMED.
    """
    if limit - start < SIZE:
        raise Malformed(Reason.ARP_MALFORMED)
    fields = _PACKET.unpack_from(buf, start)
    if fields[:4] != _ETHERNET_IPV4 or fields[5][0] & 1:
        raise Malformed(Reason.ARP_MALFORMED)
    return ArpPacket(*fields[4:])


def emit(packet: ArpPacket) -> bytes:
    """The packet, 28 bytes."""
    return _PACKET.pack(*_ETHERNET_IPV4, *packet)


def summary(buf: Buffer, start: int, limit: int) -> str:
    """One line of text."""
    try:
        packet = parse(buf, start, limit)
    except Malformed as error:
        return f"ARP, {error}"
    sender, target = addresses.format(packet.sender), addresses.format(packet.target)
    if packet.operation == REQUEST:
        return f"ARP, who has {target}, tell {sender}"
    if packet.operation == REPLY:
        return f"ARP, {sender} is at {format_mac(packet.sender_mac)}"
    return f"ARP, operation {packet.operation}"
