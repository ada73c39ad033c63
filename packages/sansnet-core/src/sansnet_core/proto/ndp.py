"""NDP (RFC 4861): every IPv6 address except the guest's own is at our Ethernet address; router advertisements.

Theory of operation. Solicitations are answered from the configuration alone. In addition, advertisements go to all
nodes: three at intervals of 16 seconds, then one every 200 to 600 seconds at random (RFC 4861, 6.2.1 and 10). The only
state is the number of the first three that remain, and the former configurations that they withdraw.

Duplicate address detection (RFC 4862, 5.4; its source is `::`) is answered for our own addresses only, since the guest
may use any other address. Solicitations for the guest's own addresses are not answered. Advertisements and redirects
from the guest are ignored: we are the only router.
"""

from __future__ import annotations

from math import inf
from typing import Final

from sansnet_core import addresses
from sansnet_core.config import IPV6_MIN_MTU, NetworkConfig
from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.wire import icmp6, ndp
from sansnet_core.wire.icmp6 import IcmpHeader
from sansnet_core.wire.ip import ICMPV6, IpHeader
from sansnet_core.wire.ndp import RouterAdvertisement

__all__ = ["Ndp", "advertise", "withdraw"]

ROUTER_LIFETIME: Final = 65535
"""Seconds; the maximum (RFC 8319), since the network outlives the guest."""

_MAX_FORMER: Final = 4
"""Most former configurations that are withdrawn."""

INITIAL_COUNT: Final = 3
INITIAL_INTERVAL: Final = 16.0
MIN_INTERVAL: Final = 200.0
MAX_INTERVAL: Final = 600.0


def advertise(config: NetworkConfig) -> RouterAdvertisement | None:
    """The router advertisement for the guest; None if the configuration switches it off."""
    if config.ipv6 is None or not (config.ndp and config.router_advertisements):
        return None
    address = config.ipv6.address
    # A router should not advertise the link-local prefix (RFC 4861, 4.6.2)
    prefix = None if address is None or addresses.is_link_local(address) else address[:8]
    flags = 0
    if config.dhcp6:
        flags = ndp.OTHER if prefix is None else ndp.MANAGED | ndp.OTHER
    mtu = config.link.mtu
    return RouterAdvertisement(
        flags=flags,
        lifetime=ROUTER_LIFETIME,
        prefix=prefix,
        mac=config.mac,
        mtu=mtu if config.advertise_mtu and mtu >= IPV6_MIN_MTU else None,
        servers=tuple(server for server in config.dns_servers if len(server) == 16),
        search=config.dns_search,
    )


def withdraw(old: NetworkConfig, new: NetworkConfig) -> RouterAdvertisement | None:
    """An advertisement from the old gateway that withdraws outdated values (RFC 4861, 6.2.5 and 6.2.8)."""
    before, after = advertise(old), advertise(new)
    if before is None or after is None or old.ipv6 is None or new.ipv6 is None:
        return None
    stays = old.ipv6.gateway == new.ipv6.gateway
    gone = before._replace(
        lifetime=ROUTER_LIFETIME if stays else 0,
        prefix=before.prefix if before.prefix != after.prefix else None,
        mtu=None,
        servers=tuple(server for server in before.servers if server not in after.servers),
        search=tuple(domain for domain in before.search if domain not in after.search),
        valid=0,
    )
    return None if stays and not (gone.prefix or gone.servers or gone.search) else gone


