"""Packets that real DHCP and DHCPv6 clients sent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sansnet_core.pcap import read
from sansnet_core.wire import ipv4, ipv6, udp
from sansnet_core.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from sansnet_core.wire.ip import UDP, IpHeader
from sansnet_core.wire.udp import UdpHeader

CLIENTS: Final = [
    frame for _, frame in read((Path(__file__).parents[1] / "vectors" / "configuration.pcap").read_bytes())
]
"""See tests/vectors/PROVENANCE.md."""


def datagrams(port: int) -> list[tuple[IpHeader, UdpHeader, bytes]]:
    """The datagrams to one port, in order."""
    found = []
    for frame in CLIENTS:
        if frame[12:14] == ETHERTYPE_IPV4:
            ip = ipv4.parse(frame, 14, len(frame))[0]
        elif frame[12:14] == ETHERTYPE_IPV6:
            ip = ipv6.parse(frame, 14, len(frame))[0]
        else:
            continue
        if ip.protocol == UDP:
            header = udp.parse(frame, ip, True)
            if header.destination_port == port:
                found.append((ip, header, frame))
    return found
