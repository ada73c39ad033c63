"""Names that a guest has for the host, and others that the user gives (`--host`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

from sansnet_cli.options.records import CommandLineError, NetworkOptions
from sansnet_core import NetworkConfig, addresses

__all__ = ["HOST_NAMES", "Hosts", "by_address", "host_addresses", "known_hosts", "unheard"]

HOST_NAMES: Final = ("host.sansnet.internal", "host.containers.internal", "host.docker.internal")
"""The host's names in a guest: ours, podman's and Docker's."""

Hosts: TypeAlias = tuple[tuple[str, tuple[bytes, ...]], ...]
"""Pairs (name, its addresses)."""


def host_addresses(loopback: Iterable[bytes], own: Iterable[bytes]) -> tuple[bytes, ...]:
    """The addresses by which a guest reaches the host, as far as a name can stand for them.

    Where there are addresses for the host's loopback, its names mean those alone: what listens on all of the host's
    addresses is reached there as well as what listens on loopback only. A link-local address of IPv6 means nothing
    without an interface, which a name cannot give (RFC 4007, 11).

    Args:
        loopback: addresses that stand for the host's loopback.
        own: addresses that stand for the host's own address.
    """
    return _nameable(loopback) or _nameable(own)


def _nameable(given: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(address for address in given if len(address) == 4 or not addresses.is_link_local(address))


def known_hosts(given: Iterable[tuple[str, bytes | None]], host: tuple[bytes, ...]) -> Hosts:
    """All names that a guest is to know. Those of the host are among them even if it has no address.

    Args:
        given: pairs (name, address), where None is the host's addresses. A name may be there more than once.
        host: by which addresses the guest reaches the host.

    Raises:
        CommandLineError: a name is to mean the host, which the guest cannot reach.
    """
    names: dict[str, tuple[bytes, ...]] = {}
    for name, address in given:
        if address is None and not host:
            raise CommandLineError(
                f"--host {name}=host-gateway needs an address that means the host; give --map-host-loopback ADDR too"
            )
        names[name] = tuple(dict.fromkeys(names.get(name, ()) + (host if address is None else (address,))))
    for name in HOST_NAMES:
        names.setdefault(name, host)
    return tuple(names.items())


def by_address(hosts: Hosts) -> tuple[tuple[bytes, tuple[str, ...]], ...]:
    """The same as pairs (address, its names), as a hosts file has them."""
    found: dict[bytes, tuple[str, ...]] = {}
    for name, own in hosts:
        for address in own:
            found[address] = (*found.get(address, ()), name)
    return tuple(found.items())


def unheard(options: NetworkOptions, config: NetworkConfig, asked: Collection[bytes] | None = None) -> Iterator[str]:
    """A warning, if a guest whose hosts file is not ours cannot learn of the names that were given.

    Args:
        options: what was asked for.
        config: of the network.
        asked: the name servers that the guest asks, if they are known.
    """
    if not options.hosts:
        return
    servers = dict.fromkeys((*config.dns_servers, *(match for match, _ in config.dns_forward)))
    if not servers:
        yield (
            "the names of --host are told by DNS, and the guest has no name server to ask; "
            "give one with -D ADDR or --dns-forward ADDR"
        )
    elif asked is not None and not servers.keys() & set(asked):
        known = " or ".join(map(addresses.format, servers))
        others = ", ".join(map(addresses.format, asked)) or "none"
        yield (
            f"the names of --host are answered at the name servers {known}, and the name servers of the namespace's "
            f"/etc/resolv.conf are others: {others}; give -D ADDR with one that it asks"
        )
