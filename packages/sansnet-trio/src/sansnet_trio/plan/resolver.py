"""Whether a guest has a resolver of ours, which name servers it asks, and the own addresses of names. Pure.

Names get addresses of prefixes that nothing else uses, as far as is known: neither the host's networks nor the guest's.
The first choice for IPv4 is the network for benchmarks between devices (RFC 2544, appendix C), and for IPv6 a network
of unique local addresses (RFC 4193).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from sansnet_core.addresses import Prefix
from sansnet_core.config import ResolverConfig
from sansnet_core.policy import NameMode
from sansnet_core.records import replace
from sansnet_trio.hostinfo import MIN_NETWORK, HostError, HostInfo, InterfaceAddress, Route, Uplink

if TYPE_CHECKING:
    from sansnet_core.addresses import Endpoint
    from sansnet_core.config import NetworkConfig
    from sansnet_trio.plan.options import NetworkOptions

__all__ = ["choose_prefixes", "has_resolver", "resolver_config", "routes_to_names", "used_networks"]

_FIRST4: Final = ("198.18.0.0/15", "198.18.0.0/16", "198.19.0.0/16")
_FIRST6: Final = bytes.fromhex("fd73616e736e6574")
"""fd73:616e:736e:6574::/64; the last two bytes are counted up."""
_MAX_PREFIXES6: Final = 256


def has_resolver(options: NetworkOptions) -> bool:
    """Whether the guest has our own resolver: the options say so, rules have names, or proxies get them."""
    if options.resolver is not None:
        return options.resolver
    return any(rule.names or rule.via for rule in options.all_rules)


def resolver_config(
    options: NetworkOptions, host: HostInfo, servers: Iterable[Endpoint], used: Iterable[Prefix]
) -> ResolverConfig:
    """The configuration of the resolver.

    Args:
        options: the guest's options.
        host: the host's network.
        servers: the name servers to ask, in order.
        used: other networks and addresses that names must not get.

    Raises:
        HostError: no network is free for own addresses of names, and they need some.
    """
    policy = options.policy
    names = options.names or (policy.names if policy is not None else None) or NameMode.OWN
    config = ResolverConfig(servers=tuple(servers), names=names, families=_families(host))
    try:
        prefix4, prefix6 = choose_prefixes((*host.networks, *map(Prefix, host.addresses), *used))
    except HostError:
        if names is NameMode.OWN:
            raise
        return config
    return replace(config, prefix4=prefix4, prefix6=prefix6)


def used_networks(config: NetworkConfig, own: Iterable[InterfaceAddress], routes: Iterable[Route]) -> Iterator[Prefix]:
    """The networks and addresses that have a meaning for the guest.

    Args:
        config: the configuration of its network.
        own: its addresses.
        routes: the routes of its interface.
    """
    yield from config.virtual
    for destination, length in (*own, *((route.destination, route.prefix_length) for route in routes)):
        if length >= MIN_NETWORK:
            yield _network(destination, length)
    gateways = [family.gateway for family in (config.ipv4, config.ipv6) if family is not None and family.gateway]
    forward = [match for match, _ in config.dns_forward]
    hosts = [address for _, addresses in config.hosts for address in addresses]
    aliases = (*config.map_host_loopback, *config.map_guest_address)
    yield from map(Prefix, (*gateways, *config.dns_servers, *forward, *hosts, *aliases))


def _network(address: bytes, length: int) -> Prefix:
    bits = 8 * len(address) - length
    return Prefix((int.from_bytes(address, "big") >> bits << bits).to_bytes(len(address), "big"), length)


def routes_to_names(
    resolver: ResolverConfig, own: Iterable[InterfaceAddress], routes: Iterable[Route]
) -> tuple[Route, ...]:
    """Routes to the own addresses of names, for each family in which a guest has an address but no default route.

    Args:
        resolver: the configuration of the resolver.
        own: the guest's addresses.
        routes: the routes of its interface.
    """
    sizes = {len(address) for address, _ in own} - {len(r.destination) for r in routes if not r.prefix_length}
    prefixes = (resolver.prefix4, resolver.prefix6) if resolver.names is NameMode.OWN else ()
    return tuple(Route(destination=p.address, prefix_length=p.length) for p in prefixes if len(p.address) in sizes)


def choose_prefixes(used: Iterable[Prefix]) -> tuple[Prefix, Prefix]:
    """Networks of IPv4 and IPv6 that overlap with no network in use.

    Raises:
        HostError: there is none.
    """
    used = tuple(used)
    return _choose(_candidates4(), used), _choose(_candidates6(), used)


def _choose(candidates: Iterator[Prefix], used: tuple[Prefix, ...]) -> Prefix:
    for candidate in candidates:
        if not any(candidate.contains(other.address) or other.contains(candidate.address) for other in used):
            return candidate
    raise HostError("the host uses all networks from which names could get addresses; use their real addresses")


def _candidates4() -> Iterator[Prefix]:
    yield from map(Prefix, _FIRST4)
    for second in range(254, -1, -1):  # from the end, which fewer networks use
        yield Prefix(bytes((10, second, 0, 0)), 16)
    for second in range(31, 15, -1):
        yield Prefix(bytes((172, second, 0, 0)), 16)
    for second in range(127, 63, -1):
        yield Prefix(bytes((100, second, 0, 0)), 16)


def _candidates6() -> Iterator[Prefix]:
    first = int.from_bytes(_FIRST6, "big")
    for number in range(_MAX_PREFIXES6):
        yield Prefix((first + number).to_bytes(8, "big") + bytes(8), 64)
    yield Prefix("100::/64")  # no packet for it may leave a host (RFC 6666)


def _families(host: HostInfo) -> tuple[int, ...]:
    """The families in which the host reaches others, the preferred one first: IPv6 if it has a default route."""
    families = [family for family, uplink in ((6, host.ipv6), (4, host.ipv4)) if _has_default_route(uplink)]
    for family, uplink in ((6, host.ipv6), (4, host.ipv4)):
        if uplink is not None and family not in families:
            families.append(family)
    return tuple(families) or ((4, 6) if host.has_ipv6 else (4,))


def _has_default_route(uplink: Uplink | None) -> bool:
    return uplink is not None and any(not route.prefix_length for route in uplink.routes)
