"""The host's addresses, routes and resolvers, on which a guest's network is modelled.

Theory of operation. For each IP family one interface is the model, the *uplink*: the interface of the first default
route in the main table, or else of the first route. The first of its addresses is the source address of packets on the
default route. That address may belong to another interface: hosts that use BGP have it on the loopback interface.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from types import NoneType
from typing import Any, Final, NamedTuple, Self, TypeAlias

from sansnet_core import addresses, fields
from sansnet_core.addresses import AnyAddress, AnyInterface, Prefix, packed_interface
from sansnet_core.errors import ConfigError, SansnetError, expect
from sansnet_core.fields import Addresses, OptionalAddress, Part, Prefixes, instance, optional, several
from sansnet_core.records import Converted, Record, field
from sansnet_trio.linux import files
from sansnet_trio.linux.rtnetlink import AddressMessage, Netlink, RouteMessage
from sansnet_trio.linux.syscalls import interface_index

__all__ = [
    "MIN_NETWORK",
    "RESOLV_CONF",
    "AnyInterfaceAddress",
    "HostError",
    "HostInfo",
    "InterfaceAddress",
    "InterfaceAddresses",
    "Resolvers",
    "Route",
    "Uplink",
    "interface_address",
    "parse_resolv_conf",
    "read_host",
    "read_resolvers",
]

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""IPv4-mapped addresses (RFC 4291, 2.5.5.2)."""

RESOLV_CONF: Final = "/etc/resolv.conf"

_LOOPBACK_INDEX: Final = 1
"""The loopback interface, the first one of every network namespace."""

# linux/rtnetlink.h
_RT_TABLE_MAIN: Final = 254
_RT_TABLE_LOCAL: Final = 255
_RTN_UNICAST: Final = 1
_RTN_LOCAL: Final = 2
_RTN_ANYCAST: Final = 4
_RTM_F_CLONED: Final = 0x200
_RTNH_F_DEAD: Final = 1
_RTNH_F_ONLINK: Final = 4
_RTNH_F_LINKDOWN: Final = 16
_RT_SCOPE_SITE: Final = 200

MIN_NETWORK: Final = 4
"""Bits; shorter prefixes are parts of a default route: 0.0.0.0/1, 2000::/3."""

# linux/if_addr.h
_IFA_F_TEMPORARY: Final = 0x01
_IFA_F_DEPRECATED: Final = 0x20
_IFA_F_TENTATIVE: Final = 0x40


_REMOTE_ADDRESSES: Final[dict[int, bytes]] = {
    socket.AF_INET: addresses.parse("198.41.0.4"),
    socket.AF_INET6: addresses.parse("2001:503:ba3e::2:30"),
}
"""Addresses of a root name server, to ask for the route to remote hosts. No packet is sent."""


class HostError(SansnetError):
    """The host cannot provide something that was requested; the message is a sentence that names it."""


class _InterfaceAddress(NamedTuple):
    address: bytes
    prefix_length: int


class InterfaceAddress(_InterfaceAddress):
    """An address of an interface, and the length of its network's prefix in bits.

    Args:
        address: in any form, with or without its prefix length; the attribute is 4 or 16 bytes in network order.
        prefix_length: None takes that of `address`.

    Raises:
        ConfigError: one of them is wrong or missing.
    """

    __slots__ = ()

    def __new__(cls, address: AnyInterface, prefix_length: int | None = None) -> Self:
        own, length = packed_interface(address)
        if prefix_length is None:
            prefix_length = length
        if (
            type(prefix_length) is not int
            or not 0 <= prefix_length <= 8 * len(own)
            or length not in (None, prefix_length)
        ):
            raise ConfigError(
                f"prefix_length: {prefix_length!r} is not between 0 and {8 * len(own)}; "
                f"give InterfaceAddress('{addresses.format(own)}/24')"
            )
        return super().__new__(cls, own, prefix_length)

    def _replace(self, **changes: Any) -> Self:
        return type(self)(**{"address": self.address, "prefix_length": self.prefix_length, **changes})

    __replace__ = _replace

    def __str__(self) -> str:
        return f"{addresses.format(self.address)}/{self.prefix_length}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


AnyInterfaceAddress: TypeAlias = AnyInterface | tuple[AnyAddress, int]
"""An `InterfaceAddress`, or text such as "192.0.2.1/24", an `ipaddress` interface, a pair of address and length."""

