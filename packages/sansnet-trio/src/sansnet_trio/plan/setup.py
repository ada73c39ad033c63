"""Makes a guest's `GuestPlan` and `NetworkConfig` from the options and the host's network. Pure.

`make_plan` is for a guest in a network namespace, which we configure; `make_setup` is for a guest that configures
itself by DHCP and the like, as a virtual machine does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sansnet_core import addresses, fields
from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.config import IPV6_MIN_MTU, Ipv4Config, Ipv6Config, NetworkConfig, ResolverConfig
from sansnet_core.errors import expect
from sansnet_core.fields import Address, Addresses, Part, instance, optional, several
from sansnet_core.records import Record, field, replace
from sansnet_trio.guest.hosts_file import HostsEntry
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import (
    HostError,
    HostInfo,
    InterfaceAddress,
    InterfaceAddresses,
    Route,
    Uplink,
    interface_address,
)
from sansnet_trio.links import tap
from sansnet_trio.plan import name_servers
from sansnet_trio.plan.host_names import by_address, host_addresses, known_hosts, warn_unanswered
from sansnet_trio.plan.name_servers import GuestLink, NameServers
from sansnet_trio.plan.options import NamespaceOptions, NetworkOptions, OptionsError, impairment
from sansnet_trio.plan.resolver import has_resolver, resolver_config, routes_to_names, used_networks

if TYPE_CHECKING:
    from sansnet_core.impairment import Impairment

__all__ = ["Setup", "keeping_names", "make_plan", "make_setup", "remembering"]

# The guest's network if the host has none (RFC 3927, RFC 4291): the same addresses as with pasta
FALLBACK_ADDRESS4: Final = InterfaceAddress(bytes([169, 254, 2, 1]), 16)
FALLBACK_GATEWAY4: Final = bytes([169, 254, 2, 2])
FALLBACK_GATEWAY6: Final = bytes.fromhex("fe800000000000000000000000000001")
FALLBACK_INTERFACE: Final = "tap0"

_OWN_NAME: Final = bytes([127, 0, 1, 1])
"""Address of the guest's own name if the guest has no lasting address, as in Debian's /etc/hosts."""

_LEASE_TIME: Final = 3600
"""Seconds. A guest that configures itself asks again after half of it, and so learns of changes of the host."""

_SIZES: Final = {4: 4, 6: 16}
"""Bytes of an address, by family."""


class Setup(Record):
    """The configuration of a guest's network, and the data that it was made from.

    Attributes:
        config: the configuration of the network. Its `link` is the default one; when the link exists, set it by
            `sansnet_core.records.replace(setup.config, link=...)`.
        interface: the host's interface for link-local addresses, if there is one.
        outbound_if4, outbound_if6: the only interfaces for outgoing traffic, if the options name them.
        warnings: sentences for the user.
        addresses, gateways: addresses and gateways of the guest's interface; empty if the guest configures itself.
        names: the guest's name servers.
        host: the host's network from which the setup was made.
        plan: the plan of the guest's interface and files, if the guest is in a namespace.
        resolver: that of the configuration; if there is none, the one that the guest gets when rules have names later.
            None if that is not possible.
        impair_up, impair_down, impair_seed: see `NetworkOptions`.
    """

    config: Part[NetworkConfig] = field(instance(NetworkConfig))
    interface: str | None
    warnings: tuple[str, ...]
    outbound_if4: str | None = None
    outbound_if6: str | None = None
    addresses: InterfaceAddresses = field(several(interface_address), default=())
    gateways: Addresses = field(several(fields.address), default=())
    names: NameServers = NameServers()
    host: HostInfo = HostInfo()
    plan: GuestPlan | None = None
    resolver: Part[ResolverConfig | None] = field(optional(instance(ResolverConfig)), default=None)
    impair_up: Part[Impairment | None] = field(optional(impairment), default=None)
    impair_down: Part[Impairment | None] = field(optional(impairment), default=None)
    impair_seed: int | None = None

    @property
    def own(self) -> tuple[bytes, ...]:
        """The guest's addresses, 4 or 16 bytes each, also if it configures itself."""
        four, six = self.config.ipv4, self.config.ipv6
        configured = (four.address if four else None, six.address if six else None)
        return tuple(own.address for own in self.addresses) or tuple(filter(None, configured))


class _Family(Record):
    """One address family of the guest's network. `gateway` is our own address in it."""

    addresses: InterfaceAddresses = field(several(interface_address))
    routes: tuple[Route, ...]
    gateway: Address = field(fields.address)


