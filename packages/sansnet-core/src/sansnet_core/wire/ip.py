"""The header type and the protocol numbers that both IP families share."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ICMP", "ICMPV6", "IGMP", "TCP", "UDP", "IpHeader"]

# https://www.iana.org/assignments/protocol-numbers
ICMP: Final = 1
IGMP: Final = 2
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58


class IpHeader(NamedTuple):
    """A valid IPv4 or IPv6 header, after options or extension headers.

    Attributes:
        version: 4 or 6.
        source: 4 or 16 bytes.
        destination: 4 or 16 bytes.
        protocol: of the payload; for IPv6 the last next-header value of the chain.
        ttl: TTL or hop limit.
        tos: TOS or traffic class, with the ECN bits.
        header: offset of the IP header in the buffer.
        start: offset of the payload in the buffer.
        end: end of the payload; padding of the link may follow.
        may_fragment: whether the packet may be fragmented on its way, or was a fragment.
    """

    version: int
    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    tos: int
    header: int
    start: int
    end: int
    may_fragment: bool = False
