"""Which name servers a guest is told of, and which of them lead elsewhere.

A guest is told of the host's servers, in the host's order. One that the guest cannot reach as it stands, on loopback,
at an address that is the guest's own, or link-local on another link, is replaced in place by a stand-in: an address of
its own, where port 53 and 853 lead to that server. Stand-ins are 169.254.53.N and fe80::53:N, for the server at place
N. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from sansnet_cli.options.records import NetworkOptions
from sansnet_cli.options.values import DNS_PORT
from sansnet_core import addresses
from sansnet_core.addresses import Endpoint
from sansnet_trio.hostinfo import HostError

__all__ = ["GuestLink", "NameServers", "Remembered", "choose", "is_stand_in"]

_RANGES: Final = {4: bytes([169, 254, 53]), 16: bytes.fromhex("fe8000000000000000000000005300")}
"""First bytes of stand-ins, by size of the address; the last byte is the place (RFC 3927, RFC 4291 2.5.6)."""
_PLACES: Final = range(1, 255)
"""More than there are servers and addresses that the options name."""

_MAX_REMEMBERED: Final = 32

_MAX_SERVERS: Final = 16
"""Of the host's file. The C library reads three (MAXNS in resolv.h), others more."""


class GuestLink(NamedTuple):
    """What the guest's network is like.

    Attributes:
        own: addresses of the guest's.
        gateways: by size, of the families that are on.
        zone: index of the host's interface that stands for the guest's link; 0 if there is none.
        mapped: addresses that mean the host's loopback.
        used: others that mean something in the guest.
    """

    own: Collection[bytes]
    gateways: Mapping[int, bytes]
    zone: int
    mapped: Collection[bytes]
    used: Collection[bytes] = ()


class NameServers(NamedTuple):
    """What was chosen.

    Attributes:
        told: what the guest is told, best first.
        forward: pairs (address that the guest asks, host's address that answers).
        stand_ins: those of the guest's addresses that mean nothing else.
        places: pairs (address by which the guest may know a server of the host's, the host's address for it), in the
            host's order. The guest may know them from the host's own files even if it is told of none.
    """

    told: tuple[bytes, ...] = ()
    forward: tuple[tuple[bytes, Endpoint], ...] = ()
    stand_ins: tuple[bytes, ...] = ()
    places: tuple[tuple[bytes, Endpoint], ...] = ()


def choose(
    options: NetworkOptions, hosts: Iterable[bytes], link: GuestLink, warnings: list[str] | None = None
) -> NameServers:
    """Choose name servers.

    Args:
        options: what was asked for.
        hosts: the host's servers, which may have zones.
        link: the guest's network.
        warnings: where a sentence goes about what cannot be had; None if it is not wanted.

    Raises:
        HostError: `--dns-forward` has no server behind it.
    """
    usable = (_seen_from(link, server) for server in hosts if len(server) in link.gateways)
    servers = list(dict.fromkeys(filter(addresses.is_unicast, usable)))[:_MAX_SERVERS]
    stand_ins = _StandIns(options, servers, link)
    told: list[bytes] = []
    forward: list[tuple[bytes, Endpoint]] = []
    replaced: set[bytes] = set()
    for size in link.gateways:
        match = _of_size(size, options.dns_forward)
        asked = next((host for host in options.dns_host if len(host.address) == size), None)
        first = _of_size(size, servers)
        if match and not (asked or first):
            problem = f"--dns-forward {addresses.format(match)} has no name server behind it; give --dns-host ADDR"
            if not options.lenient:
                raise HostError(problem)
            if warnings is not None:
                warnings.append(problem)
            continue
        if asked and not match:
            match = stand_ins.take(size, 1)
        if match and asked:
            told.append(match)
            forward.append((match, asked))
        elif match and first:
            told.append(match)
            forward.append((match, Endpoint(first, DNS_PORT)))
            replaced.add(first)
    if options.dns is None:
        for place, server in enumerate(servers, 1):
            if server in replaced:
                continue
            if _is_reachable(server, link):
                told.append(addresses.split_zone(server)[0])
            else:
                told.append(stand_ins.take(len(server), place))
                forward.append((told[-1], Endpoint(server, DNS_PORT)))
    else:
        told = list(options.dns)
    forward += _still(options, servers, link)
    behind = dict(reversed(forward))
    if options.dns is None:
        places = [(address, behind.get(address, Endpoint(address, DNS_PORT))) for address in told]
    else:
        reachable = [] if options.dns else [server for server in servers if _is_reachable(server, link)]
        places = [(server, Endpoint(server, DNS_PORT)) for server in reachable]
    return NameServers(tuple(dict.fromkeys(told)), tuple(forward), tuple(stand_ins.given), tuple(places))


