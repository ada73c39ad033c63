"""IP addresses: their properties, and their text form. They are 4 or 16 bytes in network order.

An IPv6 link-local address is unique on one link only (RFC 4007). On the host's side it may carry the index of the
interface, its zone, in bytes 4 to 7, which are zero on the wire (RFC 4291, 2.5.6). Zone 0 is the host's link that
corresponds to the guest's own.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, Self, TypeAlias

__all__ = [
    "LOOPBACK",
    "AnyAddress",
    "AnyPrefix",
    "Endpoint",
    "Prefix",
    "format",
    "format_any",
    "format_zoned",
    "is_broadcast",
    "is_link_local",
    "is_loopback",
    "is_multicast",
    "is_unicast",
    "is_unspecified",
    "packed",
    "parse",
    "split_zone",
    "with_zone",
]

AnyAddress: TypeAlias = str | bytes | IPv4Address | IPv6Address
"""An address as text, as 4 or 16 bytes in network order, or as an object of the standard library."""

LOOPBACK: Final = {4: bytes([127, 0, 0, 1]), 16: bytes(15) + b"\x01"}
"""The loopback address of each family, by its size."""

_UNSPECIFIED4: Final = bytes(4)
_UNSPECIFIED6: Final = bytes(16)
_BROADCAST: Final = b"\xff" * 4


class Endpoint(NamedTuple):
    """An address and a port.

    Attributes:
        address: 4 or 16 bytes in network order.
        port: 0 to 65535.
    """

    address: bytes
    port: int


class Prefix(NamedTuple):
    """A range of addresses: those that begin with the same bits.

    Attributes:
        address: 4 or 16 bytes in network order; the bits beyond `length` are 0.
        length: number of bits, 0 to 32 or 128.
    """

    address: bytes
    length: int

    @classmethod
    def of(cls, value: AnyPrefix) -> Self:
        """Make a prefix from text (`10.0.0.0/8`), an address (then it is that address alone) or an `ip_network`.

        Raises:
            ValueError: it is none of them, or has bits beyond its length.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, bytes):
            return cls(packed(value), 8 * len(value))
        try:
            network = ip_network(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{value!r} is not a prefix such as 10.0.0.0/8 ({error})") from None
        return cls(network.network_address.packed, network.prefixlen)

    def contains(self, address: bytes) -> bool:
        """Whether an address begins with the bits of the prefix."""
        if len(address) != len(self.address):
            return False
        rest = 8 * len(address) - self.length
        return int.from_bytes(address, "big") >> rest == int.from_bytes(self.address, "big") >> rest

    def __str__(self) -> str:
        return f"{format(self.address)}/{self.length}"


AnyPrefix: TypeAlias = Prefix | str | bytes | IPv4Address | IPv6Address | IPv4Network | IPv6Network
"""A prefix, or a value that `Prefix.of` makes one from."""


def packed(value: AnyAddress) -> bytes:
    """An address as bytes in network order.

    Raises:
        ValueError: it is no address, or has a zone.
    """
    if isinstance(value, bytes):
        if len(value) not in (4, 16):
            raise ValueError(f"{value!r} is not an address; give 4 or 16 bytes, or text such as 10.0.2.15")
        return value
    return parse(value) if isinstance(value, str) else value.packed


def parse(text: str) -> bytes:
    """Parse the text form of an address, without a zone.

    Raises:
        ValueError: it is not an address, or has a zone.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a zone; leave out the % and the rest")
    return ip_address(text).packed


def format(address: bytes) -> str:
    """The text form of 4 or 16 bytes (for IPv6: RFC 5952).

    Raises:
        ValueError: any other number of bytes.
    """
    return str(ip_address(address))


def format_zoned(address: bytes) -> str:
    """The text form of an address of the host's side, with its zone as a number if it has one."""
    plain, zone = split_zone(address)
    return f"{format(plain)}%{zone}" if zone else format(plain)


def format_any(address: bytes) -> str:
    """The text form of an Ethernet address (6 bytes) or of an IP address, with its zone if it has one."""
    return address.hex(":") if len(address) == 6 else format_zoned(address)


def with_zone(address: bytes, zone: int) -> bytes:
    """An address of the host's side, with a zone (an interface's index) if it is IPv6 link-local; else unchanged."""
    if len(address) == 4 or not is_link_local(address):
        return address
    return address[:4] + zone.to_bytes(4, "big") + address[8:]


def split_zone(address: bytes) -> tuple[bytes, int]:
    """An address of the host's side without its zone, and the zone, 0 for none."""
    if len(address) == 4 or not is_link_local(address):
        return address, 0
    return address[:4] + bytes(4) + address[8:], int.from_bytes(address[4:8], "big")


def is_multicast(address: bytes) -> bool:
    """Whether the address is in 224.0.0.0/4 or ff00::/8."""
    first = address[0]
    return first & 0xF0 == 0xE0 if len(address) == 4 else first == 0xFF


def is_loopback(address: bytes) -> bool:
    """Whether the address is in 127.0.0.0/8, or is ::1."""
    return address[0] == 127 if len(address) == 4 else address == LOOPBACK[16]


def is_unspecified(address: bytes) -> bool:
    """Whether the address is 0.0.0.0 or `::`."""
    return address == (_UNSPECIFIED4 if len(address) == 4 else _UNSPECIFIED6)


def is_link_local(address: bytes) -> bool:
    """Whether the address is in 169.254.0.0/16 or fe80::/10."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def is_broadcast(address: bytes) -> bool:
    """Whether the address is 255.255.255.255. A network's own broadcast address depends on its prefix length."""
    return address == _BROADCAST


def is_unicast(address: bytes) -> bool:
    """Whether the address is neither multicast nor 255.255.255.255 nor unspecified; loopback is unicast."""
    return not (is_multicast(address) or is_unspecified(address) or address == _BROADCAST)
