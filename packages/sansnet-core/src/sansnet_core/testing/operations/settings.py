"""Configurations as data, with limits from tiny to default."""

from __future__ import annotations

from typing import Any, Final

from sansnet_core.addresses import Endpoint
from sansnet_core.config import Limits, LinkConfig, NetworkConfig, ResolverConfig, UdpFiltering
from sansnet_core.policy import Action, Check, NameMode, ProxyConfig, ProxyKind, Rule
from sansnet_core.records import replace
from sansnet_core.testing.operations.domains import among, operation
from sansnet_core.testing.operations.places import ADDRESSES
from sansnet_core.testing.pair import make_config

__all__ = ["LIMITS", "LINKS", "PROXY", "SERVERS", "Setting", "changed"]

LINKS: Final = {
    "ethernet": LinkConfig(mtu=1500, max_frame_size=1514),
    "offload": LinkConfig(
        mtu=1500, max_frame_size=65549, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    ),
    "checksums": LinkConfig(mtu=1500, max_frame_size=1514, vnet_header=True, checksum_offload=True),
    "largest": LinkConfig(mtu=65520, max_frame_size=65535),
    "smallest": LinkConfig(mtu=1280, max_frame_size=1294, verify_checksums=True),
    "ipv4 only": LinkConfig(mtu=68, max_frame_size=82),
    "small frames": LinkConfig(
        mtu=1500, max_frame_size=4000, vnet_header=True, checksum_offload=True, tso4=True, tso6=True, uso=True
    ),
}
"""Name -> link."""

_SIZES: Final = ("tcp_window", "tcp_send_buffer", "tcp_memory", "name_cache")
_TIMES: Final = ("decision_time", "reassembly_time", "udp_idle_once", "udp_idle_stream", "echo_idle", "tcp_keepalive",
                 "tcp_linger")  # fmt: skip
_RATES: Final = ("echo_rate", "icmp_error_rate", "refusal_rate", "name_rate")


def _limits(count: int, size: int) -> Limits:
    """Limits with this number of everything, and this many bytes; times and rates are the default ones."""
    names = [name for name in Limits._names if name not in (*_SIZES, *_TIMES, *_RATES)]
    return Limits(**dict.fromkeys(names, count), **dict.fromkeys(_SIZES, size))


LIMITS: Final = {
    "default": Limits(),
    "small": replace(_limits(8, 20_000), tcp_memory=60_000, echo_size=1000),
    "smallest": _limits(1, 1),
    "two": replace(_limits(2, 3000), tcp_memory=2000),
    "few inbound": replace(_limits(20, 100_000), tcp_inbound_flows=1, udp_inbound_flows=1, tcp_memory=50_000),
}
"""Name -> limits."""

SERVERS: Final = (Endpoint("192.0.2.53", 53), Endpoint("2001:db8:53::53", 53))
"""The name servers of the host."""
PROXY: Final = Endpoint("192.0.2.99", 1080)
"""The proxy of the host's network."""


