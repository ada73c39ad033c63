"""Hands each ICMP or ICMPv6 message of the guest to the module for its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.wire import icmp4, icmp6, quoted
from sansnet_core.wire.icmp4 import IcmpHeader
from sansnet_core.wire.ip import TCP, UDP, IpHeader
from sansnet_core.wire.quoted import Quoted

__all__ = ["Icmp"]

_NDP_TYPES: Final = range(133, 138)

Receive: TypeAlias = Callable[[IpHeader, IcmpHeader, Buffer], None]
"""Takes a message."""


class Unreachable(Protocol):
    """Takes an error about a segment to the guest, and whether the port is unreachable; returns whether it is known."""

    def __call__(self, packet: Quoted, *, port: bool) -> bool: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Icmp:
    """Receives ICMP and ICMPv6 messages.

    Args:
        context: of the network.
        echo4, echo6: take echo requests, and count all types that are not handled.
        ndp: takes neighbour discovery.
        unreachable: takes errors about TCP's segments to the guest.
        too_big: takes requests for smaller segments to the guest, with the MTU; returns whether they are credible.
        refused: takes datagrams to a closed port of the guest; returns whether the program has sent them.
    """

    __slots__ = ("_context", "_echo4", "_echo6", "_ndp", "_refused", "_too_big", "_unreachable")

    def __init__(
        self,
        context: Context,
        echo4: Receive,
        echo6: Receive,
        ndp: Receive,
        unreachable: Unreachable,
        too_big: Callable[[Quoted, int], bool],
        refused: Callable[[Quoted], bool],
    ) -> None:
        self._context = context
        self._echo4 = echo4
        self._echo6 = echo6
        self._ndp = ndp
        self._unreachable = unreachable
        self._too_big = too_big
        self._refused = refused

    def receive4(self, ip: IpHeader, buf: Buffer) -> None:
        """Take an ICMP message.

        Raises:
            Malformed: it is dropped.
        """
        icmp = icmp4.parse(buf, ip, self._context.verify)
        if icmp.type != icmp4.DESTINATION_UNREACHABLE:
            self._echo4(ip, icmp, buf)
        elif icmp.code == icmp4.FRAGMENTATION_NEEDED:
            self._receive_too_big(ip, icmp, buf, icmp.rest & 0xFFFF)
        else:
            self._receive_unreachable(ip, icmp, buf, port=icmp.code == icmp4.PORT_UNREACHABLE)

    def receive6(self, ip: IpHeader, buf: Buffer) -> None:
        """Take an ICMPv6 message.

        Raises:
            Malformed: it is dropped.
        """
        icmp = icmp6.parse(buf, ip, self._context.verify)
        if icmp.type in _NDP_TYPES:
            self._ndp(ip, icmp, buf)
        elif icmp.type == icmp6.DESTINATION_UNREACHABLE:
            self._receive_unreachable(ip, icmp, buf, port=icmp.code == icmp6.PORT_UNREACHABLE)
        elif icmp.type == icmp6.PACKET_TOO_BIG:
            self._receive_too_big(ip, icmp, buf, icmp.rest)
        elif icmp.type in icmp6.MULTICAST_LISTENER:  # groups are not joined on the host
            self._context.ignore()
        else:
            self._echo6(ip, icmp, buf)

    def ignore(self, ip: IpHeader, buf: Buffer) -> None:
        """Count a packet that needs no answer: IGMP, since groups are not joined on the host."""
        self._context.ignore()

    def _receive_unreachable(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer, *, port: bool) -> None:
        """Process an error about a packet that was sent to the guest.

        It may only refuse a new connection, or tell the program that its datagram found a closed port.
        """
        packet = quoted.parse(buf, ip, icmp)
        known = False
        if packet is not None and packet.protocol == TCP:
            known = self._unreachable(packet, port=port)
        elif packet is not None and packet.protocol == UDP and port:
            known = self._refused(packet)
        if not known:
            raise Malformed(Reason.ICMP_TYPE)

    def _receive_too_big(self, ip: IpHeader, icmp: IcmpHeader, buf: Buffer, mtu: int) -> None:
        """Process a router's request for smaller packets to the guest; only TCP can follow it."""
        packet = quoted.parse(buf, ip, icmp)
        if packet is None or packet.protocol != TCP:
            raise Malformed(Reason.ICMP_TYPE)
        if not self._too_big(packet, mtu):
            raise Malformed(Reason.ICMP_MTU)
