"""Chooses the name servers of a guest, and the addresses that lead to name servers of the host.

The guest gets the host's servers, in the host's order. A server that the guest cannot reach by its address is
replaced by a stand-in: a server on loopback, at an address that the guest has itself, or link-local on another link. A
stand-in is an address of ours whose ports 53 and 853 lead to that server. The stand-in of server number N is
169.254.53.N or fe80::53:N. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.addresses import Endpoint
from sansnet_trio.hostinfo import HostError
from sansnet_trio.plan.options import DNS_PORT, NetworkOptions

__all__ = ["GuestLink", "NameServers", "RememberedNameServers", "choose", "is_stand_in"]

_RANGES: Final = {4: bytes([169, 254, 53]), 16: bytes.fromhex("fe8000000000000000000000005300")}
"""First bytes of stand-ins, by size of address. The last byte is the number (RFC 3927; RFC 4291, 2.5.6)."""
_NUMBERS: Final = range(1, 255)
"""More than there can be servers and addresses in the options."""

_MAX_REMEMBERED: Final = 32

_MAX_SERVERS: Final = 16
"""Servers of the host that are used. The C library reads three (MAXNS in resolv.h), other resolvers more."""


class GuestLink(NamedTuple):
    """The addresses in use on the guest's link.

    Attributes:
        own: addresses of the guest.
        gateways: our address, by size of address, for each family in use.
        zone: index of the host's interface for link-local addresses; 0 if there is none.
        mapped: addresses that lead to the host's loopback.
        used: other addresses that a stand-in must not take.
    """

    own: Collection[bytes]
    gateways: Mapping[int, bytes]
    zone: int
    mapped: Collection[bytes]
    used: Collection[bytes] = ()


class NameServers(NamedTuple):
    """The result of `choose`.

    Attributes:
        servers: the name servers for the guest, in the order in which it uses them.
        forward: pairs (address that the guest queries, server of the host that answers), for
            `NetworkConfig.dns_forward`.
        stand_ins: the addresses in `forward` that have no other meaning.
        upstream: the servers that our own resolver asks, in order, if the guest has one or gets one later.
        known: pairs (address by which the guest may know a server of the host, that server), in the host's order. The
            guest may know them from the host's own files, even if `servers` is empty.
    """

    servers: tuple[bytes, ...] = ()
    forward: tuple[tuple[bytes, Endpoint], ...] = ()
    stand_ins: tuple[bytes, ...] = ()
    known: tuple[tuple[bytes, Endpoint], ...] = ()
    upstream: tuple[Endpoint, ...] = ()


def choose(
    options: NetworkOptions,
    hosts: Iterable[bytes],
    link: GuestLink,
    warnings: list[str] | None = None,
    *,
    resolver: bool = False,
) -> NameServers:
    """Choose name servers.

    Args:
        options: the guest's options.
        hosts: the host's servers, which may have zones.
        link: the addresses in use on the guest's link.
        warnings: a list that gets a sentence for each option without effect; None to get none.
        resolver: whether our own resolver answers the guest. Then the guest has an address to query even if it can
            reach none of the servers.

    Raises:
        HostError: there is no server for `dns_forward`.
    """
    hosts = tuple(hosts)
    usable = (_seen_from(link, server) for server in hosts if len(server) in link.gateways)
    servers = list(dict.fromkeys(filter(addresses.is_unicast, usable)))[:_MAX_SERVERS]
    stand_ins = _StandIns(options, servers, link)
    chosen: list[bytes] = []
    forward: list[tuple[bytes, Endpoint]] = []
    replaced: set[bytes] = set()
    for size in link.gateways:
        match = _of_size(size, options.dns_forward)
        target = next((host for host in options.dns_host if len(host.address) == size), None)
        first = _of_size(size, servers)
        if match and not (target or first):
            option = options.word("dns_forward", addresses.format(match))
            problem = f"{option} has no name server behind it; give {options.word('dns_host', 'ADDR')}"
            if not options.lenient:
                raise HostError(problem)
            if warnings is not None:
                warnings.append(problem)
            continue
        if target and not match:
            match = stand_ins.take(size, 1)
        if match and target:
            chosen.append(match)
            forward.append((match, target))
        elif match and first:
            chosen.append(match)
            forward.append((match, Endpoint(first, DNS_PORT)))
            replaced.add(first)
    if options.dns is None:
        for number, server in enumerate(servers, 1):
            if server in replaced:
                continue
            if _is_reachable(server, link):
                chosen.append(addresses.split_zone(server)[0])
            else:
                chosen.append(stand_ins.take(len(server), number))
                forward.append((chosen[-1], Endpoint(server, DNS_PORT)))
    else:
        chosen = list(options.dns)
    forward += _mapped_servers(options, servers, link)
    behind = dict(reversed(forward))
    if options.dns is None:
        known = [(address, behind.get(address, Endpoint(address, DNS_PORT))) for address in chosen]
    else:
        reachable = [] if options.dns else [server for server in servers if _is_reachable(server, link)]
        known = [(server, Endpoint(server, DNS_PORT)) for server in reachable]
    upstream = _upstream(options, hosts, link, chosen, behind)
    if resolver and upstream and not chosen and options.dns is None:
        chosen.append(stand_ins.take(next(iter(link.gateways)), 1))
    return NameServers(tuple(dict.fromkeys(chosen)), tuple(forward), tuple(stand_ins.taken), tuple(known), upstream)


def _upstream(
    options: NetworkOptions,
    hosts: Iterable[bytes],
    link: GuestLink,
    chosen: Iterable[bytes],
    behind: Mapping[bytes, Endpoint],
) -> tuple[Endpoint, ...]:
    """The servers that answer the guest's questions in the end: those of the options, or all of the host's."""
    servers = dict.fromkeys(options.dns_host)
    if options.dns:
        servers |= dict.fromkeys(behind.get(address, Endpoint(address, DNS_PORT)) for address in chosen)
    else:
        usable = filter(addresses.is_unicast, (_seen_from(link, server) for server in hosts))
        servers |= dict.fromkeys(Endpoint(server, DNS_PORT) for server in usable)
    return tuple(servers)[:_MAX_SERVERS]


def is_stand_in(address: bytes) -> bool:
    """Whether an address is in the range of stand-ins."""
    return address.startswith(_RANGES[len(address)])


class RememberedNameServers:
    """Addresses of earlier name servers, which the guest may still query.

    A query to one of them goes to the present server with the same number.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def note(self, names: NameServers) -> None:
        """Remember the name servers that the guest has now."""
        for size in _RANGES:
            for number, (address, _) in enumerate(pair for pair in names.known if len(pair[0]) == size):
                self._numbers.pop(address, None)
                self._numbers[address] = number
        for address in list(self._numbers)[:-_MAX_REMEMBERED]:
            del self._numbers[address]

    def forward(self, names: NameServers, own: Collection[bytes]) -> tuple[tuple[bytes, Endpoint], ...]:
        """Pairs (address, server) for the addresses that have no other meaning now.

        Args:
            names: the present choice.
            own: addresses of the guest.
        """
        used = {address for address, _ in (*names.known, *names.forward)} | set(own)
        found = []
        for address, number in self._numbers.items():
            servers = [host for other, host in names.known if len(other) == len(address)]
            if servers and address not in used:
                found.append((address, servers[min(number, len(servers) - 1)]))
        return tuple(found)


