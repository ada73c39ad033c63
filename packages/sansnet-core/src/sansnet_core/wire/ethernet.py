"""Ethernet II (IEEE 802.3), without tags."""

from __future__ import annotations

from typing import Final

from sansnet_core.actions import Buffer

__all__ = [
    "BROADCAST",
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "ETHERTYPE_IPV6",
    "HEADER_SIZE",
    "SHORTEST",
    "format_mac",
    "summary",
]

HEADER_SIZE: Final = 14
"""Destination and source, 6 bytes each, and the EtherType."""
SHORTEST: Final = 60
"""Shortest frame, without its checksum; some guests drop less."""

# 2 bytes in network order, as they stand in the frame
ETHERTYPE_IPV4: Final = b"\x08\x00"
ETHERTYPE_ARP: Final = b"\x08\x06"
ETHERTYPE_IPV6: Final = b"\x86\xdd"

BROADCAST: Final = b"\xff" * 6


def format_mac(address: Buffer) -> str:
    """Text form of an Ethernet address."""
    return address.hex(":")


def summary(frame: Buffer) -> str:
    """One line for people about the header; the payload is for the caller."""
    if len(frame) < HEADER_SIZE:
        return f"Ethernet, truncated, length {len(frame)}"
    ends = f"{format_mac(frame[6:12])} > {format_mac(frame[:6])}"
    return f"{ends}, ethertype 0x{frame[12:14].hex()}, length {len(frame)}"