@operation
class Setting:
    """One configuration of a network, and the conduct of its host.

    Attributes:
        link: the name of a link: "ethernet", "offload", "checksums", "largest", "smallest", "ipv4 only", "small frames".
        limits: the name of limits: "default", "small", "smallest", "two", "few inbound".
        action: what is done with flows that no rule decides (`NetworkConfig.default_action`).
        names: how names in rules are resolved; None for a network without a resolver.
        proxy: the kind of the proxy that some flows take; None for no proxy.
        user: the user name at the proxy.
        check: which flows must name their server (`Rule.check`).
        filtering: `NetworkConfig.udp_filtering`.
        notices: whether the network makes notices of flows.
        learns: `NetworkConfig.learn_addresses`.
        connects: how the host's connects end by themselves: an errno, 0 for success, None for not at all.
    """

    link: str = among(*LINKS)
    limits: str = among(*LIMITS)
    action: Action = among(Action.ALLOW, Action.ALLOW, Action.ASK, Action.REFUSE, Action.DROP)
    names: NameMode | None = among(None, NameMode.OWN, NameMode.REAL)
    proxy: ProxyKind | None = among(None, ProxyKind.SOCKS5, ProxyKind.HTTP)
    user: str | None = among(None, "someone")
    check: Check = among(Check.NONE, Check.TLS, Check.HTTP)
    filtering: UdpFiltering = among(*UdpFiltering)
    notices: bool = among(True, False)
    learns: bool = among(True, False)
    connects: int | None = among(0, 0, 0, None, 111, 113)

    def config(self) -> NetworkConfig:
        """The configuration."""
        link = LINKS[self.link]
        base = make_config(link, LIMITS[self.limits])
        dns = tuple(ADDRESSES[name] for name in ("resolver", "resolver6"))
        fields: dict[str, Any] = {
            "dns_servers": dns,
            "dns_search": ("example.org",),
            "dns_forward": ((dns[0], SERVERS[0]),),
            "hosts": (("host.example", (ADDRESSES["alias"],)), ("asked.example.com", ())),
            "map_host_loopback": (ADDRESSES["alias"],),
            "virtual": ("198.51.100.192/26",),
            "default_action": self.action,
            "udp_filtering": self.filtering,
            "learn_addresses": self.learns,
            "notices": self.notices,
            "rules": self._rules(),
        }
        if self.names is not None:
            fields["resolver"] = ResolverConfig(servers=SERVERS, names=self.names)
        if self.proxy is not None:
            password = None if self.user is None else "secret"
            fields["proxies"] = (
                ProxyConfig(name="p", kind=self.proxy, server=PROXY, user=self.user, password=password),
            )
        if link.mtu < 1280:
            fields |= {"ipv6": None, "dns_servers": dns[:1]}
        return replace(base, **fields)

    def _rules(self) -> tuple[Rule, ...]:
        rules = [
            Rule(action=Action.REFUSE, destinations=("10.66.0.0/16",)),
            Rule(action=Action.ASK, destinations=("203.0.113.77/32",)),
        ]
        if self.proxy is not None:
            rules.append(Rule(action=Action.ALLOW, destinations=("203.0.113.0/24",), via="p"))
        if self.check is not Check.NONE:
            rules.append(Rule(action=Action.ALLOW, ports=(443, 80), check=self.check, protocols=("tcp",)))
        if self.names is not None:
            rules.append(Rule(action=Action.ALLOW, names=("*.example.org",), check=self.check))
            rules.append(Rule(action=Action.ALLOW, names=("one.example.net",), destinations=("192.0.2.0/24",)))
            rules.append(Rule(action=Action.ASK, names=("asked.example.com",)))
            if self.proxy is not None:
                rules.append(Rule(action=Action.ALLOW, names=("proxied.example.com",), via="p"))
        return tuple(rules)


def changed(config: NetworkConfig, change: str, first: NetworkConfig) -> NetworkConfig:
    """A configuration after a `Reconfiguration`; `first` is that of the beginning."""
    match change:
        case "refuse all":
            return replace(config, rules=(), default_action=Action.REFUSE)
        case "allow all":
            return replace(config, rules=(), default_action=Action.ALLOW)
        case "ask all":
            return replace(config, rules=(), default_action=Action.ASK)
        case "first":
            return first
        case "no proxies":
            return replace(config, rules=[rule for rule in config.rules if rule.via is None], proxies=())
        case "no resolver":
            return replace(config, rules=[rule for rule in config.rules if not rule.names], resolver=None)
        case "names" if config.resolver is not None:
            other = NameMode.REAL if config.resolver.names is NameMode.OWN else NameMode.OWN
            return replace(config, resolver=replace(config.resolver, names=other))
        case "other addresses" if config.ipv4 is not None:
            return replace(config, ipv4=replace(config.ipv4, address="10.0.2.16/24"))
        case "no virtual":
            return replace(config, virtual=())
        case "no aliases":
            return replace(config, map_host_loopback=(), dns_forward=())
        case "other servers" if config.resolver is not None:
            return replace(config, resolver=replace(config.resolver, servers=SERVERS[::-1][:1]))
        case _:
            return config
