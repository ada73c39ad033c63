"""IPv6 packets from the guest: checks, reassembly, dispatch by protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sansnet_core.addresses import is_multicast
from sansnet_core.context import Context
from sansnet_core.errors import HeaderProblem, Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.reassembly import ETHERNET, Reassembly
from sansnet_core.wire import icmp6, ipv6
from sansnet_core.wire.ip import ICMPV6, IpHeader

__all__ = ["Ipv6"]

_UNSPECIFIED: Final = bytes(16)
_MAX_PAYLOAD: Final = 65535
"""Most bytes behind the header of a packet."""
_PAYLOAD_LENGTH: Final = 4
"""Offset of the payload length in the header."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Ipv6:
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
        self._reassembly = Reassembly(context, icmp_errors, _MAX_PAYLOAD)

    def receive(self, buf: Buffer, start: int, limit: int) -> None:
        """Take a packet from the guest.

        Args:
            buf: the frame.
            start: offset of its payload.
            limit: end of its payload.

        Raises:
            Malformed: with an IPV6, FRAGMENT or IP reason, or one of the protocol's handler.
        """
        guest = self._guest
        try:
            ip, identification, fragment = ipv6.parse(buf, start, limit)
            if buf[start - 14] & 1 and not is_multicast(ip.destination):  # RFC 1122, 3.3.6
                raise Malformed(Reason.IP_BROADCAST)
            known = ip.source in (guest.ipv6, guest.link_local)
            if not known or self._stations.find(ip.source) != guest.mac:
                self._learn(ip, fragment)
            if fragment:
                whole = self._reassemble(ip, identification, fragment, buf)
                if whole is None:
                    return
                buf, start = whole, 14
                ip, _, fragment = ipv6.parse(buf, start, len(buf))
                if fragment:  # fragments of fragments
                    raise Malformed(Reason.IPV6_EXTENSION)
                ip = ip._replace(may_fragment=True)
        except HeaderProblem as problem:
            self._icmp_errors.header_problem(problem, buf, start)
            raise
        try:
            handler = self._handlers.get(ip.protocol)
            if handler is None:
                raise Malformed(Reason.IP_PROTOCOL)
            handler(ip, buf)
        except Malformed as malformed:
            self._icmp_errors.refuse(malformed.reason, ip, buf)
            raise

    def _reassemble(self, ip: IpHeader, identification: int, fragment: int, buf: Buffer) -> bytes | None:
        """The whole packet behind an Ethernet header; None until a fragment completes it."""
        key = (ip.source, ip.destination, identification)
        offset, more = fragment & ipv6.OFFSET, fragment & ipv6.MORE_FRAGMENTS != 0
        data = bytes(buf[ip.start : ip.end])
        # RFC 8200, 4.5: these errors are reported to the sender
        if not offset and not ipv6.has_all_headers(buf, ip.protocol, ip.start, ip.end):
            raise HeaderProblem(Reason.IPV6_EXTENSION, icmp6.INCOMPLETE_HEADER_CHAIN, 0)
        if more and len(data) & 7:
            raise HeaderProblem(Reason.FRAGMENT_MALFORMED, icmp6.ERRONEOUS_HEADER_FIELD, _PAYLOAD_LENGTH)
        if offset + len(data) > _MAX_PAYLOAD:
            field = ip.start - ipv6.FRAGMENT_HEADER_SIZE + 2 - ip.header
            raise HeaderProblem(Reason.FRAGMENT_MALFORMED, icmp6.ERRONEOUS_HEADER_FIELD, field)
        whole = self._reassembly.add(key, ip, offset, more, data)
        if whole is None:
            return None
        first, data = whole
        self._context.gso_size = 0  # it describes only the frame of the last fragment
        head = ipv6.emit_header(ip.source, ip.destination, first.protocol, len(data), first.ttl, first.tos)
        return ETHERNET + head + data

    def _learn(self, ip: IpHeader, fragment: int) -> None:
        """Adopt the source as the guest's address and remember its station, if a guest may use the address."""
        source = ip.source
        if source == _UNSPECIFIED:
            if fragment or ip.protocol != ICMPV6:  # NDP and MLD are sent before there is an address
                raise Malformed(Reason.IP_SOURCE)
        elif not self._address_map.is_node(source) or self._guest.is_spoofed(source):
            raise Malformed(Reason.IP_SOURCE)
        else:
            self._guest.learn(source)
