"""The guest's addresses, learnt from its own packets."""

from __future__ import annotations

from sansnet_core.addresses import is_link_local
from sansnet_core.config import NetworkConfig
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.stations import Stations
from sansnet_core.wire.ethernet import BROADCAST

__all__ = ["GuestAddresses"]


@mypyc_attr(allow_interpreted_subclasses=True)
class GuestAddresses:
    """Addresses of one guest, as configured and as its packets show them.

    Attributes:
        mac: Ethernet source of the latest frame from the guest; the broadcast address until the guest has sent one.
        stations: Ethernet address of each IP address that the guest has used.
        ipv4, ipv6, link_local: the guest's addresses; None until configured or learnt.
    """

    __slots__ = ("_learns", "_only_ours", "_ours", "ipv4", "ipv6", "link_local", "mac", "stations")

    def __init__(self, config: NetworkConfig) -> None:
        self.mac = config.guest_mac or BROADCAST
        self.stations = Stations(config.limits.stations)
        self.ipv4 = config.ipv4.address if config.ipv4 else None
        self.ipv6 = config.ipv6.address if config.ipv6 else None
        self.link_local: bytes | None = None
        self.configure(config)

    def configure(self, config: NetworkConfig) -> None:
        """Follow another configuration: the network's own addresses, and whether the guest's addresses are learnt."""
        self._learns = config.learn_addresses
        self._ours = {*config.map_host_loopback, *config.map_guest_address, *(match for match, _ in config.dns_forward)}
        self._ours.update(config.own_addresses or ())
        self._ours |= {family.gateway for family in (config.ipv4, config.ipv6) if family and family.gateway}

        configured = {family.address for family in (config.ipv4, config.ipv6) if family}
        self._only_ours = self._ours - configured

    def is_ours(self, address: bytes) -> bool:
        """Whether the network, not the guest, has the address on the segment."""
        return address in self._ours

    def is_spoofed(self, source: bytes) -> bool:
        """Whether a packet of the guest pretends to come from the network, by an address that only the network has."""
        return source in self._only_ours

    def is_located(self, address: bytes) -> bool:
        """Whether it is known where to send packets for an address of the guest."""
        if self.mac == BROADCAST:  # no frame of the guest has come yet
            return False
        return self.stations.find(address) is not None or address in (self.ipv4, self.ipv6, self.link_local)

    def learn(self, source: bytes) -> None:
        """Adopt `source` as the guest's address, unless the network itself has it.

        The caller has checked that a guest may use it. A link-local IPv6 address is learnt even if the others are
        fixed, since no configuration sets it.
        """
        if source in self._ours:
            return
        self.stations.learn(source, self.mac)
        if len(source) == 16 and is_link_local(source):
            self.link_local = source
        elif not self._learns:
            return
        elif len(source) == 4:
            self.ipv4 = source
        else:
            self.ipv6 = source

    def learn_station(self, address: bytes, mac: bytes) -> None:
        """Remember the Ethernet address of an IP address of the guest, unless the network itself has the address."""
        if address not in self._ours:
            self.stations.learn(address, mac)

    def address_for(self, peer: bytes) -> bytes | None:
        """The guest's address that `peer` reaches it by; None if none is known."""
        if len(peer) == 4:
            return self.ipv4
        if is_link_local(peer):
            return self.link_local or self.ipv6
        return self.ipv6 or self.link_local
