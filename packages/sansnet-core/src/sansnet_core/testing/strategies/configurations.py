"""Configurations of networks, with limits from tiny to default."""

from __future__ import annotations

from errno import EACCES, ECONNREFUSED, EHOSTUNREACH
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.config import (
    IPV4_MIN_MTU,
    IPV6_MIN_MTU,
    Ipv4Config,
    Ipv6Config,
    Limits,
    LinkConfig,
    NetworkConfig,
    ResolverConfig,
    UdpFiltering,
)
from sansnet_core.policy import Action, Check, Group, NameMode, ProxyConfig, ProxyKind, Rule
from sansnet_core.testing.guest import GuestStack
from sansnet_core.testing.pair import GATEWAY, GATEWAY6, SERVER, SERVER6
from sansnet_core.testing.strategies.parts import chance, choose

__all__ = ["configs", "limits", "links", "rules"]

_GUEST: Final = GuestStack()
_NAMES: Final = ("host.example", "www.example.org", "a.b.c.example", "x" * 63 + ".example")
_LOOPBACK_ALIAS: Final = bytes((10, 0, 2, 3))
_LOOPBACK_ALIAS6: Final = bytes.fromhex("fd000000000000000000000000000003")
_RESOLVER_ADDRESS: Final = bytes((10, 0, 2, 53))
_HOST_SERVER: Final = Endpoint("127.0.0.53", 53)


def _numbers(default: int) -> SearchStrategy[int]:
    few = [default, 1, 2, 3, 8, 20, 100, 1000, 20_000, 70_000]
    return st.sampled_from([default, *(one for one in few[1:] if one < default)]) | st.integers(1, default)


def _amounts(default: float) -> SearchStrategy[float]:
    return st.sampled_from([default, *(one for one in (0.001, 0.05, 1.0, 10.0) if one < default)])


def limits() -> SearchStrategy[Limits]:
    """Limits of which some are the default and the others are smaller, down to 1."""
    return _limits()


@st.composite
def _limits(draw: DrawFn) -> Limits:
    names = draw(st.lists(st.sampled_from(Limits._names), unique=True, max_size=8))
    if chance(draw, 4):
        names = list(Limits._names)
    values: dict[str, Any] = {}
    for name in names:
        default = Limits._defaults[name]
        values[name] = draw(_numbers(default) if isinstance(default, int) else _amounts(default))
    return Limits(**values)


def links(*, vnet: bool | None = None) -> SearchStrategy[LinkConfig]:
    """Links of all MTUs and abilities; with or without `virtio_net_hdr` as `vnet` says, None for both."""
    return _links(vnet)


@st.composite
def _links(draw: DrawFn, vnet: bool | None) -> LinkConfig:
    mtu = draw(st.sampled_from([1500, IPV6_MIN_MTU, 65520, 9000, 576, IPV4_MIN_MTU, 65535]) | st.integers(68, 65535))
    header = chance(draw, 2) if vnet is None else vnet
    checksum = header and chance(draw, 2)
    tso4, tso6, uso = (checksum and chance(draw, 2) for _ in range(3))
    frame = choose(draw, [mtu + 14, max(mtu + 14, 65549), mtu + 1000])
    return LinkConfig(
        mtu=mtu,
        max_frame_size=frame,
        vnet_header=header,
        checksum_offload=checksum,
        tso4=tso4,
        tso6=tso6,
        uso=uso,
        verify_checksums=chance(draw, 2),
    )


@st.composite
def _ipv4(draw: DrawFn) -> Ipv4Config:
    length = choose(draw, [24, 32, 31, 27, 16, 0])
    return Ipv4Config(
        address=_GUEST.ipv4, prefix_length=length, gateway=choose(draw, [GATEWAY, None, bytes((192, 0, 2, 1))])
    )


@st.composite
def _ipv6(draw: DrawFn) -> Ipv6Config:
    return Ipv6Config(address=choose(draw, [_GUEST.ipv6, None]), gateway=GATEWAY6)