def make_plan(options: NamespaceOptions, host: HostInfo) -> tuple[GuestPlan, Setup]:
    """Make the plan and the setup of a guest in a network namespace.

    Args:
        options: the guest's options.
        host: the host's network, from `read_host_for` with the same options.

    Returns:
        The plan of its interface and files, and the setup of its network, which has the same plan. So a `prepare` of
        `CommandGuest.fork` may return the result as it is; then `ReadyGuest.prepared` is the setup.

    Raises:
        HostError: the options do not fit the host.
        ConfigError, OptionsError: the options do not fit each other.
    """
    expect("options", options, NamespaceOptions, "NamespaceOptions; make_setup takes NetworkOptions")
    setup, families = _outline(options, host)
    config = replace(setup.config, guest_mac=options.mac)
    if options.configure:
        config = replace(config, router_advertisements=False)
    interface = options.ifname or next((up.interface for up in (host.ipv4, host.ipv6) if up), FALLBACK_INTERFACE)
    own = tuple(address for family in families for address in family.addresses)
    routes = tuple(route for family in families for route in family.routes)
    # Stand-ins stay reachable if the default route changes. Link-local IPv6 addresses need no route
    routes += tuple(Route(destination=a, prefix_length=32) for a in setup.names.stand_ins if len(a) == 4)
    if config.resolver is not None:
        routes += routes_to_names(config.resolver, own, routes)
    plan = GuestPlan(
        interface=interface,
        mtu=options.mtu or tap.MTU.default,
        mac=options.mac,
        configure=options.configure,
        addresses=own,
        routes=routes,
        ipv6=config.ipv6 is not None,
        resolv_conf=_resolv_conf(config.dns_servers, config.dns_search, host.resolvers.options, interface),
        hosts=(*_hosts(options, own), *by_address(config.hosts)),
        hostname=options.hostname,
    )
    setup = replace(setup, config=config, plan=plan)
    return plan, replace(setup, addresses=own, gateways=_default_gateways(routes)) if options.configure else setup


def _hosts(options: NamespaceOptions, own: tuple[InterfaceAddress, ...]) -> tuple[HostsEntry, ...]:
    """Entries for the guest's /etc/hosts: its own name with its addresses, one of each family."""
    name = options.hostname
    if name is None:
        return ()
    full = (options.fqdn or name).removesuffix(".")
    names = tuple(dict.fromkeys((full, name, name.partition(".")[0])))
    found = [_of_size(size, (one.address for one in own)) for size in (4, 16)] if options.configure else []
    return tuple((address, names) for address in filter(None, found)) or ((_OWN_NAME, names),)


def make_setup(options: NetworkOptions, host: HostInfo) -> Setup:
    """Make the setup of a guest that configures itself.

    Args:
        options: the guest's options.
        host: the host's network, from `read_host_for` with the same options.

    Raises:
        HostError: the options do not fit the host.
        ConfigError, OptionsError: the options do not fit each other.
    """
    expect("options", options, NetworkOptions, "NetworkOptions")
    setup = _outline(options, host)[0]
    return replace(setup, warnings=(*setup.warnings, *warn_unanswered(options, setup.config)))


