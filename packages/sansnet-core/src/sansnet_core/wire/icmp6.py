"""ICMPv6 (RFC 4443), and the types and names of the messages of NDP (RFC 4861) and MLD (RFC 3810)."""

from __future__ import annotations

from typing import Final

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish, ones_sum, pseudo_sum
from sansnet_core.wire.icmp4 import HEADER, HEADER_SIZE, IcmpHeader, describe
from sansnet_core.wire.ip import ICMPV6, IpHeader

__all__ = [
    "ADDRESS_UNREACHABLE",
    "ADMINISTRATIVELY_PROHIBITED",
    "BEYOND_SCOPE",
    "DESTINATION_UNREACHABLE",
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "ERRONEOUS_HEADER_FIELD",
    "HEADER_SIZE",
    "HOP_LIMIT_EXCEEDED",
    "INCOMPLETE_HEADER_CHAIN",
    "MULTICAST_LISTENER",
    "NEIGHBOUR_ADVERTISEMENT",
    "NEIGHBOUR_SOLICITATION",
    "NO_ROUTE",
    "PACKET_TOO_BIG",
    "PARAMETER_PROBLEM",
    "PORT_UNREACHABLE",
    "REASSEMBLY_TIME_EXCEEDED",
    "REDIRECT",
    "REJECTED_ROUTE",
    "ROUTER_ADVERTISEMENT",
    "ROUTER_SOLICITATION",
    "SOURCE_POLICY",
    "TIME_EXCEEDED",
    "UNRECOGNIZED_NEXT_HEADER",
    "UNRECOGNIZED_OPTION",
    "IcmpHeader",
    "emit",
    "parse",
    "summary",
]

# Types: https://www.iana.org/assignments/icmpv6-parameters
DESTINATION_UNREACHABLE: Final = 1
PACKET_TOO_BIG: Final = 2
TIME_EXCEEDED: Final = 3
PARAMETER_PROBLEM: Final = 4
ECHO_REQUEST: Final = 128
ECHO_REPLY: Final = 129
ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
NEIGHBOUR_SOLICITATION: Final = 135
NEIGHBOUR_ADVERTISEMENT: Final = 136
REDIRECT: Final = 137
MULTICAST_LISTENER: Final = frozenset({130, 131, 132, 143})
"""Types of MLD (RFC 2710, RFC 3810): query, report, done, report of version 2."""

# Codes of DESTINATION_UNREACHABLE
NO_ROUTE: Final = 0
ADMINISTRATIVELY_PROHIBITED: Final = 1
BEYOND_SCOPE: Final = 2
ADDRESS_UNREACHABLE: Final = 3
PORT_UNREACHABLE: Final = 4
SOURCE_POLICY: Final = 5
REJECTED_ROUTE: Final = 6

# Codes of TIME_EXCEEDED
HOP_LIMIT_EXCEEDED: Final = 0
REASSEMBLY_TIME_EXCEEDED: Final = 1

# Codes of PARAMETER_PROBLEM
ERRONEOUS_HEADER_FIELD: Final = 0
UNRECOGNIZED_NEXT_HEADER: Final = 1
UNRECOGNIZED_OPTION: Final = 2
INCOMPLETE_HEADER_CHAIN: Final = 3
"""RFC 7112, 6."""

_NAMES: Final = {
    DESTINATION_UNREACHABLE: "destination unreachable",
    PACKET_TOO_BIG: "packet too big",
    TIME_EXCEEDED: "time exceeded",
    PARAMETER_PROBLEM: "parameter problem",
    ECHO_REQUEST: "echo request",
    ECHO_REPLY: "echo reply",
    ROUTER_SOLICITATION: "router solicitation",
    ROUTER_ADVERTISEMENT: "router advertisement",
    NEIGHBOUR_SOLICITATION: "neighbour solicitation",
    NEIGHBOUR_ADVERTISEMENT: "neighbour advertisement",
    REDIRECT: "redirect",
    143: "multicast listener report v2",
}


def parse(buf: Buffer, ip: IpHeader, verify: bool) -> IcmpHeader:
    """Read a header.

    Args:
        buf: holds the packet.
        ip: its IPv6 header.
        verify: check the checksum.

    Raises:
        Malformed: with ICMP_MALFORMED.
    """
    start = ip.start
    end = ip.end
    size = end - start
    if size < 8:
        raise Malformed(Reason.ICMP_MALFORMED)
    if verify and (pseudo_sum(ip.source, ip.destination, ICMPV6) + size + ones_sum(buf[start:end])) % 65535:
        raise Malformed(Reason.ICMP_MALFORMED)
    kind, code, _, rest = HEADER.unpack_from(buf, start)
    return tuple.__new__(IcmpHeader, (kind, code, rest, start + 8, end))


def emit(type: int, code: int, rest: int, payload: Buffer, source: bytes, destination: bytes) -> bytes:
    """A message with its checksum, which covers the addresses.

    Args:
        type: 8 bits.
        code: 8 bits.
        rest: the 32 bits behind the checksum; see `IcmpHeader`.
        payload: the bytes behind the 8 bytes of the header.
        source: 16 bytes.
        destination: 16 bytes.
    """
    total = pseudo_sum(source, destination, ICMPV6) + 8 + len(payload)
    checksum = finish(total + (type << 8) + code + rest + ones_sum(payload))
    return HEADER.pack(type, code, checksum, rest) + payload


def summary(buf: Buffer, ip: IpHeader, source: str, destination: str) -> str:
    """One line of text; the addresses are given as text."""
    ends = f"{source} > {destination}: ICMP6"
    try:
        icmp = parse(buf, ip, verify=False)
    except Malformed as error:
        return f"{ends}, {error}"
    return f"{ends}, {describe(icmp, _NAMES, (ECHO_REQUEST, ECHO_REPLY))}"