@mypyc_attr(allow_interpreted_subclasses=True)
class Ndp:
    """Answers solicitations and advertises the router. At most one frame per frame received."""

    def __init__(self, context: Context) -> None:
        self.deadline = self.queued = inf
        self.ticket = 0
        self._context = context
        self._initial = INITIAL_COUNT
        self._former: list[NetworkConfig] = []
        """Configurations that were advertised and must be withdrawn, the latest last."""
        self._configure()

    def _configure(self) -> None:
        config = self._context.config
        self._gateway = config.ipv6.gateway if config.ipv6 else bytes(16)
        self._address = config.ipv6.address if config.ipv6 else None
        advertisement = advertise(config)
        self._advertisement = ndp.advertise_router(advertisement, config.link.mtu) if advertisement else None

    def reconfigured(self, old: NetworkConfig) -> None:
        """Follow the context's new configuration; if the advertisement changes, send it when time next advances."""
        before = self._advertisement, self._gateway
        self._configure()
        if (self._advertisement, self._gateway) != before:
            self._former = [*self._former, old][-_MAX_FORMER:]
            self._initial = INITIAL_COUNT
            self.start()

    def start(self) -> None:
        """Send the first unsolicited advertisement when time next advances, if they are switched on."""
        if self._advertisement is not None:
            self._context.timers.arm(self, self._context.now)

    def locate_guest(self) -> None:
        """Request the guest's Ethernet address, to know it before the guest sends anything else."""
        if self._context.guest.ipv6 is not None:
            self.ask(self._context.guest.ipv6)

    def ask(self, address: bytes) -> None:
        """Request the Ethernet address of an address of the guest."""
        rest, payload = ndp.solicit_neighbour(address, self._context.config.mac)
        self._send(icmp6.NEIGHBOUR_SOLICITATION, rest, payload, self._gateway, ndp.solicited_node(address))

    def receive(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer) -> None:
        """Take an NDP message from the guest, of ICMPv6 type 133 to 137.

        Raises:
            Malformed: with NDP_MALFORMED.
        """
        if not self._context.config.ndp or icmp.type not in (icmp6.ROUTER_SOLICITATION, icmp6.NEIGHBOUR_SOLICITATION):
            self._context.ignore()
            return
        target, mac = ndp.parse(buf, ip, icmp)
        unspecified = addresses.is_unspecified(ip.source)
        if target is None:
            if self._advertisement is None:
                self._context.ignore()
            self._advertise(ndp.ALL_NODES if unspecified else ip.source, mac)
            return
        guest = self._context.guest
        if not self._context.address_map.is_node(target):  # not an address that a node may answer from
            self._context.ignore()
            return
        if unspecified:
            if guest.is_ours(target) and target != self._address:
                rest, payload = ndp.advertise_neighbour(
                    target, self._context.config.mac, override=True, solicited=False
                )
                self._send(icmp6.NEIGHBOUR_ADVERTISEMENT, rest, payload, target, ndp.ALL_NODES)
            else:
                guest.learn(target)  # the guest will use the address
                self._context.ignore()
            return
        another = guest.stations.find(target) not in (None, guest.mac)  # another station, which will answer
        if another or target in (self._address, guest.ipv6, guest.link_local, ip.source):
            self._context.ignore()
            return
        # An unknown station may have it; then its answer overrides ours (RFC 4861, 7.2.8)
        rest, payload = ndp.advertise_neighbour(target, self._context.config.mac, override=guest.is_ours(target))
        self._send(icmp6.NEIGHBOUR_ADVERTISEMENT, rest, payload, target, ip.source, mac)

    def expire(self) -> None:
        """Send an unsolicited advertisement and arm the next one."""
        for old in self._former:
            gone = withdraw(old, self._context.config)
            if gone is not None and old.ipv6 is not None:
                rest, payload = ndp.advertise_router(gone, self._context.config.link.mtu)
                self._send(icmp6.ROUTER_ADVERTISEMENT, rest, payload, old.ipv6.gateway, ndp.ALL_NODES)
        self._advertise(ndp.ALL_NODES)
        context = self._context
        self._initial = max(self._initial - 1, 0)
        if self._initial:
            interval = INITIAL_INTERVAL
        else:
            self._former.clear()
            interval = MIN_INTERVAL + (MAX_INTERVAL - MIN_INTERVAL) * context.entropy.next(16) / 65535
        context.timers.arm(self, context.now + interval)

    def _advertise(self, destination: bytes, mac: bytes | None = None) -> None:
        if self._advertisement is not None:
            rest, payload = self._advertisement
            self._send(icmp6.ROUTER_ADVERTISEMENT, rest, payload, self._gateway, destination, mac)

    def _send(
        self, kind: int, rest: int, payload: bytes, source: bytes, destination: bytes, mac: bytes | None = None
    ) -> None:
        if addresses.is_multicast(destination):
            mac = ndp.multicast_mac(destination)
        message = icmp6.emit(kind, 0, rest, payload, source, destination)
        self._context.egress.packet(source, destination, ICMPV6, message, mac=mac)
