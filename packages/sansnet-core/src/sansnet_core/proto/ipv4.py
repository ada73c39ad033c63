"""IPv4 packets from the guest: checks, reassembly, dispatch by protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.reassembly import ETHERNET, Reassembly
from sansnet_core.wire import ipv4
from sansnet_core.wire.ip import IGMP, UDP, IpHeader

__all__ = ["Ipv4"]

_UNSPECIFIED: Final = bytes(4)
_DHCP_SERVER_PORT: Final = b"\0\x43"


@mypyc_attr(allow_interpreted_subclasses=True)
class Ipv4:
    """Checks packets, reassembles fragments and calls the protocols' handlers.

    Args:
        context: of the network.
        icmp_errors: of the network.
        handlers: by IP protocol number; called with the header and the buffer that it refers to.
    """

    def __init__(
        self, context: Context, icmp_errors: IcmpErrors, handlers: Mapping[int, Callable[[IpHeader, Buffer], None]]
    ) -> None:
        self._context = context
        self._guest = context.guest
        self._stations = context.guest.stations
        self._address_map = context.address_map
        self._handlers = handlers
        self._icmp_errors = icmp_errors
        self._reassembly = Reassembly(context, icmp_errors, 65535 - ipv4.HEADER_SIZE)

    def receive(self, buf: Buffer, start: int, limit: int) -> None:
        """Take a packet from the guest.

        Args:
            buf: the frame.
            start: offset of its payload.
            limit: end of its payload.

        Raises:
            Malformed: with an IPV4, FRAGMENT or IP reason, or one of the protocol's handler.
        """
        ip, identification, fragment = ipv4.parse(buf, start, limit)
        if ip.start - start > ipv4.HEADER_SIZE and ipv4.is_routed(buf, start + ipv4.HEADER_SIZE, ip.start):
            raise Malformed(Reason.IPV4_SOURCE_ROUTE)  # RFC 7126, 4.3 and 4.4
        if buf[start - 14] & 1 and not (
            self._address_map.is_group(ip.destination) or self._is_served(ip, fragment, buf)
        ):
            raise Malformed(Reason.IP_BROADCAST)  # RFC 1122, 3.3.6; most are broadcasts of a network of the guest
        if ip.source != self._guest.ipv4 or self._stations.find(ip.source) != self._guest.mac:
            self._learn(ip, fragment, buf)
        if fragment & ipv4.FRAGMENTED:
            key = (ip.source, ip.destination, ip.protocol, identification)
            offset = (fragment & ipv4.OFFSET) << 3
            data = bytes(buf[ip.start : ip.end])
            more = fragment & ipv4.MORE_FRAGMENTS != 0
            whole = self._reassembly.add(key, ip, offset, more, data)
            if whole is None:
                return
            first, data = whole
            self._context.gso_size = 0  # it describes only the frame of the last fragment
            head = ipv4.emit_header(ip.source, ip.destination, ip.protocol, len(data), first.ttl, first.tos, 0, 0)
            buf = ETHERNET + head + data
            ip, _, _ = ipv4.parse(buf, 14, len(buf), verify=False)
        try:
            handler = self._handlers.get(ip.protocol)
            if handler is None:
                raise Malformed(Reason.IP_PROTOCOL)
            handler(ip, buf)
        except Malformed as malformed:
            self._icmp_errors.refuse(malformed.reason, ip, buf)
            raise

    def _is_served(self, ip: IpHeader, fragment: int, buf: Buffer) -> bool:
        """Whether a packet is a whole datagram to a service of the program: that may be at any broadcast address."""
        if ip.protocol != UDP or fragment & ipv4.FRAGMENTED or ip.end - ip.start < 8:
            return False
        port = int.from_bytes(buf[ip.start + 2 : ip.start + 4], "big")
        return self._context.services.find(UDP, ip.destination, port, own=False) is not None

    def _learn(self, ip: IpHeader, fragment: int, buf: Buffer) -> None:
        """Adopt the source as the guest's address and remember its station, if a guest may use the address."""
        source = ip.source
        if source == _UNSPECIFIED:
            # Without an address, a guest may only send DHCP requests and report groups (RFC 3376, 4.2.13)
            whole = not fragment & ipv4.FRAGMENTED
            if whole and ip.protocol == UDP and buf[ip.start + 2 : ip.start + 4] == _DHCP_SERVER_PORT:
                return
            if not whole or ip.protocol != IGMP:
                raise Malformed(Reason.IP_SOURCE)
        elif not self._address_map.is_node(source) or self._guest.is_spoofed(source):
            raise Malformed(Reason.IP_SOURCE)
        else:
            self._guest.learn(source)
