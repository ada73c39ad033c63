"""Names for the host in a guest, and names that the user gives (`NetworkOptions.hosts`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

from sansnet_core import NetworkConfig, addresses
from sansnet_trio.plan.options import NetworkOptions, OptionsError

__all__ = ["HOST_NAMES", "Hosts", "by_address", "host_addresses", "known_hosts", "warn_unanswered"]

HOST_NAMES: Final = ("host.sansnet.internal", "host.containers.internal", "host.docker.internal")
"""The names of the host in a guest: ours, podman's and Docker's."""

Hosts: TypeAlias = tuple[tuple[str, tuple[bytes, ...]], ...]
"""Pairs (name, addresses)."""


def host_addresses(loopback: Iterable[bytes], own: Iterable[bytes]) -> tuple[bytes, ...]:
    """The addresses of the host's names in a guest.

    If there are addresses that lead to the host's loopback, the names have these alone: they reach services that listen
    on all addresses of the host, and services that listen on loopback only. Link-local IPv6 addresses are left out:
    they need an interface, which a name cannot give (RFC 4007, 11).

    Args:
        loopback: addresses that lead to the host's loopback.
        own: addresses that lead to the host's own address.
    """
    return _nameable(loopback) or _nameable(own)


def _nameable(candidates: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(address for address in candidates if len(address) == 4 or not addresses.is_link_local(address))


def known_hosts(options: NetworkOptions, host: tuple[bytes, ...]) -> Hosts:
    """All names for a guest. The host's names are among them even if the guest cannot reach the host.

    Args:
        options: the guest's options, with the names to add.
        host: the addresses by which the guest reaches the host.

    Raises:
        OptionsError: a name means the host, but the guest cannot reach the host.
    """
    names: dict[str, tuple[bytes, ...]] = {}
    for name, address in options.hosts:
        if address is None and not host:
            raise OptionsError(
                f"{options.word('hosts', f'{name}=host-gateway')} needs an address that means the host; "
                f"give {options.word('map_host_loopback', 'ADDR')} too"
            )
        names[name] = tuple(dict.fromkeys(names.get(name, ()) + (host if address is None else (address,))))
    for name in HOST_NAMES:
        names.setdefault(name, host)
    return tuple(names.items())


def by_address(hosts: Hosts) -> tuple[tuple[bytes, tuple[str, ...]], ...]:
    """The names by address, as in a hosts file."""
    found: dict[bytes, tuple[str, ...]] = {}
    for name, own in hosts:
        for address in own:
            found[address] = (*found.get(address, ()), name)
    return tuple(found.items())


def warn_unanswered(
    options: NetworkOptions, config: NetworkConfig, queried: Collection[bytes] | None = None
) -> Iterator[str]:
    """Warn if a guest with files of its own does not query the addresses at which we answer questions for names.

    We answer those for the names of `options.hosts`, and all questions if the guest has our resolver.

    Args:
        options: the guest's options.
        config: the configuration of its network.
        queried: the name servers that the guest queries; None if they are not known.
    """
    if not options.hosts and config.resolver is None:
        return
    what = f"the names of {options.word('hosts')}" if config.resolver is None else "questions for names"
    servers = dict.fromkeys((*config.dns_servers, *(match for match, _ in config.dns_forward)))
    if not servers:
        yield (
            f"sansnet answers {what} by DNS, and the guest has no name server to query; "
            f"give one with {options.word('dns', 'ADDR')} or {options.word('dns_forward', 'ADDR')}"
        )
    elif queried is not None and not servers.keys() & set(queried):
        known = " or ".join(map(addresses.format, servers))
        others = ", ".join(map(addresses.format, queried)) or "none"
        yield (
            f"sansnet answers {what} at the name servers {known}, but the namespace's "
            f"/etc/resolv.conf has other name servers: {others}; give one of them by {options.word('dns', 'ADDR')}"
        )
