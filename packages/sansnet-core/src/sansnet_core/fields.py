"""The types of fields that hold addresses, networks and ports, and their converters, for `records.field`.

Each takes all forms that `addresses` names (`AnyAddress`, `AnyMac`, `AnyPrefix`), and reads as bytes, an `Endpoint` or
a `Prefix`. An error names the value and the remedy; the record adds the name of the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, TypeAlias, TypeVar

from sansnet_core.addresses import (
    AnyAddress,
    AnyInterface,
    AnyMac,
    AnyPrefix,
    Endpoint,
    Prefix,
    checked_port,
    format,
    packed,
    packed_interface,
    packed_mac,
)
from sansnet_core.records import Converted, Converter, Record

__all__ = [
    "Address",
    "Addresses",
    "AnyEndpoint",
    "Endpoints",
    "Mac",
    "OptionalAddress",
    "OptionalAddresses",
    "OptionalEndpoint",
    "OptionalMac",
    "Part",
    "Port",
    "Prefixes",
    "address",
    "address4",
    "address6",
    "any_endpoint",
    "endpoint",
    "host_address",
    "host_address6",
    "instance",
    "interface",
    "mac",
    "one_per_family",
    "optional",
    "port",
    "prefix",
    "prefix_length",
    "settle_prefix_length",
    "several",
    "without_old_length",
]

T = TypeVar("T")

AnyEndpoint: TypeAlias = tuple[AnyAddress, int]
"""An `Endpoint`, or a pair of an address in any form and a port."""

Address: TypeAlias = Converted[AnyAddress, bytes]
OptionalAddress: TypeAlias = Converted[AnyAddress | None, bytes | None]
Addresses: TypeAlias = Converted[Iterable[AnyAddress], tuple[bytes, ...]]
OptionalAddresses: TypeAlias = Converted[Iterable[AnyAddress] | None, tuple[bytes, ...] | None]
Mac: TypeAlias = Converted[AnyMac, bytes]
OptionalMac: TypeAlias = Converted[AnyMac | None, bytes | None]
Port: TypeAlias = Converted[int, int]
OptionalEndpoint: TypeAlias = Converted[AnyEndpoint | None, Endpoint | None]
Endpoints: TypeAlias = Converted[Iterable[AnyEndpoint], tuple[Endpoint, ...]]
Prefixes: TypeAlias = Converted[Iterable[AnyPrefix], tuple[Prefix, ...]]


Part: TypeAlias = Converted[T, T]
"""A record, or another value, that is kept as it is."""


def instance(kind: type[T]) -> Converter[T]:
    """A converter of values of one class, such as a record."""

    def check(value: T) -> T:
        if not isinstance(value, kind):
            raise ValueError(f"{value!r:.100} is not a value of its type; give {kind.__name__}")
        return value

    return check


def address(value: AnyAddress) -> bytes:
    """An address of either family."""
    return packed(value)


def host_address(value: AnyAddress) -> bytes:
    """An address of the host's side, which may have a zone."""
    return packed(value, zone=True)


def address4(value: AnyAddress) -> bytes:
    """An IPv4 address."""
    found = packed(value)
    if len(found) != 4:
        raise ValueError(f"{value!r:.100} is not an IPv4 address; give one such as '192.0.2.1'")
    return found


def address6(value: AnyAddress) -> bytes:
    """An IPv6 address."""
    found = packed(value)
    if len(found) != 16:
        raise ValueError(f"{value!r:.100} is not an IPv6 address; give one such as '2001:db8::1'")
    return found


def host_address6(value: AnyAddress) -> bytes:
    """An IPv6 address of the host's side, which may have a zone."""
    return address6(host_address(value))


def mac(value: AnyMac) -> bytes:
    """An Ethernet address of one interface."""
    found = packed_mac(value)
    if found[0] & 1:
        raise ValueError(
            f"{value!r:.100} is the Ethernet address of a group; give that of an interface, with an even first byte"
        )
    return found


def port(value: int) -> int:
    """A port from 1 to 65535."""
    return checked_port(value, first=1)


def any_endpoint(value: AnyEndpoint) -> Endpoint:
    """An address and a port, which may be 0."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{value!r:.100} is not an endpoint; give Endpoint(address, port)")
    return Endpoint(*value)


def endpoint(value: AnyEndpoint) -> Endpoint:
    """An address and a port from 1 to 65535."""
    made = any_endpoint(value)
    checked_port(made.port, first=1)
    return made


def prefix(value: AnyPrefix) -> Prefix:
    """A network."""
    return Prefix(value)


def optional(convert: Converter[T]) -> Converter[T | None]:
    """A converter that lets None pass."""
    return lambda value: None if value is None else convert(value)


_SINGLE: Final = (str, bytes, Endpoint, Prefix, IPv4Network, IPv6Network)
"""Iterables that are one value; a network iterates over all its addresses."""


def several(convert: Converter[T]) -> Converter[tuple[T, ...]]:
    """A converter of a tuple or another iterable of values."""

    def convert_all(values: Any) -> tuple[T, ...]:
        if isinstance(values, _SINGLE) or not isinstance(values, Iterable):
            raise ValueError(f"{values!r:.100} is one value in place of several; write ({values!r:.100},)")
        return tuple(convert(value) for value in values)

    return convert_all


def prefix_length(value: int | None) -> Any:
    """A prefix length, or None if the address of the record has one; see `settle_prefix_length`."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 128):
        raise ValueError(f"{value!r:.100} is not between 0 and 32, or 128 for IPv6")
    return value


def interface(value: AnyInterface | IPv4Network | IPv6Network) -> Any:
    """An address and its prefix length, if it has one; see `settle_prefix_length`."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value.network_address.packed, value.prefixlen
    return packed_interface(value)


def settle_prefix_length(record: Record, name: str) -> None:
    """Part an address and its prefix length, which may be given with the address or as `prefix_length`.

    Args:
        record: has a field `prefix_length` with the converter of that name; called in its `__post_init__`.
        name: the field of the address, with the converter `interface`.

    Raises:
        ValueError: the prefix length is missing, given twice, or too large for the family.
    """
    values = vars(record)
    (own, length), given = values[name], values["prefix_length"]
    if length is None:
        if given is None:
            raise ValueError(f"prefix_length: it is missing; give {name}='{format(own)}/24' or prefix_length=24")
        if given > 8 * len(own):
            raise ValueError(f"prefix_length: {given} is not between 0 and {8 * len(own)}")
        length = given
    elif given not in (None, length):
        raise ValueError(f"prefix_length: {given} contradicts {name}, which has {length}; give one of them")
    values[name], values["prefix_length"] = own, length


def without_old_length(changes: dict[str, Any], name: str) -> dict[str, Any]:
    """Changes of such a record; a new address with its prefix length replaces the old one."""
    if name in changes and "prefix_length" not in changes and interface(changes[name])[1] is not None:
        return {**changes, "prefix_length": None}
    return changes


def one_per_family(values: Iterable[AnyAddress]) -> tuple[bytes, ...]:
    """Addresses, at most one of each family."""
    found = several(address)(values)
    if len({len(each) for each in found}) != len(found):
        raise ValueError("there are two addresses of one family; give at most one of each")
    return found
