"""The options for a guest's network, as records. `setup` makes a plan from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from sansnet_core import fields
from sansnet_core.addresses import AnyAddress, AnyInterface, Prefix, packed_interface
from sansnet_core.config import GATEWAY_MAC, MIN_MEMORY, Limits, UdpFiltering
from sansnet_core.errors import SansnetError
from sansnet_core.fields import (
    Addresses,
    Endpoints,
    Mac,
    OptionalAddresses,
    OptionalMac,
    Part,
    Prefixes,
    instance,
    optional,
    several,
)
from sansnet_core.policy import Action, NameMode, Policy, Rule
from sansnet_core.records import Converted, Record, field

if TYPE_CHECKING:
    from sansnet_core.impairment import Impairment

__all__ = ["DNS_PORT", "NamespaceOptions", "NetworkOptions", "OptionsError", "impairment"]

DNS_PORT: Final = 53
"""RFC 1035."""


class OptionsError(SansnetError):
    """The options do not fit each other. The message is a sentence that names a field; see `NetworkOptions.word`."""


_MADE_UP: Final = ("10.0.2.15/24", "fd00::15/64")
"""The guest's addresses of `NetworkOptions.made_up`."""


_IMPAIRED_MTU: Final = 1500
"""Bytes: Ethernet's MTU."""

OwnAddress: TypeAlias = tuple[bytes, int | None]
"""An address of the guest, 4 or 16 bytes, and its prefix length; None if none was given."""


def impairment(value: Impairment) -> Impairment:
    """Check that a value is an `Impairment`; its module is loaded if there is one."""
    from sansnet_core.impairment import Impairment

    return instance(Impairment)(value)


def _families(value: Iterable[int]) -> frozenset[int]:
    found = frozenset(several(int)(value))
    if not found or not found <= {4, 6}:
        raise ValueError(f"{value!r} is not a set of families; give {{4, 6}}, {{4}} or {{6}}")
    return found


def _own_address(value: AnyInterface | tuple[AnyAddress, int | None]) -> OwnAddress:
    if not isinstance(value, tuple):
        return packed_interface(value)
    address, length = fields.address(value[0]), value[1]
    if length is not None and (type(length) is not int or not 0 < length <= 8 * len(address)):
        raise ValueError(f"{length!r} is not a prefix length between 1 and {8 * len(address)}")
    return address, length


def _hosts_entry(value: tuple[str, AnyAddress | None]) -> tuple[str, bytes | None]:
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError(f"{value!r} is not a pair of a name and its address")
    return value[0], optional(fields.address)(value[1])


def _network(address: bytes, length: int) -> Prefix:
    bits = 8 * len(address)
    first = int.from_bytes(address, "big") >> (bits - length) << (bits - length)
    return Prefix(first.to_bytes(len(address), "big"), length)


def _place(network: Prefix, numbers: Iterable[int], used: Collection[bytes]) -> bytes | None:
    """The first address of a network, among those with some numbers, that a node may have and none has."""
    size = 1 << (8 * len(network.address) - network.length)
    first = int.from_bytes(network.address, "big")
    places = ((first + number).to_bytes(len(network.address), "big") for number in numbers if number < size - 1)
    return next((place for place in places if place not in used), None)


def _apart_from(prefix: Prefix, addresses: Collection[bytes]) -> list[Prefix]:
    """Prefixes for all addresses of a prefix but some."""
    if not any(map(prefix.contains, addresses)):
        return [prefix]
    bits = 8 * len(prefix.address)
    if prefix.length == bits:
        return []
    upper = int.from_bytes(prefix.address, "big") | 1 << (bits - prefix.length - 1)
    halves = (prefix.address, upper.to_bytes(len(prefix.address), "big"))
    return [part for half in halves for part in _apart_from(Prefix(half, prefix.length + 1), addresses)]


