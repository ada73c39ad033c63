"""ARP (RFC 826): every address except the guest's own is at our Ethernet address.

Theory of operation. Only the guest and the network are on the segment, so every address that the guest resolves there
is reached through us. No state is kept.

Three kinds of request get no answer: requests for the guest's own address, because an answer would be a conflict;
announcements (RFC 5227, 2.3); and probes (sender 0.0.0.0; RFC 5227, 2.1.1), because the guest may use any address
except the gateway's, for which a probe is answered.
"""

from __future__ import annotations

from typing import Final

from sansnet_core import addresses
from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.wire import arp
from sansnet_core.wire.arp import ArpPacket
from sansnet_core.wire.ethernet import BROADCAST, ETHERTYPE_ARP

__all__ = ["Arp", "answer"]

_UNKNOWN_MAC: Final = bytes(6)


def answer(
    request: ArpPacket, *, mac: bytes, gateway: bytes | None, guest: tuple[bytes | None, ...]
) -> ArpPacket | None:
    """The reply to a packet from the guest; None if there is none.

    Args:
        request: the guest's packet.
        mac: our Ethernet address.
        gateway: our address on the segment.
        guest: the guest's addresses.
    """
    sender, target = request.sender, request.target
    if request.operation != arp.REQUEST or target == sender or target in guest:
        return None
    if addresses.is_unspecified(sender) and target != gateway:
        return None
    return ArpPacket(arp.REPLY, mac, target, request.sender_mac, sender)


@mypyc_attr(allow_interpreted_subclasses=True)
class Arp:
    """Answers the guest's ARP requests. At most one frame per frame received."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def locate_guest(self) -> None:
        """Request the guest's Ethernet address, to know it before the guest sends anything else."""
        if self._context.guest.ipv4 is not None:
            self.ask(self._context.guest.ipv4)

    def ask(self, address: bytes) -> None:
        """Request the Ethernet address of an address of the guest."""
        config = self._context.config
        gateway = (config.ipv4 and config.ipv4.gateway) or bytes(4)
        request = ArpPacket(arp.REQUEST, config.mac, gateway, _UNKNOWN_MAC, address)
        self._context.egress.frame(ETHERTYPE_ARP, arp.emit(request), BROADCAST)

    def receive(self, buf: Buffer, start: int, limit: int) -> None:
        """Take an ARP packet from the guest, which is between `start` and `limit` of `buf`.

        Raises:
            Malformed: with ARP_MALFORMED.
        """
        context = self._context
        request = arp.parse(buf, start, limit)
        if context.address_map.is_node(request.sender):
            if request.sender == request.target:
                context.guest.learn(request.sender)  # an announcement (RFC 5227, 2.3) of a new address
            context.guest.learn_station(request.sender, request.sender_mac)
        ipv4 = context.config.ipv4
        guest: tuple[bytes | None, ...] = (ipv4.address if ipv4 else None, context.guest.ipv4)
        if context.guest.stations.find(request.target) not in (None, request.sender_mac):
            guest += (request.target,)  # another station has it and will answer
        reply = answer(request, mac=context.config.mac, gateway=ipv4.gateway if ipv4 else None, guest=guest)
        if reply is None or not context.address_map.is_node(reply.sender):
            context.ignore()
        else:
            context.egress.frame(ETHERTYPE_ARP, arp.emit(reply), reply.target_mac)
