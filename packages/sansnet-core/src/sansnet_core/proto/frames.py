"""Checks the guest's frames, and hands each one to the module for its EtherType."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.wire import ethernet, virtio_net

__all__ = ["Frames", "Receive"]

Receive: TypeAlias = Callable[[Buffer, int, int], None]
"""Takes a frame, the offset of its payload, and its size in bytes."""

_FAMILIES: Final = frozenset({ethernet.ETHERTYPE_ARP, ethernet.ETHERTYPE_IPV4, ethernet.ETHERTYPE_IPV6})
_NEVER_FORWARDED: Final = b"\x01\x80\xc2\x00\x00"


@mypyc_attr(allow_interpreted_subclasses=True)
class Frames:
    """Receives frames.

    Args:
        context: of the network.
        ethertypes: EtherType, as 2 bytes -> its module's method.

    Attributes:
        start: bytes before the Ethernet header.
    """

    __slots__ = ("_context", "_ethertypes", "_mac", "_max_frame_size", "_verify", "start")

    def __init__(self, context: Context, ethertypes: Mapping[Buffer, Receive]) -> None:
        link = context.config.link
        self._context = context
        self._ethertypes = ethertypes
        self._mac = context.config.mac
        self._max_frame_size = link.max_frame_size
        self._verify = link.verify_checksums
        self.start = virtio_net.HEADER.size if link.vnet_header else 0

    def reconfigured(self) -> None:
        """The configuration was replaced."""
        self._verify = self._context.config.link.verify_checksums

    def receive(self, frame: Buffer) -> None:
        """Take a frame, behind a `virtio_net_hdr` if the link has it.

        Raises:
            Malformed: it is dropped.
        """
        context, start = self._context, self.start
        size = len(frame)
        if size - start > self._max_frame_size:
            tagged = frame[start + 12 : start + 14] == ethernet.ETHERTYPE_VLAN
            if size - start > self._max_frame_size + ethernet.TAG_SIZE or not tagged:
                raise Malformed(Reason.FRAME_TOO_LARGE)
        if size < start + ethernet.HEADER_SIZE:
            raise Malformed(Reason.ETHERNET_TRUNCATED)
        context.verify = self._verify
        context.gso_size = 0
        # The virtio_net_hdr matters for runs of datagrams (TCP is a stream), and to not verify partial checksums
        if start and (frame[1] == virtio_net.GSO_UDP_L4 or self._verify):
            header = virtio_net.parse(frame)
            context.gso_size = header.gso_size if header.gso_type == virtio_net.GSO_UDP_L4 else 0
            context.verify = self._verify and not header.flags
        destination, source = frame[start : start + 6], frame[start + 6 : start + 12]
        # A bridge in the guest sends frames between its stations here, too, while it does not know where a station is.
        # Linux sends to its own address where ARP is switched off.
        if not (destination == self._mac or destination[0] & 1 or destination == source):
            raise Malformed(Reason.ETHERNET_DESTINATION)
        if source != context.guest.mac:
            if source[0] & 1:
                raise Malformed(Reason.ETHERNET_SOURCE)
            context.guest.mac = bytes(source)
        ethertype = frame[start + 12 : start + 14]
        receive = self._ethertypes.get(ethertype)
        if receive is None:
            if ethertype == ethernet.ETHERTYPE_VLAN:
                frame = ethernet.without_priority_tag(frame, start)
                size = len(frame)
                receive = self._ethertypes.get(frame[start + 12 : start + 14])
            if receive is None:
                if _is_routine(frame[start : start + 14]):
                    context.ignore()
                    return
                raise Malformed(Reason.ETHERNET_TYPE)
        receive(frame, start + 14, size)


def _is_routine(header: Buffer) -> bool:
    """Whether a frame of an EtherType without a handler is of a kind that every guest sends, and so is no drop.

    That is a frame to a group of a family that is switched off (ARP, NDP, DHCP), or to one of the addresses that
    bridges never forward (IEEE 802.1Q, 8.6.3; spanning trees, LLDP, EAPOL).
    """
    if not header[0] & 1:
        return False
    return header[12:14] in _FAMILIES or (header[:5] == _NEVER_FORWARDED and header[5] < 16)