def _outline(options: NetworkOptions, host: HostInfo) -> tuple[Setup, tuple[_Family, ...]]:
    """The parts that are the same for every kind of guest."""
    expect("host", host, HostInfo, "a HostInfo; give read_host_for(options)")
    warnings: list[str] = []
    families = _families(options, host, warnings)
    if options.lenient:
        options = _limited(options, {_SIZES[family] for family in families})
    four = _ipv4(options, host.ipv4) if 4 in families else None
    six = _ipv6(options, host.ipv6) if 6 in families else None
    both = tuple(family for family in (four, six) if family)
    own = tuple(address for family in both for address in family.addresses)

    _check_own(options, host, own, warnings)
    gateways = {len(family.gateway): family.gateway for family in both}
    mapped = _map_host_loopback(options, gateways)
    reached = [alias for alias in options.map_guest_address if len(alias) in {len(one.address) for one in own}]
    link = GuestLink(
        own={address.address for address in own},
        gateways=gateways,
        zone=host.ipv6.index if host.ipv6 and options.outbound_if6 in (None, host.ipv6.interface) else 0,
        mapped=mapped,
        used=[route.destination for family in both for route in family.routes if route.prefix_length],
    )
    names = name_servers.choose(options, host.resolvers.nameservers, link, warnings, resolver=has_resolver(options))
    if not names.servers and options.dns is None and (host.ipv4 or host.ipv6 or options.own):
        option = options.word("dns", "ADDR")
        warnings.append(f"the host has no name server that the guest could use; give one with {option}")
    search = options.search if options.search is not None else tuple(filter(_is_domain, host.resolvers.search))

    outbound = {len(address): address for address in options.outbound}
    config = NetworkConfig(
        ipv4=Ipv4Config(
            address=four.addresses[0].address, prefix_length=four.addresses[0].prefix_length, gateway=four.gateway
        )
        if four
        else None,
        ipv6=Ipv6Config(
            address=six.addresses[0].address if six.addresses else None,
            gateway=six.gateway if addresses.is_link_local(six.gateway) else FALLBACK_GATEWAY6,
        )
        if six
        else None,
        dns_servers=names.servers,
        dns_search=search,
        dns_forward=names.forward,
        hosts=known_hosts(options, host_addresses(mapped, reached)),
        hostname=options.hostname,
        fqdn=options.fqdn or (options.hostname if options.hostname and "." in options.hostname else None),
        map_host_loopback=mapped,
        map_guest_address=options.map_guest_address,
        outbound4=outbound.get(4),
        outbound6=outbound.get(16),
        tcp=options.tcp,
        udp=options.udp,
        udp_filtering=options.udp_filtering,
        icmp=options.icmp,
        dhcp=options.dhcp,
        dhcp6=options.dhcp6,
        ndp=options.ndp,
        router_advertisements=options.advertise_router,
        lease_time=_LEASE_TIME,
        advertise_mtu=options.advertise_mtu,
        mac=options.gateway_mac,
        notices=options.notices,
        virtual=options.virtual,
        rules=options.all_rules,
        default_action=options.default_action or (options.policy.default_action if options.policy else None),
        proxies=options.policy.proxies if options.policy else (),
        host_addresses=dict.fromkeys((*map(Prefix, host.addresses), *host.local)),
        translators=options.translators,
        limits=options.limits_on(host.memory),
    )
    routes = [route for family in both for route in family.routes]
    resolver = _resolver(options, host, names, used_networks(config, own, routes))
    if has_resolver(options):
        config = replace(config, resolver=resolver)
    reserved = () if options.keep_udp_ports else (*config.reserved_udp_ports, *host.reserved_ports)
    setup = Setup(
        config=replace(
            config,
            own_addresses=_own_addresses(config, gateways.values(), host, names),
            reserved_udp_ports=reserved,
        ),
        interface=options.outbound_if6 or (host.ipv6.interface if host.ipv6 else None),
        warnings=tuple(warnings),
        outbound_if4=options.outbound_if4,
        outbound_if6=options.outbound_if6,
        names=names,
        host=host,
        resolver=resolver,
        impair_up=options.impair_up,
        impair_down=options.impair_down,
        impair_seed=options.impair_seed,
    )
    return setup, both


def _resolver(
    options: NetworkOptions, host: HostInfo, names: NameServers, used: Iterable[Prefix]
) -> ResolverConfig | None:
    """Our own resolver, if the options have one or it is possible later."""
    try:
        return resolver_config(options, host, names.upstream, used)
    except HostError:
        if has_resolver(options):
            raise
        return None


def _own_addresses(
    config: NetworkConfig, gateways: Iterable[bytes], host: HostInfo, names: NameServers
) -> tuple[bytes, ...]:
    """Our addresses on the guest's segment. Addresses copied from the host are left out: they lead to its network."""
    answered = dict.fromkeys(match for match, _ in config.dns_forward)
    ours = [*gateways, *answered, *names.stand_ins]
    if config.ipv6:
        ours.append(config.ipv6.gateway)
    copied = {route.gateway for uplink in (host.ipv4, host.ipv6) if uplink for route in uplink.routes}
    copied.update(host.resolvers.nameservers)
    copied.update(address for address, _ in names.known if address not in answered)
    return tuple(address for address in dict.fromkeys(ours) if address not in copied)


def keeping_names(setup: Setup, old: Setup) -> Setup:
    """Keep the networks from which names have got addresses, which the guest may still use."""
    before, after = old.config.resolver, setup.config.resolver
    if before is None or after is None:
        return setup
    kept = replace(after, prefix4=before.prefix4, prefix6=before.prefix6)
    return replace(setup, config=replace(setup.config, resolver=kept), resolver=kept)


