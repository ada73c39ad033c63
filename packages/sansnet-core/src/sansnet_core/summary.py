"""One line per frame, in tcpdump's style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sansnet_core import addresses
from sansnet_core.errors import Malformed
from sansnet_core.orders import Buffer
from sansnet_core.wire import arp, ethernet, icmp4, icmp6, ipv4, ipv6, tcp, udp
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP, IpHeader

__all__ = ["summary"]

_PROTOCOLS: Final[dict[tuple[int, int], Callable[[Buffer, IpHeader, str, str], str]]] = {
    (4, ICMP): icmp4.summary,
    (4, TCP): tcp.summary,
    (4, UDP): udp.summary,
    (6, ICMPV6): icmp6.summary,
    (6, TCP): tcp.summary,
    (6, UDP): udp.summary,
}
"""IP version and protocol -> function that describes the payload."""


def summary(frame: Buffer) -> str:
    """Describe a frame, given without `virtio_net_hdr`; never raises."""
    ethertype = frame[12:14]
    start, limit = ethernet.HEADER_SIZE, len(frame)
    if ethertype == ethernet.ETHERTYPE_ARP:
        return arp.summary(frame, start, limit)
    try:
        if ethertype == ethernet.ETHERTYPE_IPV4:
            ip, identification, fragment = ipv4.parse(frame, start, limit, verify=False)
            offset = (fragment & ipv4.OFFSET) << 3
            return "IP " + _packet(frame, ip, identification, offset, fragment & ipv4.MORE_FRAGMENTS != 0)
        if ethertype == ethernet.ETHERTYPE_IPV6:
            ip, identification, fragment = ipv6.parse(frame, start, limit)
            offset = fragment & ipv6.OFFSET
            return "IP6 " + _packet(frame, ip, identification, offset, fragment & ipv6.MORE_FRAGMENTS != 0)
    except Malformed as error:
        return f"{ethernet.summary(frame)}: {error}"
    return ethernet.summary(frame)


def _packet(frame: Buffer, ip: IpHeader, identification: int, offset: int, more: bool) -> str:
    source, destination = addresses.format(ip.source), addresses.format(ip.destination)
    describe = _PROTOCOLS.get((ip.version, ip.protocol))
    if describe and not (offset or more):
        return describe(frame, ip, source, destination)
    text = f"{source} > {destination}: protocol {ip.protocol}, length {ip.end - ip.start}"
    if offset or more:
        text += f", fragment of {identification} at {offset}" + (", more follow" if more else "")
    return text