InterfaceAddresses: TypeAlias = Converted[Iterable[AnyInterfaceAddress], tuple[InterfaceAddress, ...]]


def interface_address(value: AnyInterfaceAddress) -> InterfaceAddress:
    """An address of an interface, for a field of a record."""
    return InterfaceAddress(*value) if isinstance(value, tuple) else InterfaceAddress(value)


class Route(Record):
    """A route through one interface, such as `Route(destination="0.0.0.0/0", gateway="10.0.2.2")`.

    Attributes:
        destination: 4 or 16 bytes. It may be given with its prefix length.
        prefix_length: 0 for a default route; may be left out if the destination has one.
        gateway: 4 or 16 bytes; None if destinations are on the link.
        metric: among routes to the same destination the kernel prefers the lowest; 0 means the kernel's default.
        on_link: whether the gateway is on the link although no other route leads to it (RTNH_F_ONLINK).
    """

    destination: Converted[AnyInterface | IPv4Network | IPv6Network, bytes] = field(fields.interface)
    prefix_length: Converted[int | None, int] = field(fields.prefix_length, default=None)
    gateway: OptionalAddress = field(optional(fields.address), default=None)
    metric: int = 0
    on_link: bool = False

    def __post_init__(self) -> None:
        fields.settle_prefix_length(self, "destination")

    def __replace__(self, /, **changes: Any) -> Self:
        return super().__replace__(**fields.without_old_length(changes, "destination"))


class Uplink(Record):
    """The configuration of one interface for one IP family.

    Attributes:
        interface: name of the interface.
        index: index of the interface.
        addresses: its addresses, at least one, with the source address of packets on the default route first.
        routes: its routes in the main table, in the kernel's order.
    """

    interface: str
    index: int = 0
    addresses: InterfaceAddresses = field(several(interface_address))
    routes: Converted[Iterable[Route], tuple[Route, ...]] = field(several(instance(Route)))

    @property
    def gateway(self) -> bytes | None:
        """The gateway of the first default route that has one."""
        return next((route.gateway for route in self.routes if not route.prefix_length and route.gateway), None)


class Resolvers(Record):
    """The contents of a resolv.conf (resolv.conf(5)).

    Attributes:
        nameservers: 4 or 16 bytes each, with the zone of a link-local one (`addresses.with_zone`).
        search: domains.
        options: the words of its `options` lines.
    """

    nameservers: Addresses = field(several(fields.host_address), default=())
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostInfo(Record):
    """The parts of a host's network that a guest's network is modelled on.

    Attributes:
        ipv4, ipv6: None if the host has no usable interface for the family.
        has_ipv6: whether the kernel supports IPv6.
        resolvers: contents of the host's resolv.conf.
        addresses: all addresses of the host, 4 or 16 bytes each, without zones.
        networks: the networks that its routes lead to, without default routes.
        local: networks and addresses whose packets it delivers to itself, beside those of loopback: its own addresses,
            the anycast addresses of routers (RFC 4291, 2.6.1), and other local routes (ip-route(8)).
        memory: bytes that the network of one guest may take; None if that is not known. `read_host` does not read it.
        reserved_ports: ports that the administrator reserved for services of the host. `read_host` does not read them.
    """

    ipv4: Part[Uplink | None] = field(optional(instance(Uplink)), default=None)
    ipv6: Part[Uplink | None] = field(optional(instance(Uplink)), default=None)
    has_ipv6: bool = True
    resolvers: Part[Resolvers] = field(instance(Resolvers), default=Resolvers())
    addresses: Addresses = field(several(fields.address), default=())
    networks: Prefixes = field(several(fields.prefix), default=())
    local: Prefixes = field(several(fields.prefix), default=())
    memory: int | None = None
    reserved_ports: Converted[Iterable[int], tuple[int, ...]] = field(several(fields.port), default=())