def remembering(setup: Setup, forward: Iterable[tuple[bytes, Endpoint]]) -> Setup:
    """Add addresses of earlier name servers, which the guest may still query; they lead to the present servers.

    Stand-ins among them stay our own addresses. The others belong to real servers, which the guest reaches at other
    ports.
    """
    forward = tuple(forward)
    own = (*(setup.config.own_addresses or ()), *(match for match, _ in forward if name_servers.is_stand_in(match)))
    config = replace(setup.config, dns_forward=(*setup.config.dns_forward, *forward), own_addresses=own)
    return replace(setup, config=config)


def _default_gateways(routes: Iterable[Route]) -> tuple[bytes, ...]:
    return tuple(route.gateway for route in routes if not route.prefix_length and route.gateway)


def _families(options: NetworkOptions, host: HostInfo, warnings: list[str]) -> set[int]:
    families = set(options.families)
    if 6 in families and not host.has_ipv6:
        if families == {6}:
            raise HostError(f"this kernel has no IPv6; leave out {options.word('families', 6)}")
        families.discard(6)
    if 6 in families and options.mtu is not None and options.mtu < IPV6_MIN_MTU:
        silenced = options.word("families", 4)
        warnings.append(f"the guest has no IPv6, which needs an MTU of {IPV6_MIN_MTU} bytes; {silenced} silences this")
        families.discard(6)
    by_field = {
        "own": [address for address, _ in options.own],
        "gateways": options.gateways,
        "outbound": options.outbound,
        "map_host_loopback": options.map_host_loopback,
        "map_guest_address": options.map_guest_address,
        "dns_forward": options.dns_forward,
        "dns_host": [server.address for server in options.dns_host],
        "dns": options.dns or (),
    }
    for name, listed in by_field.items():
        for family in {4, 6} - families:
            if any(len(address) == _SIZES[family] for address in listed) and not options.lenient:
                problem = HostError if family in options.families and not host.has_ipv6 else OptionsError
                option = options.word(name)
                raise problem(f"{option} gives an IPv{family} address to a guest without IPv{family}; leave it out")
    return families


def _limited(options: NetworkOptions, sizes: set[int]) -> NetworkOptions:
    """The same options without the addresses of other families."""

    def of_sizes(candidates: Iterable[bytes]) -> tuple[bytes, ...]:
        return tuple(address for address in candidates if len(address) in sizes)

    return replace(
        options,
        own=tuple(own for own in options.own if len(own[0]) in sizes),
        gateways=of_sizes(options.gateways),
        outbound=of_sizes(options.outbound),
        map_host_loopback=of_sizes(options.map_host_loopback),
        map_guest_address=of_sizes(options.map_guest_address),
        dns_forward=of_sizes(options.dns_forward),
        dns_host=tuple(server for server in options.dns_host if len(server.address) in sizes),
        dns=None if options.dns is None else of_sizes(options.dns),
    )


def _map_host_loopback(options: NetworkOptions, gateways: dict[int, bytes]) -> tuple[bytes, ...]:
    """The addresses that lead the guest to the host's loopback."""
    chosen = {len(address): address for address in options.map_host_loopback}
    return tuple((gateways | chosen if options.map_gateway else chosen).values())


def _check_own(options: NetworkOptions, host: HostInfo, own: tuple[InterfaceAddress, ...], warnings: list[str]) -> None:
    """Check that the guest's own addresses are not mapped elsewhere, and that a node can have them."""
    local = {address.address for address in own}
    mapped = {
        "map_host_loopback": options.map_host_loopback,
        "map_guest_address": options.map_guest_address,
        "dns_forward": options.dns_forward,
    }
    if twice := set(options.map_host_loopback) & set(options.map_guest_address):
        text = addresses.format(twice.pop())
        both = f"{options.word('map_host_loopback')} and {options.word('map_guest_address')}"
        raise OptionsError(f"{text} cannot be both {both}; give two")
    for name, aliases in mapped.items():
        for address in aliases:
            if address in local:
                option = options.word(name, addresses.format(address))
                raise OptionsError(f"{option} is the guest's own address, which stays in it; give another, as 10.9.9.9")
    for address, _ in options.own:
        if any(address == mine.address and _is_no_node(mine) for mine in own):
            option = options.word("own", addresses.format(address))
            warnings.append(
                f"{option} is the network or broadcast address of its subnet, which no host has; give another one"
            )
    others = f"give others with {options.word('own', 'ADDR')}"
    if options.interface and not (host.ipv4 or host.ipv6 or options.own):
        warnings.append(
            f"{options.interface} has no address to copy to the guest, so the guest has link-local addresses; {others}"
        )
    elif not (host.ipv4 or host.ipv6 or options.own):
        warnings.append(f"the host has no network, so the guest has link-local addresses; {others}")


