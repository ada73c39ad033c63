"""Maps the guest's destinations to host addresses, and host addresses to those by which the guest reaches them.

The map is used once per flow. The first rule that matches a destination decides: the prefixes that exist in the
program only; our own resolver; a forwarded DNS server; the alias of the host's loopback; the alias of the host's
address that the guest also has; closed destinations; the address itself.

These destinations are closed: addresses that would reach the host's loopback without being configured for it, addresses
that are no unicast destination, addresses that exist on the guest's segment only, and broadcast addresses. Linux also
delivers a socket's broadcasts to the host's own sockets (`ip_mc_output`), and a program cannot turn that off. Ports do
not change, except for a name server at a port other than 53. Two destinations of the guest become one on the host only
if one of them was translated.

An outsider gets its address in the guest's packets by the first rule that applies: its alias, if its address is
127.0.0.1, ::1 or the guest's own address; its address itself, if the guest can reply to it; our address on the guest's
segment. Invalid sources are refused: a neighbour may broadcast from 0.0.0.0, and a reply to that address would reach
the host's own loopback.
"""

from __future__ import annotations

from errno import EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTUNREACH
from typing import Final

from sansnet_core.addresses import LOOPBACK, Endpoint, is_link_local, is_loopback, is_multicast
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import Reason
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.policy import NameMode
from sansnet_core.prefixes import PrefixTable
from sansnet_core.wire import dns

__all__ = ["AddressMap", "is_destination"]