def read_host(
    interface: str | None = None, *, interface4: str | None = None, interface6: str | None = None
) -> HostInfo:
    """Read the calling thread's network namespace and /etc/resolv.conf.

    Blocks for a few milliseconds; the first call in a process also imports pyroute2.

    Args:
        interface: the uplink for both families; None chooses one for each family.
        interface4: the uplink for IPv4, if it differs.
        interface6: the uplink for IPv6, if it differs.

    Raises:
        HostError: there is no such interface.
    """
    for value in (interface, interface4, interface6):
        expect("interface", value, (str, NoneType), "the name of an interface, such as 'eth0'")
    names = dict(socket.if_nameindex())
    loopback = names.pop(_LOOPBACK_INDEX, None)
    with Netlink() as netlink:
        index4 = _interface_index(interface4 or interface, names, loopback)
        index6 = _interface_index(interface6 or interface, names, loopback)
        four, six = (_Tables(netlink, family) for family in (socket.AF_INET, socket.AF_INET6))
        return HostInfo(
            ipv4=_read_uplink(four, names, index4),
            ipv6=_read_uplink(six, names, index6),
            has_ipv6=os.path.exists("/proc/net/if_inet6"),
            resolvers=read_resolvers(),
            addresses=dict.fromkeys(_parse_address(message).address for message in four.addresses + six.addresses),
            networks=dict.fromkeys(_networks(four.routes + six.routes)),
            local=dict.fromkeys(_local(four.routes + six.routes)),
        )


def read_resolvers(path: str = RESOLV_CONF) -> Resolvers:
    """Read a resolv.conf. A missing or unreadable file counts as empty."""
    try:
        text = files.read(path)
    except OSError:
        text = ""
    return parse_resolv_conf(text)


def parse_resolv_conf(text: str) -> Resolvers:
    """Parse a resolv.conf as the C library does.

    The last of several `search` and `domain` lines counts. Without a `nameserver` line, the server is 127.0.0.1.
    """
    nameservers: list[bytes] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split() if not line[:1].isspace() else []
        match words:
            case ["nameserver", server, *_]:
                if (found := _parse_server(server)) is not None:
                    nameservers.append(found)
            case ["search" | "domain" as keyword, *domains]:
                search = tuple(domains if keyword == "search" else domains[:1])
            case ["options", *more]:
                options += more
    servers = tuple(nameservers) or (addresses.LOOPBACK[4],)
    return Resolvers(nameservers=servers, search=search, options=tuple(options))


def _parse_server(text: str) -> bytes | None:
    """Parse the address of a name server; None if it is invalid.

    An IPv4 address may have any form of inet_aton(3), a link-local IPv6 address the name or index of an interface. The
    unspecified address means this host; an IPv4-mapped address means the IPv4 address.
    """
    node, percent, zone = text.partition("%")
    try:
        if ":" not in node:
            packed = socket.inet_aton(text)
        else:
            packed = socket.inet_pton(socket.AF_INET6, node)
            if percent:
                packed = addresses.with_zone(packed, int(zone) if zone.isdecimal() else interface_index(zone))
    except (OSError, OverflowError, ValueError):  # ValueError: NUL, or not encodable
        return None
    if packed.startswith(_MAPPED) and len(packed) == 16:
        packed = packed[12:]
    return addresses.LOOPBACK[len(packed)] if addresses.is_unspecified(packed) else packed


def _interface_index(wanted: str | None, names: dict[int, str], loopback: str | None) -> int | None:
    """Index of the requested interface; None if none was requested."""
    if wanted is None:
        return None
    for index, name in names.items():
        if name == wanted:
            return index
    if wanted == loopback:
        raise HostError(f"{wanted!r} is a loopback interface, and a guest has its own; give another one")
    known = ", ".join(names.values()) or "none"
    raise HostError(f"the host has no interface {wanted!r}; it has these: {known}")


class _Tables:
    """The routes and addresses of one family, as messages of the kernel."""

    def __init__(self, netlink: Netlink, family: int) -> None:
        self.netlink = netlink
        self.family = family
        self.routes = netlink.routes(family)
        self.addresses = netlink.addresses(family)


def _networks(messages: Iterable[RouteMessage]) -> Iterator[Prefix]:
    """The networks that routes of all tables lead to. Some programs use two routes in place of a default route."""
    for message in messages:
        if message.prefix_length >= MIN_NETWORK and message.kind == _RTN_UNICAST:
            yield Prefix(message.destination, message.prefix_length)


def _local(messages: Iterable[RouteMessage]) -> Iterator[Prefix]:
    """The destinations of local routes. Those in tables beside the local one are for marked packets (as for TPROXY)."""
    for message in messages:
        is_local = message.table == _RT_TABLE_LOCAL and message.kind in (_RTN_LOCAL, _RTN_ANYCAST)
        if is_local and message.prefix_length and not addresses.is_loopback(message.destination):
            yield Prefix(message.destination, message.prefix_length)