_PREFIXES: Final = (
    *("0.0.0.0/0", "192.0.2.0/24", "192.0.2.80/32", "10.0.2.0/24", "127.0.0.0/8"),
    *("::/0", "2001:db8:ffff::/48", "fe80::/10", "224.0.0.0/4"),
)

_REDIRECTED: Final = (Endpoint(SERVER, 8080), Endpoint(SERVER6, 8080), Endpoint("127.0.0.1", 1))
_FORWARDED: Final = (
    (),
    ((GATEWAY, Endpoint(SERVER, 53)),),
    ((GATEWAY6, Endpoint("::1", 5353)), (GATEWAY, Endpoint(SERVER, 1))),
)
_HOSTS: Final = ((), ((_NAMES[0], (_LOOPBACK_ALIAS, SERVER6)),), tuple((name, ()) for name in _NAMES))
_VIRTUAL: Final = ((), (Prefix("198.51.100.0/24"),), (Prefix("0.0.0.0/0"), Prefix("2001:db8:1::/48")))


def rules(*, names: bool = False, proxies: tuple[str, ...] = ()) -> SearchStrategy[Rule]:
    """Rules about flows.

    Args:
        names: whether rules may have names of hosts and checks, which need a resolver.
        proxies: the names of proxies that rules may use.
    """
    return _rules(names, proxies)


@st.composite
def _rules(draw: DrawFn, names: bool, proxies: tuple[str, ...]) -> Rule:
    action = choose(draw, tuple(Action))
    values: dict[str, Any] = {"action": action}
    if chance(draw, 2):
        values["protocols"] = draw(st.lists(st.sampled_from(["tcp", "udp", "ping"]), unique=True, max_size=2))
    if chance(draw, 2):
        values["destinations"] = draw(st.lists(st.sampled_from(_PREFIXES), unique=True, max_size=2))
    if chance(draw, 4) and values.get("protocols") != ["ping"]:
        values["ports"] = draw(st.lists(st.sampled_from([80, 443, 53, 22, (1, 1023)]), max_size=2))
    if chance(draw, 4):
        values["groups"] = draw(st.lists(st.sampled_from(Group), unique=True, max_size=2))
    values["inbound"] = choose(draw, [None, None, False, True])
    if names and chance(draw, 2):
        values["names"] = draw(st.lists(st.sampled_from([*_NAMES, "*.example", "*"]), unique=True, max_size=2))
        values["check"] = choose(draw, [None, *Check])
        if action in (Action.ALLOW, Action.ASK) and chance(draw, 2):
            values["record_types"] = draw(st.lists(st.sampled_from([16, 33, 257, 65535]), unique=True, max_size=2))
    if action is Action.REFUSE:
        values["errno"] = choose(draw, [EACCES, ECONNREFUSED, EHOSTUNREACH, 4095])
    elif action in (Action.ALLOW, Action.ASK) and proxies and chance(draw, 2):
        values["via"] = choose(draw, proxies)
    elif action is Action.ALLOW and chance(draw, 4):
        values["to"] = draw(
            st.sampled_from([Endpoint(SERVER, 8080), Endpoint(SERVER6, 8080), Endpoint("127.0.0.1", 1)])
        )
    return Rule(**values)


@st.composite
def _resolvers(draw: DrawFn) -> ResolverConfig:
    return ResolverConfig(
        servers=choose(draw, [(_HOST_SERVER,), (), (_HOST_SERVER, Endpoint("::1", 5353))]),
        names=choose(draw, tuple(NameMode)),
        families=choose(draw, [(6, 4), (4, 6), (4,), (6,)]),
        prefix4=choose(draw, ["198.18.0.0/15", "198.18.0.0/30"]),
        prefix6=choose(draw, ["fd73:616e:736e:6574::/64", "fd73:616e:736e:6574::/126"]),
        grace=choose(draw, [120.0, 0.0]),
    )


_PROXIES: Final = (
    ProxyConfig(name="socks", kind=ProxyKind.SOCKS5, server=("192.0.2.7", 1080)),
    ProxyConfig(name="http", kind=ProxyKind.HTTP, server=("192.0.2.8", 3128), user="guest", password="secret"),
)