def _is_no_node(own: InterfaceAddress) -> bool:
    host_bits = 8 * len(own.address) - own.prefix_length
    number = int.from_bytes(own.address, "big") & ((1 << host_bits) - 1)
    return len(own.address) == 4 and host_bits > 1 and number in (0, (1 << host_bits) - 1)


def _of_size(size: int, candidates: Iterable[bytes]) -> bytes | None:
    return next((address for address in candidates if len(address) == size), None)


def _ipv4(options: NetworkOptions, uplink: Uplink | None) -> _Family:
    chosen = next(((address, length) for address, length in options.own if len(address) == 4), None)
    if chosen:
        address, length = chosen
        length = length if length is not None else options.netmask or _class_length(address)
        own: tuple[InterfaceAddress, ...] = (InterfaceAddress(address, length),)
    else:
        own = _copied(options, uplink.addresses) if uplink else (FALLBACK_ADDRESS4,)
        if options.netmask:
            own = (InterfaceAddress(own[0].address, options.netmask),)
    gateway = _of_size(4, options.gateways)
    copied = options.copy_routes and not (chosen or options.netmask)
    return _family(options, own, gateway, uplink, copied=copied, fallback=FALLBACK_GATEWAY4)


def _ipv6(options: NetworkOptions, uplink: Uplink | None) -> _Family:
    chosen = next(((address, length) for address, length in options.own if len(address) == 16), None)
    if chosen:
        address, length = chosen
        own: tuple[InterfaceAddress, ...] = (InterfaceAddress(address, length or 64),)
    else:
        own = _copied(options, uplink.addresses) if uplink else ()
    gateway = _of_size(16, options.gateways)
    copied = options.copy_routes and not chosen
    return _family(options, own, gateway, uplink, copied=copied, fallback=FALLBACK_GATEWAY6)


def _copied(options: NetworkOptions, found: tuple[InterfaceAddress, ...]) -> tuple[InterfaceAddress, ...]:
    """The host's addresses that the guest gets."""
    return found if options.copy_addresses else found[:1]


def _family(
    options: NetworkOptions,
    own: tuple[InterfaceAddress, ...],
    chosen: bytes | None,
    uplink: Uplink | None,
    *,
    copied: bool,
    fallback: bytes,
) -> _Family:
    gateway = chosen or (uplink.gateway if uplink else None) or fallback
    if any(address.address == gateway for address in own):
        raise OptionsError(
            f"{addresses.format(gateway)} cannot be both the guest's address and its gateway; "
            f"give another {options.word('gateways')}"
        )
    if uplink and copied and chosen is None:
        return _Family(addresses=own, routes=uplink.routes, gateway=gateway)
    routes = [Route(destination=bytes(len(gateway)), prefix_length=0, gateway=gateway)]
    on_link = (len(gateway) == 16 and addresses.is_link_local(gateway)) or any(_holds(a, gateway) for a in own)
    if not on_link:
        routes.insert(0, Route(destination=gateway, prefix_length=8 * len(gateway)))
    return _Family(addresses=own, routes=tuple(routes), gateway=gateway)


def _holds(network: InterfaceAddress, address: bytes) -> bool:
    shift = 8 * len(address) - network.prefix_length
    return int.from_bytes(network.address, "big") >> shift == int.from_bytes(address, "big") >> shift


def _class_length(address: bytes) -> int:
    """Prefix length of an address without a mask: by its class (RFC 791, 3.2), as ifconfig does it."""
    return 8 if address[0] < 128 else 16 if address[0] < 192 else 24


def _is_domain(text: str) -> bool:
    """Whether a search domain can be advertised: the host's file may have `search .`, or worse."""
    labels = text.removesuffix(".").split(".")
    return text.isascii() and len(text) <= 253 and all(0 < len(label) < 64 for label in labels)


def _resolv_conf(servers: Iterable[bytes], search: Iterable[str], options: Iterable[str], interface: str) -> str:
    lines = ["# made by sansnet"]
    for server in servers:
        zone = f"%{interface}" if len(server) == 16 and addresses.is_link_local(server) else ""
        lines.append(f"nameserver {addresses.format(server)}{zone}")
    for keyword, words in (("search", search), ("options", options)):
        if text := " ".join(words):
            lines.append(f"{keyword} {text}")
    return "".join(f"{line}\n" for line in lines)
