"""The addresses between which frames go in the network of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sansnet_core.addresses import AnyAddress, Prefix, checked_port, format, packed
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import UsageError, expect
from sansnet_core.testing.guest import GuestStack
from sansnet_core.testing.pair import GATEWAY, GATEWAY6, SERVER, SERVER6

__all__ = ["Parties"]

_GUEST: Final = GuestStack()
_LINK_LOCAL: Final = bytes.fromhex("fe800000000000000000000000000015")
_PORTS: Final = (80, 443, 53, 22, 853, 7, 65535)
_GROUPS: Final = {
    4: (b"\xff" * 4, bytes((224, 0, 0, 251)), bytes((239, 255, 255, 250))),
    16: (bytes.fromhex("ff020000000000000000000000000001"), bytes.fromhex("ff0500000000000000000000000000fb")),
}
_STRANGE: Final = {
    4: (bytes(4), bytes((127, 0, 0, 1)), bytes((169, 254, 169, 254)), bytes((240, 0, 0, 1)), bytes((0, 0, 0, 1))),
    16: (
        bytes(16),
        bytes(15) + b"\1",
        bytes(10) + b"\xff\xff\x7f\0\0\1",
        bytes(12) + bytes((192, 0, 2, 80)),
        bytes.fromhex("0064ff9b0000000000000000c0000250"),
        bytes.fromhex("fe800001000000000000000000000007"),
        bytes.fromhex("ff010000000000000000000000000001"),
        bytes.fromhex("fc000000000000000000000000000001"),
    ),
}


class Parties:
    """The parties of a network: its guest, and the destinations that the configuration treats in ways of their own.

    Args:
        config: of the network.
        destinations: all addresses that frames go to; None for the usual ones of the configuration.
        ports: all ports of UDP and TCP that they go to; None for the usual ones.

    Attributes:
        config: of the network.
        ports: of UDP and TCP at the other side.
        is_aimed: whether `destinations` were given.
        families: sizes of the addresses of the families that are on, and that destinations have: 4, 16.
        mtu: of the link.
        vnet: whether frames begin with a `virtio_net_hdr`.
        guest_mac, mac: Ethernet addresses of the guest and of the network.
        link_local: the guest's link-local address.
        gateways, name_servers: by size of address; the usual ones if there are none.
    """

    def __init__(
        self,
        config: NetworkConfig,
        destinations: Collection[AnyAddress] | None = None,
        ports: Collection[int] | None = None,
    ) -> None:
        expect("config", config, NetworkConfig, "a NetworkConfig")
        self.config = config
        self.ports = _PORTS if ports is None else _checked(ports)
        self.is_aimed = destinations is not None
        self.mtu = config.link.mtu
        self.vnet = config.link.vnet_header
        self.mac = config.mac
        self.guest_mac = config.guest_mac or _GUEST.mac
        self.families = (4,) * (config.ipv4 is not None) + (16,) * (config.ipv6 is not None)
        self.link_local = _LINK_LOCAL
        own4 = config.ipv4.address if config.ipv4 else _GUEST.ipv4
        own6 = config.ipv6.address if config.ipv6 and config.ipv6.address else _GUEST.ipv6
        self._sources = {4: (own4, _near(own4)), 16: (own6, _LINK_LOCAL, _near(own6))}
        gateway4 = config.ipv4.gateway if config.ipv4 and config.ipv4.gateway else GATEWAY
        gateway6 = config.ipv6.gateway if config.ipv6 else GATEWAY6
        self.gateways = {4: gateway4, 16: gateway6}
        servers = [*config.dns_servers, *(match for match, _ in config.dns_forward)]
        self.name_servers = {size: _of_size(size, servers) or (self.gateways[size],) for size in (4, 16)}
        self._groups = _GROUPS
        if destinations is None:
            self._destinations = {size: self._find_destinations(size) for size in (4, 16)}
        else:
            self._choose(destinations)

    def __repr__(self) -> str:
        return f"Parties({', '.join(format(self._sources[size][0]) for size in self.families)})"

    def _choose(self, destinations: Collection[AnyAddress]) -> None:
        """Let frames go to these addresses alone."""
        try:
            found = [packed(each) for each in destinations]
        except (ValueError, TypeError) as error:
            raise UsageError(f"destinations: {destinations!r:.100} is not a list of addresses: {error}") from None
        self._destinations = {size: _of_size(size, found) for size in (4, 16)}
        self._groups = {4: (), 16: ()}
        self.name_servers = {size: self._destinations[size] or self.name_servers[size] for size in (4, 16)}
        self.families = tuple(size for size in self.families if self._destinations[size])
        if not self.families:
            raise UsageError(f"destinations: {destinations!r:.100} has no address of a family that is on")

    def _find_destinations(self, size: int) -> tuple[bytes, ...]:
        config = self.config
        found: list[bytes] = [SERVER if size == 4 else SERVER6, self.gateways[size], *self.name_servers[size]]
        found += [*config.map_host_loopback, *config.map_guest_address, *(config.own_addresses or ())]
        found += [address for _, addresses in config.hosts for address in addresses]
        prefixes = [*config.virtual, *config.host_addresses, *config.translators]
        prefixes += [prefix for rule in config.rules for prefix in rule.destinations]
        if config.resolver is not None:
            prefixes += [config.resolver.prefix4, config.resolver.prefix6]
            found += [server.address for server in config.resolver.servers]
        for prefix in prefixes:
            found += _first(prefix)
        found += self._sources[size][:1]
        return tuple(dict.fromkeys(_of_size(size, found)))

    def room(self, size: int) -> int:
        """Bytes of the largest payload of an IP packet without options; `size` is that of an address."""
        return self.mtu - (20 if size == 4 else 40)

    def sources(self, size: int) -> tuple[bytes, ...]:
        """The addresses that the guest has, or may take, the usual one first; `size` is 4 or 16."""
        return self._sources[size]

    def destinations(self, size: int) -> tuple[bytes, ...]:
        """Unicast destinations, an ordinary server first."""
        return self._destinations[size]

    def groups(self, size: int) -> tuple[bytes, ...]:
        """Broadcast and multicast destinations."""
        return self._groups[size]

    def strangers(self, size: int) -> tuple[bytes, ...]:
        """Addresses that no packet on a link should have, or that lead to special places."""
        return _STRANGE[size]


def _checked(ports: Collection[int]) -> tuple[int, ...]:
    try:
        found = tuple(checked_port(each) for each in ports)
    except (ValueError, TypeError) as error:
        raise UsageError(f"ports: {ports!r:.100} is not a list of ports: {error}") from None
    if not found:
        raise UsageError("ports: the list is empty; give a port, or leave it out")
    return found


def _of_size(size: int, addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(address for address in addresses if len(address) == size)


def _near(address: bytes) -> bytes:
    """Another address of the same network."""
    return address[:-1] + bytes((address[-1] ^ 3,))


def _first(prefix: Prefix) -> list[bytes]:
    """The first and the second address of a network."""
    value = int.from_bytes(prefix.address, "big")
    last = value | (1 << 8 * len(prefix.address) - prefix.length) - 1
    return [min(value + step, last).to_bytes(len(prefix.address), "big") for step in (0, 1)]