def _plain_fields() -> dict[str, SearchStrategy[Any]]:
    """Fields that do not depend on others. The first choice of each is the simplest."""
    switch = st.sampled_from([True, True, True, False])
    return {
        "guest_mac": st.sampled_from([_GUEST.mac, None]),
        "advertise_mtu": st.booleans(),
        "dns_servers": st.sampled_from([(), (GATEWAY,), (_RESOLVER_ADDRESS, GATEWAY6), (SERVER, SERVER6)]),
        "dns_search": st.sampled_from([(), ("example.org",), ("example.org", "x" * 63 + ".example")]),
        "dns_forward": st.sampled_from(_FORWARDED),
        "hosts": st.sampled_from(_HOSTS),
        "hostname": st.sampled_from([None, "guest", "x" * 63]),
        "fqdn": st.sampled_from([None, "guest.example.org"]),
        "map_host_loopback": st.sampled_from([(), (_LOOPBACK_ALIAS,), (GATEWAY, _LOOPBACK_ALIAS6)]),
        "map_guest_address": st.sampled_from([(), (bytes((10, 0, 2, 4)),)]),
        "own_addresses": st.sampled_from([None, (), (GATEWAY, GATEWAY6)]),
        "learn_addresses": switch,
        "outbound4": st.sampled_from([None, SERVER]),
        "outbound6": st.sampled_from([None, SERVER6]),
        "virtual": st.sampled_from(_VIRTUAL),
        "host_addresses": st.sampled_from([(), (Prefix("192.0.2.80/32"),)]),
        "translators": st.sampled_from([(), (Prefix("2001:db8:64::/96"),)]),
        "tcp": switch,
        "udp": switch,
        "icmp": switch,
        "udp_filtering": st.sampled_from(UdpFiltering),
        "dhcp": switch,
        "dhcp6": switch,
        "ndp": switch,
        "router_advertisements": st.booleans(),
        "lease_time": st.sampled_from([None, 1, 3600, (1 << 31) - 1]),
        "notices": st.booleans(),
    }


_PLAIN: Final = _plain_fields()


def configs(**fields: Any) -> SearchStrategy[NetworkConfig]:
    """Configurations: any link, any set of families and services, limits from tiny to default.

    Args:
        **fields: fields of `NetworkConfig` that are fixed, as values or as strategies of values.
    """
    unknown = [name for name in fields if name not in NetworkConfig._names]
    if unknown:
        raise TypeError(f"NetworkConfig has no field {', '.join(unknown)}")
    return _configs(fields)


@st.composite
def _configs(draw: DrawFn, fields: dict[str, Any]) -> NetworkConfig:
    values: dict[str, Any] = {
        name: draw(value) if isinstance(value, SearchStrategy) else value for name, value in fields.items()
    }

    def settle(name: str, choices: SearchStrategy[Any]) -> Any:
        if name not in values:
            values[name] = draw(choices)
        return values[name]

    settle("link", links())
    settle("limits", limits())
    families = choose(draw, [(4, 6), (4,), (6,)])
    # Both are drawn even if one is left out: with fewer choices, one family alone would be the simpler case
    ipv4, ipv6 = draw(_ipv4()), draw(_ipv6())
    settle("ipv4", st.just(ipv4 if 4 in families or values.get("ipv6", 6) is None else None))
    settle("ipv6", st.just(ipv6 if 6 in families or values["ipv4"] is None else None))
    for name in draw(st.lists(st.sampled_from(sorted(_PLAIN)), unique=True, max_size=8)):
        settle(name, _PLAIN[name])
    if chance(draw, 2):
        resolver = settle("resolver", st.none() | _resolvers())
        proxies = settle("proxies", st.sampled_from([(), _PROXIES, _PROXIES[:1]]))
        names = tuple(proxy.name for proxy in proxies) if resolver is not None else ()
        settle("rules", st.lists(rules(names=resolver is not None, proxies=names), max_size=4))
        settle("default_action", st.sampled_from([None, *Action]))
    return NetworkConfig(**values)