def _mapped_servers(
    options: NetworkOptions, servers: Iterable[bytes], link: GuestLink
) -> Iterator[tuple[bytes, Endpoint]]:
    """Pairs for servers of the host whose address leads the guest to the host's loopback, often that of the router.

    The guest may know them from the host's own files. If the options give other servers, the address keeps its meaning.
    """
    for server in () if options.dns else servers:
        address, _ = addresses.split_zone(server)
        if address in link.mapped:
            yield address, Endpoint(server, DNS_PORT)


def _is_reachable(server: bytes, link: GuestLink) -> bool:
    """Whether the guest reaches a server of the host by its address."""
    address, zone = addresses.split_zone(server)
    return not (addresses.is_loopback(server) or address in link.own or zone)


def _seen_from(link: GuestLink, server: bytes) -> bytes:
    """The address of a server; its zone stays if it is not the guest's link."""
    address, zone = addresses.split_zone(server)
    return address if zone == link.zone else server


def _of_size(size: int, candidates: Iterable[bytes]) -> bytes | None:
    return next((address for address in candidates if len(address) == size), None)


class _StandIns:
    """A supply of addresses that have no other meaning."""

    def __init__(self, options: NetworkOptions, servers: Iterable[bytes], link: GuestLink) -> None:
        self._preferred = dict(link.gateways) if options.lenient else {}
        """pasta and passt replace a resolver on loopback by the gateway, and their callers rely on it."""
        others = (*servers, *options.dns_forward, *(options.dns or ()), *options.map_guest_address)
        self.taken: list[bytes] = []
        self._used = {*link.own, *link.used, *(addresses.split_zone(other)[0] for other in others)}
        self._reserved = {*link.mapped, *link.gateways.values()}

    def take(self, size: int, number: int) -> bytes:
        """An address for a server, whose number is counted from 1."""
        preferred = self._preferred.pop(size, None)
        if preferred is not None and preferred not in self._used:
            return preferred
        numbers = (*_NUMBERS[number - 1 :], *_NUMBERS[: number - 1])
        found = next(a for n in numbers if (a := _RANGES[size] + bytes([n])) not in self._used | self._reserved)
        self._used.add(found)
        self.taken.append(found)
        return found