def _read_uplink(tables: _Tables, names: dict[int, str], wanted: int | None) -> Uplink | None:
    netlink, family, messages, found = tables.netlink, tables.family, tables.routes, tables.addresses
    routes = [(index, route) for message in messages for index, route in _parse_route(message) if index in names]
    index = wanted if wanted is not None else _choose_interface(routes)
    if index is None:
        return None
    own = _usable_addresses(found, index)
    if any(through == index and not route.prefix_length for through, route in routes):
        address = _preferred_source(messages, index)
        if address is None and (family == socket.AF_INET or not own):  # for IPv6 the kernel may prefer a temporary one
            address = _source_for_remote(netlink, family, index)
        if (source := _with_prefix(address, found, index)) is not None:
            own = (source, *(other for other in own if other.address != source.address))
    if not own:
        return None
    return Uplink(
        interface=names[index],
        index=index,
        addresses=own,
        routes=tuple(route for through, route in routes if through == index),
    )


def _choose_interface(routes: list[tuple[int, Route]]) -> int | None:
    """The interface of the first default route, or else of the first route; None without routes."""
    default = (index for index, route in routes if not route.prefix_length)
    return next(default, next((index for index, _ in routes), None))


def _parse_route(message: RouteMessage) -> Iterator[tuple[int, Route]]:
    """Yield interface index and route, if a guest could have this route.

    A multipath route counts as its heaviest path. Routes to link-local networks, which each interface has anyway, and
    routes that depend on source or type of service are skipped.
    """
    if (
        message.table != _RT_TABLE_MAIN
        or message.kind != _RTN_UNICAST
        or message.flags & _RTM_F_CLONED
        or message.source_length
        or message.tos
        or (message.prefix_length and addresses.is_link_local(message.destination))
    ):
        return
    path = max(message.paths, key=lambda path: path.hops)
    if path.interface is None or path.flags & (_RTNH_F_DEAD | _RTNH_F_LINKDOWN):
        return
    yield (
        path.interface,
        Route(
            destination=message.destination,
            prefix_length=message.prefix_length,
            gateway=path.gateway,  # a guest cannot use a gateway of the other family (RTA_VIA)
            metric=message.metric,
            on_link=bool(path.flags & _RTNH_F_ONLINK),
        ),
    )


def _usable_addresses(messages: Iterable[AddressMessage], index: int) -> tuple[InterfaceAddress, ...]:
    """Addresses of an interface that other hosts can use, in the kernel's order; temporary ones (RFC 8981) last."""
    lasting: list[InterfaceAddress] = []
    temporary: list[InterfaceAddress] = []
    for message in messages:
        if (
            message.interface != index
            or message.scope > _RT_SCOPE_SITE
            or message.flags & (_IFA_F_DEPRECATED | _IFA_F_TENTATIVE)
        ):
            continue
        found = _parse_address(message)
        if addresses.is_link_local(found.address):
            continue
        kind = temporary if len(found.address) == 16 and message.flags & _IFA_F_TEMPORARY else lasting
        kind.append(found)
    return (*lasting, *temporary)


def _parse_address(message: AddressMessage) -> InterfaceAddress:
    # On a point-to-point interface the prefix belongs to the peer (rtnetlink(7))
    own = message.local == message.address
    return InterfaceAddress(message.local, message.prefix_length if own else 8 * len(message.local))


def _source_for_remote(netlink: Netlink, family: int, index: int) -> bytes | None:
    """The source address that the kernel chooses for remote hosts."""
    try:
        return netlink.route_to(_REMOTE_ADDRESSES[family], index).source
    except OSError:  # no route
        return None


def _with_prefix(address: bytes | None, messages: Iterable[AddressMessage], index: int) -> InterfaceAddress | None:
    """An address that other hosts can use, with the prefix that it has on the interface, or else as a single host."""
    if (
        address is None
        or addresses.is_link_local(address)
        or addresses.is_loopback(address)
        or addresses.is_unspecified(address)
    ):
        return None
    here = (_parse_address(message) for message in messages if message.interface == index)
    return next((own for own in here if own.address == address), InterfaceAddress(address, 8 * len(address)))


def _preferred_source(messages: Iterable[RouteMessage], index: int) -> bytes | None:
    """The preferred source of the first default route through an interface (`src` in ip-route(8))."""
    for message in messages:
        if not message.prefix_length and any(through == index for through, _ in _parse_route(message)):
            return message.source
    return None
