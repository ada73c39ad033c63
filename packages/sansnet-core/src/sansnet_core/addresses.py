"""IP addresses: their properties, and their text form. They are 4 or 16 bytes in network order.

An IPv6 link-local address is unique on one link only (RFC 4007). On the host's side it may carry the index of the
interface, its zone, in bytes 4 to 7, which are zero on the wire (RFC 4291, 2.5.6). Zone 0 is the host's link that
corresponds to the guest's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from sansnet_core.errors import ConfigError

__all__ = [
    "LOOPBACK",
    "UNSPECIFIED",
    "AnyAddress",
    "AnyInterface",
    "AnyMac",
    "AnyPrefix",
    "Endpoint",
    "Prefix",
    "checked_port",
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
    "packed_interface",
    "packed_mac",
    "parse",
    "split_zone",
    "with_zone",
]

LOOPBACK: Final = {4: bytes([127, 0, 0, 1]), 16: bytes(15) + b"\x01"}
"""The loopback address of each family, by its size."""

UNSPECIFIED: Final = {4: bytes(4), 16: bytes(16)}
"""The unspecified address of each family, by its size."""

_UNSPECIFIED4: Final = UNSPECIFIED[4]
_UNSPECIFIED6: Final = UNSPECIFIED[16]
_BROADCAST: Final = b"\xff" * 4


AnyAddress: TypeAlias = str | bytes | IPv4Address | IPv6Address
"""An IP address: text such as "192.0.2.1" or "2001:db8::1", an `ipaddress` object, or 4 or 16 bytes."""

AnyInterface: TypeAlias = AnyAddress | IPv4Interface | IPv6Interface
"""An address with or without the prefix length of its network, such as "192.0.2.1/24"."""

AnyPrefix: TypeAlias = AnyAddress | IPv4Network | IPv6Network | tuple[bytes, int]
"""A network: text such as "192.0.2.0/24", an `ipaddress` object, a `Prefix`; an address alone has its full length."""

AnyMac: TypeAlias = str | bytes
"""An Ethernet address: text such as "02:00:00:00:00:01", or 6 bytes."""

_ADDRESS_REMEDY: Final = "give text such as '192.0.2.1' or '2001:db8::1', an ipaddress object, or 4 or 16 bytes"
_PREFIX_REMEDY: Final = "give text such as '192.0.2.0/24', or an ipaddress network"
_MAC_REMEDY: Final = "give text such as '02:00:00:00:00:01', or 6 bytes"


def packed(address: AnyAddress, *, zone: bool = False) -> bytes:
    """The bytes of an address in any form: 4 or 16, in network order.

    Args:
        address: text, an `ipaddress` object, or the bytes.
        zone: whether a link-local IPv6 address may have a zone, which must be a number: the index of an interface.

    Raises:
        ConfigError: it is not an address, or has a zone.
    """
    if isinstance(address, bytes):
        if len(address) in (4, 16):
            return address
        raise ConfigError(
            f"{address!r:.100} has {len(address)} bytes, but an IP address has 4 or 16; {_ADDRESS_REMEDY}"
        )
    if isinstance(address, IPv4Interface | IPv6Interface):
        raise ConfigError(f"{address!r:.100} has a prefix length, which does not belong here; give its attribute ip")
    if isinstance(address, str):
        text = address
        try:
            address = ip_address(text)
        except ValueError:
            if "/" in text:
                raise ConfigError(
                    f"{text!r:.100} has a prefix length, which does not belong here; leave it out"
                ) from None
            raise ConfigError(f"{text!r:.100} is not an IP address; {_ADDRESS_REMEDY}") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        index = address.scope_id
        if not zone:
            raise ConfigError(f"'{address}' has a zone, which does not belong here; leave out the % and the rest")
        if not (index.isascii() and index.isdigit() and int(index) < 1 << 32 and is_link_local(address.packed)):
            raise ConfigError(f"'{address}' has a zone that is not the number of an interface; see if_nametoindex()")
        return with_zone(address.packed, int(index))
    if isinstance(address, IPv4Address | IPv6Address):
        return address.packed
    raise ConfigError(f"{address!r:.100} is not an IP address; {_ADDRESS_REMEDY}")


def packed_interface(address: AnyInterface) -> tuple[bytes, int | None]:
    """The bytes of an address, and the prefix length that was given with it, None if there was none.

    Raises:
        ConfigError: it is not an address, or the prefix length is too large.
    """
    if isinstance(address, str) and "/" in address:
        text = address
        try:
            address = ip_interface(text)
        except ValueError:
            raise ConfigError(f"{text!r:.100} is not an address with a prefix length such as '192.0.2.1/24'") from None
    if isinstance(address, IPv4Interface | IPv6Interface):
        return packed(address.ip), address.network.prefixlen
    return packed(address), None


def packed_mac(address: AnyMac) -> bytes:
    """The 6 bytes of an Ethernet address.

    Raises:
        ConfigError: it is not an Ethernet address.
    """
    if isinstance(address, bytes):
        if len(address) == 6:
            return address
        raise ConfigError(f"{address!r:.100} has {len(address)} bytes, but an Ethernet address has 6; {_MAC_REMEDY}")
    if isinstance(address, str):
        parts = address.replace("-", ":").split(":")
        try:
            found = bytes(int(part, 16) for part in parts if part.isascii() and part.isalnum() and len(part) <= 2)
        except ValueError:
            found = b""
        if len(parts) == len(found) == 6:
            return found
    raise ConfigError(f"{address!r:.100} is not an Ethernet address; {_MAC_REMEDY}")


def checked_port(port: int, *, first: int = 0) -> int:
    """A port, unchanged.

    Args:
        port: the port.
        first: the lowest one that is possible: 0, or 1 where a port must be named.

    Raises:
        ConfigError: it is not an integer between `first` and 65535.
    """
    if not isinstance(port, int) or isinstance(port, bool):
        raise ConfigError(f"{port!r:.100} is not a port; give an integer between {first} and 65535")
    if not first <= port <= 65535:
        raise ConfigError(f"{port} is not a port; give an integer between {first} and 65535")
    return int(port)


class _Endpoint(NamedTuple):
    address: bytes
    port: int


class Endpoint(_Endpoint):
    """An address and a port, equal to a tuple of both.

    `Endpoint._make((address, port))` makes one from bytes and an integer that are known to be right, without a check.

    Args:
        address: in any form; a link-local IPv6 address of the host's side may have the index of an interface, such as
            "fe80::1%2". The attribute is 4 or 16 bytes in network order.
        port: 0 to 65535.

    Raises:
        ConfigError: the address or the port is wrong.
    """

    __slots__ = ()

    def __new__(cls, address: AnyAddress, port: int) -> Self:
        if type(address) is not bytes or len(address) not in (4, 16):
            address = packed(address, zone=True)
        if type(port) is not int or not 0 <= port <= 65535:
            port = checked_port(port)
        return tuple.__new__(cls, (address, port))

    if not TYPE_CHECKING:  # that of NamedTuple is written in Python, and takes twice as long
        _make = classmethod(tuple.__new__)

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{"address": self.address, "port": self.port, **changes})

    __replace__ = _replace

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), tuple(self))

    def __str__(self) -> str:
        text = format_any(self.address)
        return f"[{text}]:{self.port}" if len(self.address) == 16 else f"{text}:{self.port}"

    def __repr__(self) -> str:
        """Never raises: errors show endpoints that were made without a check."""
        shown = (
            format_any(self.address) if type(self.address) is bytes and len(self.address) in (4, 16) else self.address
        )
        return f"{type(self).__name__}({shown!r}, {self.port!r})"


class _Prefix(NamedTuple):
    address: bytes
    length: int


class Prefix(_Prefix):
    """A network: its first address, and the length of its prefix in bits; equal to a tuple of both.

    Args:
        address: text such as "192.0.2.0/24", an `ipaddress` network, an address in any form, or another `Prefix`. The
            attribute is 4 or 16 bytes in network order.
        length: length of the prefix in bits; None takes that of `address`, or the full length of an address.

    Raises:
        ConfigError: the address or the length is wrong, or the address has bits beyond the length.
    """

    __slots__ = ()

    def __new__(cls, address: AnyPrefix, length: int | None = None) -> Self:
        given = f"{address!r:.100}" if length is None else f"{address!r:.100}, {length!r}"
        own: int | None
        if isinstance(address, tuple):
            first, own = _pair(address)
        elif isinstance(address, IPv4Network | IPv6Network):
            first, own = packed(address.network_address), address.prefixlen
        else:
            try:
                first, own = packed_interface(address)
            except ConfigError:
                raise ConfigError(f"{given} is not a network; {_PREFIX_REMEDY}") from None
        if length is None:
            length = 8 * len(first) if own is None else own
        elif own is not None and own != length:
            raise ConfigError(f"{given}: the lengths contradict each other; give one of them")
        if type(length) is not int or not 0 <= length <= 8 * len(first):
            raise ConfigError(f"{given}: the length is not between 0 and {8 * len(first)}; {_PREFIX_REMEDY}")
        network = _masked(first, length)
        if network != first:
            raise ConfigError(f"{given} has bits beyond its length; give '{format(network)}/{length}'")
        return tuple.__new__(cls, (first, length))

    if not TYPE_CHECKING:
        _make = classmethod(tuple.__new__)

    @classmethod
    def of(cls, value: AnyPrefix) -> Self:
        """The same as `Prefix(value)`."""
        return cls(value)

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{"address": self.address, "length": self.length, **changes})

    __replace__ = _replace

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), tuple(self))

    def contains(self, address: AnyAddress) -> bool:
        """Whether an address is in this network. One of the other family is not.

        Raises:
            ConfigError: it is not an address.
        """
        where = address if type(address) is bytes else packed(address, zone=True)
        return len(where) == len(self.address) and _masked(where, self.length) == self.address

    def __str__(self) -> str:
        return f"{format(self.address)}/{self.length}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def _restore(cls: type[Any], fields: Iterable[object]) -> object:
    """Make a copy of a tuple with names. There is no check, since a packet that was dropped may have any port."""
    return cls._make(fields)


def _pair(given: tuple[object, ...]) -> tuple[bytes, int]:
    match given:
        case (bytes() as address, int() as length) if len(address) in (4, 16):
            return address, length
    raise ConfigError(f"{given!r:.100} is not a network; {_PREFIX_REMEDY}")


def _masked(address: bytes, length: int) -> bytes:
    """An address without the bits beyond a length."""
    beyond = 8 * len(address) - length
    return (int.from_bytes(address, "big") >> beyond << beyond).to_bytes(len(address), "big")


def parse(text: str) -> bytes:
    """Parse the text form of an address, without a zone.

    Raises:
        ValueError: it is not an address, or has a zone.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r:.100} is not the text of an address, such as '192.0.2.1'")
    if "%" in text:
        raise ValueError(f"{text!r:.100} has a zone; leave out the % and the rest")
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
