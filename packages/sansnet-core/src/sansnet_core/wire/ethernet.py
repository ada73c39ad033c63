"""Ethernet II (IEEE 802.3), and priority tags (IEEE 802.1Q), which are tags without a VLAN and are skipped."""

from __future__ import annotations

from typing import Final

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer

__all__ = [
    "BROADCAST",
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "ETHERTYPE_IPV6",
    "ETHERTYPE_VLAN",
    "HEADER_SIZE",
    "MIN_SIZE",
    "TAG_SIZE",
    "format_mac",
    "summary",
    "without_priority_tag",
]

HEADER_SIZE: Final = 14
"""Destination and source, 6 bytes each, and the EtherType."""
MIN_SIZE: Final = 60
"""Bytes of the shortest frame, without its checksum; some guests drop shorter ones."""

# 2 bytes in network order
ETHERTYPE_IPV4: Final = b"\x08\x00"
ETHERTYPE_ARP: Final = b"\x08\x06"
ETHERTYPE_IPV6: Final = b"\x86\xdd"
ETHERTYPE_VLAN: Final = b"\x81\x00"
"""EtherType of a tag (IEEE 802.1Q, 9.3): priority and VLAN identifier follow, then the EtherType of the payload."""
TAG_SIZE: Final = 4

BROADCAST: Final = b"\xff" * 6


def without_priority_tag(frame: Buffer, start: int) -> bytes:
    """A tagged frame without its tag.

    Args:
        frame: a frame whose EtherType is `ETHERTYPE_VLAN`.
        start: offset of its Ethernet header.

    Raises:
        Malformed: with ETHERNET_TRUNCATED; with ETHERNET_TYPE if the tag names a VLAN.
    """
    tag = start + HEADER_SIZE - 2
    if len(frame) < tag + TAG_SIZE + 2:
        raise Malformed(Reason.ETHERNET_TRUNCATED)
    if frame[tag + 2] & 0x0F or frame[tag + 3]:  # 3 bits of priority, 1 of drop eligibility, 12 of the VLAN
        raise Malformed(Reason.ETHERNET_TYPE)
    return bytes(frame[:tag]) + bytes(frame[tag + TAG_SIZE :])


def format_mac(address: Buffer) -> str:
    """Text form of an Ethernet address."""
    return address.hex(":")


def summary(frame: Buffer) -> str:
    """One line about the header."""
    if len(frame) < HEADER_SIZE:
        return f"Ethernet, truncated, length {len(frame)}"
    ends = f"{format_mac(frame[6:12])} > {format_mac(frame[:6])}"
    return f"{ends}, ethertype 0x{frame[12:14].hex()}, length {len(frame)}"
