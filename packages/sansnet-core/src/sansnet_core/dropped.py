"""Source and destination of dropped packets, for reports.

The first bytes of the guest's frame are kept, and decoded only for a report, so that a drop costs no more than a copy.
Decoding never fails, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from sansnet_core import addresses
from sansnet_core.orders import Endpoint
from sansnet_core.wire import ethernet
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["HEAD", "KEPT", "Dropped", "Kept", "latest", "read"]

KEPT: Final = 4
"""Number of packets that are kept for each reason: the latest ones."""

HEAD: Final = 160
"""Bytes of a frame that are kept: its headers, with some options or extension headers."""

_NAMES: Final = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6"}
_EXTENSIONS: Final = frozenset({0, 43, 60})
"""Hop-by-hop options, routing and destination options (RFC 8200, 4.3 to 4.6); length in units of 8 bytes, minus 1."""
_FRAGMENT: Final = 44


class Dropped(NamedTuple):
    """A dropped packet, from or to the guest.

    Attributes:
        protocol: IP protocol number; None for a frame without an IP packet.
        source, destination: the endpoints as the guest sees them; port 0 means none. The addresses are 4 or 16 bytes;
            for a frame without an IP packet, they are Ethernet addresses of 6 bytes.
    """

    protocol: int | None
    source: Endpoint
    destination: Endpoint

    @property
    def name(self) -> str:
        """Name of the protocol."""
        if self.protocol is None:
            return "ethernet"
        return _NAMES.get(self.protocol, f"protocol {self.protocol}")

    def __str__(self) -> str:
        return f"{self.name} {_text(self.source)} to {_text(self.destination)}"


Kept: TypeAlias = bytes | Dropped
"""The first bytes of a frame, without `virtio_net_hdr`; or the packet, already decoded."""


def latest(kept: Iterable[Kept]) -> tuple[Dropped, ...]:
    """Decode kept packets, without duplicates; the latest one is last."""
    return tuple(dict.fromkeys(packet for one in kept if (packet := read(one))))


def read(kept: Kept) -> Dropped | None:
    """Decode a kept packet; None if the frame has no Ethernet header."""
    if isinstance(kept, Dropped):
        return kept
    if len(kept) < ethernet.HEADER_SIZE:
        return None
    packet = kept[ethernet.HEADER_SIZE :]
    found = None
    if kept[12:14] == ethernet.ETHERTYPE_IPV4:
        found = _read4(packet)
    elif kept[12:14] == ethernet.ETHERTYPE_IPV6:
        found = _read6(packet)
    return found or Dropped(None, Endpoint._make((kept[6:12], 0)), Endpoint._make((kept[:6], 0)))


def _read4(packet: bytes) -> Dropped | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    start = (packet[0] & 0x0F) << 2
    first = not (packet[6] & 0x1F or packet[7])  # fragment offset
    return _read(packet, packet[9], 12, 4, start, first and start >= 20)


def _read6(packet: bytes) -> Dropped | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    protocol, start, first = packet[6], 40, True
    while len(packet) >= start + 8 and (protocol in _EXTENSIONS or protocol == _FRAGMENT):
        if protocol == _FRAGMENT:
            first = first and not (packet[start + 2] or packet[start + 3] & 0xF8)
        size = 8 if protocol == _FRAGMENT else (packet[start + 1] + 1) << 3
        protocol, start = packet[start], start + size
    return _read(packet, protocol, 8, 16, start, first)


def _read(packet: bytes, protocol: int, at: int, size: int, start: int, first: bool) -> Dropped:
    """Decode two addresses of `size` bytes at offset `at`, and in a first fragment (`first`) the ports at `start`."""
    ports = [0, 0]
    if first and protocol in (TCP, UDP) and len(packet) >= start + 4:
        ports = [int.from_bytes(packet[start : start + 2], "big"), int.from_bytes(packet[start + 2 : start + 4], "big")]
    source, destination = packet[at : at + size], packet[at + size : at + 2 * size]
    return Dropped(protocol, Endpoint._make((source, ports[0])), Endpoint._make((destination, ports[1])))


def _text(endpoint: Endpoint) -> str:
    address, port = endpoint
    text = addresses.format_any(address)
    if not port:
        return text
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