_BROADCAST: Final = b"\xff" * 4
_V4_IN_V6: Final = (bytes(12), bytes(10) + b"\xff\xff")
"""IPv4-compatible (with :: and ::1 among them) and IPv4-mapped addresses (RFC 4291, 2.5.5)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressMap:
    """The rules of one network, from its configuration alone.

    Attributes:
        own: addresses that exist on the guest's segment only.
    """

    __slots__ = (
        "_aliases",
        "_broadcasts",
        "_dns",
        "_gateways",
        "_guests",
        "_hosts",
        "_leases",
        "_outbound",
        "_resolvers",
        "_virtual",
        "own",
    )

    def __init__(self, config: NetworkConfig) -> None:
        self.configure(config)

    def configure(self, config: NetworkConfig) -> None:
        """Follow another configuration."""
        self._virtual = PrefixTable((prefix, True) for prefix in config.virtual)
        names = config.resolver if config.resolver is not None and config.resolver.names is NameMode.OWN else None
        self._leases = PrefixTable((prefix, True) for prefix in ((names.prefix4, names.prefix6) if names else ()))
        """Addresses that stand for names: they lead to no host by themselves."""
        servers = (*config.dns_servers, *(match for match, _ in config.dns_forward))
        self._resolvers = frozenset(servers if config.resolver is not None else ())
        """Addresses at which our own resolver answers. Nothing else may: not even by DNS over TLS."""
        pairs = [pair for pair in config.dns_forward if not self._virtual.find(pair[0])]
        self._dns = dict(reversed(pairs))  # the first pair for an address counts
        own = {len(address): address for family in (config.ipv4, config.ipv6) if family and (address := family.address)}
        self._hosts = {alias: own[len(alias)] for alias in config.map_guest_address if len(alias) in own}
        self._hosts |= {alias: LOOPBACK[len(alias)] for alias in config.map_host_loopback}
        for alias in [alias for alias in self._hosts if self._virtual.find(alias)]:
            del self._hosts[alias]
        self._aliases = {host: alias for alias, host in self._hosts.items()}
        self._guests = frozenset(own.values())
        self.own = _own_addresses(config).difference(self._hosts)
        self._gateways: dict[int, bytes | None] = {}
        """Size of address -> gateway, for the families that are switched on."""
        if config.ipv4:
            self._gateways[4] = config.ipv4.gateway
        if config.ipv6:
            self._gateways[16] = config.ipv6.gateway
        self._outbound = {4: config.outbound4, 16: config.outbound6}
        self._broadcasts = {_BROADCAST}
        if config.ipv4 and config.ipv4.prefix_length < 31:  # RFC 3021: a /31 or /32 has none
            host_bits = (1 << (32 - config.ipv4.prefix_length)) - 1
            directed = int.from_bytes(config.ipv4.address, "big") | host_bits
            self._broadcasts.add(directed.to_bytes(4, "big"))

    def to_host(self, destination: bytes, port: int, *, groups: bool = False) -> Endpoint | None:
        """The host endpoint that a packet of the guest goes to.

        Args:
            destination: in the guest's packet, 4 or 16 bytes.
            port: in the guest's packet; 0 for a protocol without ports.
            groups: whether multicast destinations are allowed.

        Returns:
            None if the destination is closed.
        """
        if self.is_resolver(destination, port):
            return None
        if port in dns.PORTS and (server := self._dns.get(destination)) is not None:
            if port == dns.PORT:
                return server
            if server.port == dns.PORT:
                return Endpoint._make((server.address, port))
        host = self._hosts.get(destination)
        if host is None:
            if self.is_own(destination) or destination in self._broadcasts:
                return None
            if not (groups if self.is_group(destination) else self._is_direct(destination)):
                return None
            host = destination
        return Endpoint._make((host, port))

    def is_resolver(self, destination: bytes, port: int) -> bool:
        """Whether a port is one of our own resolver, so that nothing else answers there."""
        return port in dns.PORTS and destination in self._resolvers

    def is_own(self, address: bytes) -> bool:
        """Whether an address exists in the program only: an own address, or one in a virtual prefix."""
        return address in self.own or self._virtual.find(address) is not None

    def refusal(self, destination: bytes) -> Reason:
        """Why a destination is closed."""
        if self.is_own(destination) or destination in self._resolvers:
            return Reason.OWN_ADDRESS
        return Reason.IP_BROADCAST if destination in self._broadcasts else Reason.IP_DESTINATION

    def to_guest(self, host: bytes) -> bytes | None:
        """The address by which the guest can reach a unicast address of the host's side; None if there is none."""
        if is_loopback(host):
            return self._aliases.get(LOOPBACK[len(host)])
        return self._aliases.get(host) or (host if self._is_direct(host) and not self.is_own(host) else None)

    def reachable_as(self, host: Endpoint, alias: bytes | None, guest: GuestAddresses) -> Endpoint | None:
        """The endpoint by which the guest can send to a host endpoint; None if there is none.

        Args:
            host: the remote endpoint.
            alias: the only address that the guest's socket can send to; None if it can send to all.
            guest: the guest's addresses.
        """
        remote = Endpoint._make((alias or host.address, host.port))
        return None if self._is_guests(remote.address, guest) or self.to_host(*remote) != host else remote

    def _is_direct(self, address: bytes) -> bool:
        """Whether a unicast address is the same on both sides."""
        return is_destination(address) and self._leases.find(address) is None

    def _is_guests(self, address: bytes, guest: GuestAddresses) -> bool:
        return address in self._guests or address in (guest.ipv4, guest.ipv6, guest.link_local)

    def inbound(self, host: bytes, destination: bytes | None, guest: GuestAddresses) -> tuple[bytes, bytes] | Reason:
        """Source and destination of packets from an outsider to the guest, as the guest sees them.

        Args:
            host: the unicast address of the outsider, 4 or 16 bytes.
            destination: the guest's address; None for the current one.
            guest: the guest's addresses.

        Returns:
            Source and destination, or why there are none.
        """
        if len(host) not in self._gateways or (destination is not None and len(destination) != len(host)):
            return Reason.INBOUND_GUEST
        if _is_no_remote_host(host) and not is_loopback(host):
            return Reason.INBOUND_SOURCE
        source = self._aliases.get(host)
        if source is None:
            direct = self._is_direct(host) and host != destination and not self._is_guests(host, guest)
            source = host if direct and not self.is_own(host) else self._gateways[len(host)]
        if source is None:
            return Reason.INBOUND_SOURCE
        destination = destination or guest.address_for(source)
        return (source, destination) if destination else Reason.INBOUND_GUEST

    def from_program(
        self, source: bytes | None, destination: bytes | None, guest: GuestAddresses
    ) -> tuple[bytes, bytes] | int:
        """Source and destination of packets from the program itself to the guest.

        Args:
            source: our address, 4 or 16 bytes; None for the gateway.
            destination: the guest's address; None for its current one.
            guest: the guest's addresses.

        Returns:
            Source and destination, or the errno that connect() gives if there are none.
        """
        given = source or destination
        sizes = (len(given),) if given else tuple(self._gateways)
        if sizes[0] not in self._gateways or (source and destination and len(source) != len(destination)):
            return EAFNOSUPPORT
        errno = EADDRNOTAVAIL
        for size in sizes:
            ours = source or self._gateways[size]
            if ours is None or not self._is_program_source(ours, guest):
                continue
            theirs = destination or guest.address_for(ours)
            if theirs is not None and self.is_node(theirs) and not guest.is_ours(theirs):
                return ours, theirs
            errno = EHOSTUNREACH
        return errno

    def _is_program_source(self, address: bytes, guest: GuestAddresses) -> bool:
        exists = guest.is_ours(address) or self.is_own(address)
        return exists and self.is_node(address) and not self._is_guests(address, guest)

    def outbound(self, host: bytes) -> bytes | None:
        """Source address for a socket connected to `host`; None leaves the choice to the kernel.

        For loopback the kernel always chooses: resolvers that listen there answer only sources on loopback.
        """
        return None if is_loopback(host) else self._outbound[len(host)]

    def bound(self, host: bytes) -> bytes:
        """Address to which a socket that sends to `host` is bound; unspecified leaves the choice to the kernel.

        A socket that sends to loopback is bound to loopback, whichever interface the others are bound to.
        """
        size = len(host)
        return LOOPBACK[size] if is_loopback(host) else self._outbound[size] or bytes(size)

    def is_node(self, address: bytes) -> bool:
        """Whether a node on the guest's segment may have the address (RFC 1122, 3.2.1.3; RFC 4291, 2.5 to 2.7)."""
        if len(address) == 4:
            return not (address[0] == 0 or is_loopback(address) or self.is_group(address))
        # Not multicast, `::`, ::1, IPv4-mapped or IPv4-compatible
        return not (is_multicast(address) or address.startswith(bytes(10)))

    def is_group(self, destination: bytes) -> bool:
        """Whether more than one node may receive it: multicast beyond the node, and broadcast.

        Multicast of scope 0 or 1 never leaves the host (RFC 4291, 2.7), so a guest may not send to it.
        """
        if is_multicast(destination):
            return len(destination) == 4 or destination[1] & 15 > 1
        return destination in self._broadcasts


def _own_addresses(config: NetworkConfig) -> frozenset[bytes]:
    """Our addresses on the guest's segment that exist nowhere else, unless the configuration says otherwise."""
    if config.own_addresses is not None:
        return frozenset(config.own_addresses)
    gateways = {family.gateway for family in (config.ipv4, config.ipv6) if family and family.gateway}
    return frozenset(gateways | {match for match, _ in config.dns_forward})


def is_destination(address: bytes) -> bool:
    """Whether a unicast packet to the address can leave the host (RFC 6890, RFC 4291)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    if is_link_local(address):
        return not any(address[2:8])  # RFC 4291, 2.5.6; the guest must not choose a zone of the host
    return not (_is_no_remote_host(address) or is_multicast(address))


def _is_no_remote_host(address: bytes) -> bool:
    """Whether the address belongs to no remote host: unspecified, IPv4-mapped or IPv4-compatible, ::1 included."""
    return address[0] == 0 if len(address) == 4 else address[:12] in _V4_IN_V6
