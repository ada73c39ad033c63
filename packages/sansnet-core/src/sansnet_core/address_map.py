"""Which host address a guest's destination means, and by which address the guest knows a host.

The rules are data, asked once per flow. Of a destination, in this order: a forwarded DNS server, the alias of the
host's loopback, the alias of the host's address that is the guest's own, closed destinations, and otherwise the address
itself. Closed is what would reach the host's own loopback without having been configured, what is no destination at
all, what exists on the guest's segment only, and broadcast: Linux delivers what a socket broadcasts to the host's own
sockets as well (`ip_mc_output`), and lets no program turn that off. Ports pass unchanged, but for
a name server at another port than DNS's; two destinations of the guest become one on the host only if one of them was
translated.

Of a host that comes from outside, in this order: its alias if it is 127.0.0.1, ::1 or the guest's own address; the
address itself, if the guest can answer to it; and otherwise our address on the guest's segment. A sender that is no
host is refused: a neighbour may broadcast from 0.0.0.0, and what is sent there reaches the host's own loopback.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.addresses import LOOPBACK, Endpoint, is_link_local, is_loopback, is_multicast
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import Reason
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.wire import dns

__all__ = ["AddressMap"]

_BROADCAST: Final = b"\xff" * 4
_V4_IN_V6: Final = (bytes(12), bytes(10) + b"\xff\xff")
"""IPv4-compatible (with :: and ::1 among them) and IPv4-mapped addresses (RFC 4291, 2.5.5)."""


class AddressMap:
    """The rules of one network; nothing but the configuration decides."""

    __slots__ = ("_aliases", "_broadcasts", "_dns", "_gateways", "_guests", "_hosts", "_outbound", "own")

    def __init__(self, config: NetworkConfig) -> None:
        self.configure(config)

    def configure(self, config: NetworkConfig) -> None:
        """Follow another configuration from now on."""
        self._dns = dict(reversed(config.dns_forward))  # of equals the first counts
        own = {len(address): address for family in (config.ipv4, config.ipv6) if family and (address := family.address)}
        self._hosts = {alias: own[len(alias)] for alias in config.map_guest_address if len(alias) in own}
        self._hosts |= {alias: LOOPBACK[len(alias)] for alias in config.map_host_loopback}
        self._aliases = {host: alias for alias, host in self._hosts.items()}
        self._guests = frozenset(own.values())
        self.own = _own_addresses(config) - self._hosts.keys()
        """Addresses that exist on the guest's segment only."""
        self._gateways: dict[int, bytes | None] = {}
        """By size of address; of the families that are on."""
        if config.ipv4:
            self._gateways[4] = config.ipv4.gateway
        if config.ipv6:
            self._gateways[16] = config.ipv6.gateway
        self._outbound = {4: config.outbound4, 16: config.outbound6}
        self._broadcasts = {_BROADCAST}
        if config.ipv4 and config.ipv4.prefix_length < 31:  # RFC 3021: shorter networks have none
            host_bits = (1 << (32 - config.ipv4.prefix_length)) - 1
            directed = int.from_bytes(config.ipv4.address, "big") | host_bits
            self._broadcasts.add(directed.to_bytes(4, "big"))

    def to_host(self, destination: bytes, port: int, *, groups: bool = False) -> Endpoint | None:
        """Where a packet of the guest goes.

        Args:
            destination: as the guest addressed it, 4 or 16 bytes.
            port: likewise; 0 for a protocol without ports.
            groups: whether multicast destinations are open.

        Returns:
            None if the destination is closed.
        """
        if port in dns.PORTS and (server := self._dns.get(destination)) is not None:
            if port == dns.PORT:
                return server
            if server.port == dns.PORT:
                return Endpoint(server.address, port)
        host = self._hosts.get(destination)
        if host is None:
            if destination in self.own or destination in self._broadcasts:
                return None
            if not (groups if self.is_group(destination) else _is_destination(destination)):
                return None
            host = destination
        return Endpoint(host, port)

    def refusal(self, destination: bytes) -> Reason:
        """Why a destination is closed."""
        if destination in self.own:
            return Reason.OWN_ADDRESS
        return Reason.IP_BROADCAST if destination in self._broadcasts else Reason.IP_DESTINATION

    def to_guest(self, host: bytes) -> bytes | None:
        """By which address the guest knows a host's unicast address; None if by none."""
        if is_loopback(host):
            return self._aliases.get(LOOPBACK[len(host)])
        return self._aliases.get(host) or (host if _is_destination(host) and host not in self.own else None)

    def reachable_as(self, host: Endpoint, alias: bytes | None, guest: GuestAddresses) -> Endpoint | None:
        """By which endpoint the guest could have asked a host's; None if by none.

        Args:
            host: the endpoint of an outsider.
            alias: the only address that the socket in question stands for; None if it stands for all hosts.
            guest: what is known of it.
        """
        seen = Endpoint(alias or host.address, host.port)
        return None if self._is_guests(seen.address, guest) or self.to_host(*seen) != host else seen

    def _is_guests(self, address: bytes, guest: GuestAddresses) -> bool:
        return address in self._guests or address in (guest.ipv4, guest.ipv6, guest.link_local)

    def inbound(self, host: bytes, destination: bytes | None, guest: GuestAddresses) -> tuple[bytes, bytes] | Reason:
        """Between which addresses a host from outside talks with the guest, as the guest sees it.

        Args:
            host: the outsider's unicast address, 4 or 16 bytes.
            destination: the guest's address; None for the one that is known.
            guest: what is known of it.

        Returns:
            Source and destination, or why there are none.
        """
        if len(host) not in self._gateways or (destination is not None and len(destination) != len(host)):
            return Reason.INBOUND_GUEST
        if _is_nobody(host) and not is_loopback(host):
            return Reason.INBOUND_SOURCE
        source = self._aliases.get(host)
        if source is None:
            known = _is_destination(host) and host != destination and not self._is_guests(host, guest)
            source = host if known and host not in self.own else self._gateways[len(host)]
        if source is None:
            return Reason.INBOUND_SOURCE
        destination = destination or guest.address_for(source)
        return (source, destination) if destination else Reason.INBOUND_GUEST

    def outbound(self, host: bytes) -> bytes | None:
        """Source address for a socket that talks to `host`; None leaves it to the kernel.

        Loopback is always left to the kernel: resolvers that listen there answer nobody else.
        """
        return None if is_loopback(host) else self._outbound[len(host)]

    def bound(self, host: bytes) -> bytes:
        """Address for a socket without a connection that talks to `host`; unspecified leaves it to the kernel.

        Who talks to loopback is on loopback, whichever interface other sockets are bound to.
        """
        size = len(host)
        return LOOPBACK[size] if is_loopback(host) else self._outbound[size] or bytes(size)

    def is_node(self, address: bytes) -> bool:
        """Whether a node on the guest's segment may have the address (RFC 1122, 3.2.1.3; RFC 4291, 2.5 to 2.7)."""
        if len(address) == 4:
            return not (address[0] == 0 or is_loopback(address) or self.is_group(address))
        # Neither `::` and ::1 nor IPv4-mapped and IPv4-compatible ones
        return not (is_multicast(address) or address.startswith(bytes(10)))

    def is_group(self, destination: bytes) -> bool:
        """Whether more than one node may answer: multicast that leaves the node, and broadcast.

        Multicast of scope 0 and 1 never leaves the host (RFC 4291, 2.7), so it is no destination for a guest.
        """
        if is_multicast(destination):
            return len(destination) == 4 or destination[1] & 15 > 1
        return destination in self._broadcasts


def _own_addresses(config: NetworkConfig) -> frozenset[bytes]:
    """What there is of ours on the guest's segment, and nowhere else unless the configuration says so."""
    if config.own_addresses is not None:
        return frozenset(config.own_addresses)
    gateways = {family.gateway for family in (config.ipv4, config.ipv6) if family and family.gateway}
    return frozenset(gateways | {match for match, _ in config.dns_forward})


def _is_destination(address: bytes) -> bool:
    """Whether a unicast packet to the address can leave the host (RFC 6890, RFC 4291)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    if is_link_local(address):
        return not any(address[2:8])  # RFC 4291, 2.5.6; a zone of the host's is not the guest's to choose
    return not (_is_nobody(address) or is_multicast(address))


def _is_nobody(address: bytes) -> bool:
    """Whether no host has the address, or none but as its loopback."""
    return address[0] == 0 if len(address) == 4 else address[:12] in _V4_IN_V6