class NetworkOptions(Record, error=OptionsError, frozen=False):
    """The options of every guest's network. Where a field is None or empty, the host decides.

    Attributes:
        families: 4 and 6, or one of them.
        own: addresses of the guest, at most one of each family, such as "10.0.2.15/24"; each reads as a pair of address
            and prefix length, which is None if none was given.
        netmask: prefix length for an IPv4 address without one.
        gateways: the guest's gateways, at most one of each family; they are our own addresses.
        outbound: the host's addresses that outgoing traffic comes from, at most one of each family.
        map_host_loopback: addresses by which the guest reaches the host's loopback, at most one of each family.
        map_guest_address: addresses by which the guest reaches the host at the address that both have, at most one of
            each family.
        dns_forward: addresses whose DNS ports lead to a name server of the host, at most one of each family.
        dns_host: that name server, at most one of each family, such as ("192.0.2.53", 53); without it, the first one
            of the host.
        hosts: pairs (name in lower case, address) for the guest; None is the address by which it reaches the host.
        mtu: in bytes; None is the default of the link, or 1500 with an impairment, which concerns whole frames.
        interface: the interface of the host whose addresses and routes are copied; None is that of `outbound_if4` and
            `outbound_if6`.
        outbound_if4, outbound_if6: the only interface of the host that outgoing traffic uses.
        dns: name servers; None if none were given, empty for no name server.
        search: search domains; None and empty as with `dns`.
        hostname, fqdn: the guest's host name, and its full name with the domain.
        tcp, udp, icmp: whether the guest may use these protocols.
        udp_filtering: whose datagrams the guest's UDP sockets receive.
        dhcp, dhcp6, ndp: whether these services answer the guest.
        notices: whether the network reports flows, leases and refused flows (`NetworkConfig.notices`).
        copy_routes: whether the guest has all routes of the host, or the default route only.
        copy_addresses: whether the guest has all addresses of the host's interface, or one of each family.
        gateway_mac: our own Ethernet address, 6 bytes.
        map_gateway: whether the gateway leads to the host's loopback too, in each family without `map_host_loopback`.
        advertise_mtu, advertise_router: whether DHCP and router advertisements announce the MTU and the router.
        virtual, rules, default_action, translators: see `NetworkConfig`.
        memory: bytes that the guest's network may take, approximately, at least 8 MiB. None is 1 GiB, or less if the
            host, the control group (cgroups(7)) or the limits of this process allow less.
        limits: bounds on memory and time, which `memory` lowers; see `Limits.within`.
        keep_udp_ports: whether the host's UDP sockets may have the source ports of the guest even if those belong to
            services that the host may run; see `NetworkConfig.reserved_udp_ports`.
        policy: its rules are asked before `rules`, its default action counts without `default_action`, and its proxies
            can be named by `Rule.via`.
        names: how the guest sees the addresses of names; None is as `policy` says, or `NameMode.OWN`.
        resolver: whether our own resolver answers the guest's questions for names, and asks the name servers that the
            guest would have asked; None means only if rules have names.
        impair_up, impair_down: the delay, rate and faults of frames from the guest, and to it. `GuestNetwork.impair`
            changes them.
        impair_seed: the beginning of the random faults; None takes a random one.
        lenient: leave out settings that are not possible, instead of raising an error.
    """

    families: Converted[Iterable[int], frozenset[int]] = field(_families, default=(4, 6))
    own: Converted[Iterable[AnyInterface | tuple[AnyAddress, int | None]], tuple[OwnAddress, ...]] = field(
        several(_own_address), default=()
    )
    netmask: int | None = None
    gateways: Addresses = field(fields.one_per_family, default=())
    mtu: int | None = None
    interface: str | None = None
    outbound: Addresses = field(several(fields.host_address), default=())
    outbound_if4: str | None = None
    outbound_if6: str | None = None
    map_host_loopback: Addresses = field(fields.one_per_family, default=())
    map_guest_address: Addresses = field(fields.one_per_family, default=())
    dns_forward: Addresses = field(fields.one_per_family, default=())
    dns_host: Endpoints = field(several(fields.endpoint), default=())
    hosts: Converted[Iterable[tuple[str, AnyAddress | None]], tuple[tuple[str, bytes | None], ...]] = field(
        several(_hosts_entry), default=()
    )
    dns: OptionalAddresses = field(optional(several(fields.host_address)), default=None)
    search: tuple[str, ...] | None = None
    hostname: str | None = None
    fqdn: str | None = None
    tcp: bool = True
    udp: bool = True
    icmp: bool = True
    udp_filtering: Part[UdpFiltering] = field(instance(UdpFiltering), default=UdpFiltering.ENDPOINT_INDEPENDENT)
    dhcp: bool = True
    dhcp6: bool = True
    ndp: bool = True
    notices: bool = False
    copy_routes: bool = True
    copy_addresses: bool = True
    gateway_mac: Mac = field(fields.mac, default=GATEWAY_MAC)
    map_gateway: bool = False
    advertise_mtu: bool = True
    advertise_router: bool = True
    virtual: Prefixes = field(several(fields.prefix), default=())
    rules: Converted[Iterable[Rule], tuple[Rule, ...]] = field(several(instance(Rule)), default=())
    default_action: Part[Action | None] = field(optional(instance(Action)), default=None)
    translators: Prefixes = field(several(fields.prefix), default=())
    memory: int | None = None
    limits: Part[Limits] = field(instance(Limits), default=Limits())
    keep_udp_ports: bool = False
    policy: Part[Policy | None] = field(optional(instance(Policy)), default=None)
    names: Part[NameMode | None] = field(optional(instance(NameMode)), default=None)
    resolver: bool | None = None
    impair_up: Part[Impairment | None] = field(optional(impairment), default=None)
    impair_down: Part[Impairment | None] = field(optional(impairment), default=None)
    impair_seed: int | None = None
    lenient: bool = False

    def __post_init__(self) -> None:
        for name, sizes in (
            ("own", [len(address) for address, _ in self.own]),
            ("outbound", [len(address) for address in self.outbound]),
            ("dns_host", [len(server.address) for server in self.dns_host]),
        ):
            if len(set(sizes)) != len(sizes):
                raise ValueError(f"{name}: there are two addresses of one family; give at most one of each")
        if self.netmask is not None and not 0 < self.netmask <= 32:
            raise ValueError(f"netmask: {self.netmask} is not a prefix length between 1 and 32")
        if self.memory is not None and self.memory < MIN_MEMORY:
            raise ValueError(f"memory: {self.memory} bytes are too few; give {MIN_MEMORY} or more")
        if self.mtu is None and (self.impair_up is not None or self.impair_down is not None):
            vars(self)["mtu"] = _IMPAIRED_MTU

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules of the policy, and those of `rules`."""
        return (*(self.policy.rules if self.policy is not None else ()), *self.rules)

    def limits_on(self, memory: int | None) -> Limits:
        """The limits of a guest's network on a host.

        Args:
            memory: bytes that the host allows it; see `HostInfo`.
        """
        memory = memory if self.memory is None else self.memory
        return self.limits if memory is None else self.limits.within(memory)

    def word(self, field: str, argument: object = None) -> str:
        """A field in a message for the user. The options of a command override it with the words of its command line.

        Args:
            field: its name.
            argument: its value, or a word for one; None for the field alone.
        """
        return field if argument is None else f"{field} {argument}"

    @classmethod
    def made_up(cls, **changes: Any) -> Self:
        """Options for a guest with made-up addresses, which do not depend on the host.

        The guest is 10.0.2.15/24 and fd00::15/64, its gateway 10.0.2.2 and fd00::2. Its name server is 10.0.2.3, which
        leads to the host's first one. The other addresses of these prefixes exist in this program only (`virtual`),
        unless other fields make them lead to the host.

        With `own` the guest has other addresses, and only their families. Then the gateways (number 2), the name server
        (number 3) and the virtual prefixes are those of its networks. With `dns` no address leads to the host's name
        server, unless it is in `dns_forward`.

        Args:
            changes: other fields, or other values for those.
        """
        asked = cls(**changes)
        own = asked.own or tuple(map(_own_address, _MADE_UP))
        if "families" in changes:
            own = tuple(each for each in own if (4 if len(each[0]) == 4 else 6) in asked.families)
        lengths = [asked.netmask if length is None and len(address) == 4 else length for address, length in own]
        networks = [_network(address, length) for (address, _), length in zip(own, lengths, strict=True) if length]
        used = [address for address, _ in own] + [*asked.gateways]
        gateways, servers = [*asked.gateways], list[bytes]()
        for network in networks:
            if not any(len(gateway) == len(network.address) for gateway in gateways):
                gateways += filter(None, [_place(network, (2, 1, 3), used)])
            servers += filter(None, [_place(network, (3, 4, 1), used + gateways)])
        made: dict[str, Any] = {
            "families": {4 if len(address) == 4 else 6 for address, _ in own},
            "dns": servers[:1],
            "dns_forward": servers[:1] if asked.dns is None else (),
            "search": (),
            "lenient": True,  # since the host may lack IPv6 or a name server
            **changes,
            "own": own,
            "gateways": gateways,
        }
        named = [made.get(name, ()) for name in ("dns_forward", "map_host_loopback", "map_guest_address")]
        mapped = {fields.address(address) for addresses in named for address in addresses}
        made.setdefault("virtual", [part for network in networks for part in _apart_from(network, mapped)])
        return cls(**made)


class NamespaceOptions(NetworkOptions, frozen=False):
    """The options of a guest in a network namespace.

    Attributes:
        ifname: name of the guest's interface; None is that of the host's interface.
        mac: Ethernet address of the guest's interface, 6 bytes; None lets the kernel choose one.
        configure: whether we configure the interface, or the guest does.

    The other fields are those of `NetworkOptions`.
    """

    ifname: str | None = None
    mac: OptionalMac = field(optional(fields.mac), default=None)
    configure: bool = True

    @classmethod
    def made_up(cls, **changes: Any) -> Self:
        """See `NetworkOptions.made_up`; the guest's interface is eth0."""
        return super().made_up(**{"ifname": "eth0", **changes})
