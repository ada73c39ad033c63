"""The headers that the guest's next frames are expected to have, for the short cuts of TCP and UDP.

Theory of operation. Nearly every frame has the Ethernet addresses of the one before, and the guest's own IP address.
There is nothing to check or to learn from such headers, so a short cut compares them as a whole. They are made again
after each frame that took the ordinary path, since that may have changed what the network knows of the guest.
"""

from __future__ import annotations

from sansnet_core.config import NetworkConfig
from sansnet_core.guest_addresses import GuestAddresses
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

__all__ = ["ExpectedHeaders"]


@mypyc_attr(allow_interpreted_subclasses=True)
class ExpectedHeaders:
    """The expected headers; an empty one equals none.

    Args:
        config: of the network. On a link that must verify checksums, all frames take the ordinary path.
        guest: the guest's addresses.

    Attributes:
        stale: they may be out of date: call `refresh` before they are used.
        enabled: whether frames are expected at all.
        head4: the Ethernet header of IPv4 packets, and the first byte of an IPv4 header without options: 15 bytes.
        ethernet6: the Ethernet header of IPv6 packets, 14 bytes.
        guest4, guest6: their IP source.
    """

    __slots__ = ("_guest", "_mac", "_usable", "enabled", "ethernet6", "guest4", "guest6", "head4", "stale")

    def __init__(self, config: NetworkConfig, guest: GuestAddresses) -> None:
        self._guest = guest
        self._mac = config.mac
        self._usable = not config.link.verify_checksums
        self.enabled = True
        self.stale = True
        self.head4 = self.ethernet6 = self.guest4 = self.guest6 = b""

    def configure(self, config: NetworkConfig) -> None:
        """Follow another configuration."""
        self._usable = not config.link.verify_checksums
        self.stale = True

    def refresh(self) -> None:
        """Make them again: the guest's own addresses, as far as they are at its latest Ethernet address."""
        self.stale = False
        guest, find = self._guest, self._guest.stations.find
        usable = self.enabled and self._usable
        ethernet = self._mac + guest.mac
        self.head4 = ethernet + ETHERTYPE_IPV4 + b"\x45" if usable else b""
        self.ethernet6 = ethernet + ETHERTYPE_IPV6 if usable else b""
        self.guest4 = guest.ipv4 if guest.ipv4 and find(guest.ipv4) == guest.mac else b""
        self.guest6 = guest.ipv6 if guest.ipv6 and find(guest.ipv6) == guest.mac else b""
