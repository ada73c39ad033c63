"""Which parts of a configuration may change while its network runs."""

from __future__ import annotations

from typing import Final

from sansnet_core.config import NetworkConfig
from sansnet_core.errors import ConfigError, expect
from sansnet_core.records import replace

__all__ = ["check_change"]

_CHANGEABLE: Final = frozenset(
    {
        "ipv4",
        "ipv6",
        "dns_servers",
        "dns_search",
        "dns_forward",
        "hosts",
        "hostname",
        "fqdn",
        "map_host_loopback",
        "map_guest_address",
        "own_addresses",
        "outbound4",
        "outbound6",
        "lease_time",
        "virtual",
        "rules",
        "default_action",
        "proxies",
        "host_addresses",
        "translators",
        "resolver",
    }
)


def check_change(old: NetworkConfig, new: NetworkConfig) -> None:
    """Check that the configuration of a running network may be replaced by another one.

    Raises:
        ConfigError: a field differs that cannot change while a network runs, or a family is switched on or off.
    """
    expect("config", new, NetworkConfig, "a NetworkConfig")
    for name in NetworkConfig._names:
        before, after = getattr(old, name), getattr(new, name)
        if name in ("ipv4", "ipv6"):
            before, after = before is None, after is None
        elif name == "link":
            before = replace(before, verify_checksums=after.verify_checksums)
        elif name in _CHANGEABLE:
            continue
        if before != after:
            raise ConfigError(f"{name}: cannot change while the network runs; make another network")
    if old.resolver is not None and new.resolver is not None:
        for name in ("prefix4", "prefix6"):
            if getattr(old.resolver, name) != getattr(new.resolver, name):
                raise ConfigError(f"resolver.{name}: cannot change while the guest keeps addresses of names")