def is_stand_in(address: bytes) -> bool:
    """Whether an address is in the range of stand-ins."""
    return address.startswith(_RANGES[len(address)])


class Remembered:
    """Addresses at which the guest may still look for name servers that the host had before.

    What is asked there is answered by the server that is at the same place now.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}

    def note(self, names: NameServers) -> None:
        """The guest may know these."""
        for size in _RANGES:
            for place, (address, _) in enumerate(pair for pair in names.places if len(pair[0]) == size):
                self._places.pop(address, None)
                self._places[address] = place
        for address in list(self._places)[:-_MAX_REMEMBERED]:
            del self._places[address]

    def forward(self, names: NameServers, own: Collection[bytes]) -> tuple[tuple[bytes, Endpoint], ...]:
        """Pairs for those that mean nothing else now.

        Args:
            names: what the guest is told now.
            own: addresses of the guest's.
        """
        known = {address for address, _ in (*names.places, *names.forward)} | set(own)
        found = []
        for address, place in self._places.items():
            servers = [host for other, host in names.places if len(other) == len(address)]
            if servers and address not in known:
                found.append((address, servers[min(place, len(servers) - 1)]))
        return tuple(found)


def _still(options: NetworkOptions, servers: Iterable[bytes], link: GuestLink) -> Iterator[tuple[bytes, Endpoint]]:
    """Pairs for servers whose address means the host's loopback in the guest, as a router's often does.

    The guest may know them from the host's own files. With servers given by -D, the address means loopback.
    """
    for server in () if options.dns else servers:
        address, _ = addresses.split_zone(server)
        if address in link.mapped:
            yield address, Endpoint(server, DNS_PORT)


def _is_reachable(server: bytes, link: GuestLink) -> bool:
    """Whether an address means the same in the guest as on the host."""
    address, zone = addresses.split_zone(server)
    return not (addresses.is_loopback(server) or address in link.own or zone)


def _seen_from(link: GuestLink, server: bytes) -> bytes:
    """A server's address, with a zone only if that is not the guest's link."""
    address, zone = addresses.split_zone(server)
    return address if zone == link.zone else server


def _of_size(size: int, given: Iterable[bytes]) -> bytes | None:
    return next((address for address in given if len(address) == size), None)


class _StandIns:
    """Addresses that mean nothing else, each of which is given once."""

    def __init__(self, options: NetworkOptions, servers: Iterable[bytes], link: GuestLink) -> None:
        self._preferred = dict(link.gateways) if options.lenient else {}
        """pasta and passt put the gateway in the place of a resolver on loopback, and callers rely on it."""
        others = (*servers, *options.dns_forward, *(options.dns or ()), *options.map_guest_address)
        self.given: list[bytes] = []
        self._used = {*link.own, *link.used, *(addresses.split_zone(other)[0] for other in others)}
        self._taken = {*link.mapped, *link.gateways.values()}

    def take(self, size: int, place: int) -> bytes:
        """An address for the server at a place, counted from 1."""
        preferred = self._preferred.pop(size, None)
        if preferred is not None and preferred not in self._used:
            return preferred
        places = (*_PLACES[place - 1 :], *_PLACES[: place - 1])
        found = next(a for n in places if (a := _RANGES[size] + bytes([n])) not in self._used | self._taken)
        self._used.add(found)
        self.given.append(found)
        return found
