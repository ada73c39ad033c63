"""ICMP (RFC 792)."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire.checksum import finish, ones_sum
from sansnet_core.wire.ip import IpHeader

__all__ = [
    "ADMINISTRATIVELY_PROHIBITED",
    "DESTINATION_UNREACHABLE",
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "FRAGMENTATION_NEEDED",
    "HEADER",
    "HEADER_SIZE",
    "HOST_PROHIBITED",
    "HOST_UNKNOWN",
    "HOST_UNREACHABLE",
    "NETWORK_PROHIBITED",
    "NETWORK_UNKNOWN",
    "NETWORK_UNREACHABLE",
    "PARAMETER_PROBLEM",
    "PORT_UNREACHABLE",
    "PROTOCOL_UNREACHABLE",
    "REASSEMBLY_TIME_EXCEEDED",
    "SOURCE_ROUTE_FAILED",
    "TIME_EXCEEDED",
    "TTL_EXCEEDED",
    "IcmpHeader",
    "describe",
    "emit",
    "parse",
    "summary",
]

HEADER: Final = Struct("!BBHI")
"""The header in both families: type, code, checksum, rest of the header."""
HEADER_SIZE: Final = 8

# Types: https://www.iana.org/assignments/icmp-parameters
ECHO_REPLY: Final = 0
DESTINATION_UNREACHABLE: Final = 3
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

# Codes of DESTINATION_UNREACHABLE
NETWORK_UNREACHABLE: Final = 0
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
SOURCE_ROUTE_FAILED: Final = 5
NETWORK_UNKNOWN: Final = 6
HOST_UNKNOWN: Final = 7
HOST_ISOLATED: Final = 8
NETWORK_PROHIBITED: Final = 9
HOST_PROHIBITED: Final = 10
ADMINISTRATIVELY_PROHIBITED: Final = 13

# Codes of TIME_EXCEEDED
TTL_EXCEEDED: Final = 0
REASSEMBLY_TIME_EXCEEDED: Final = 1

_NAMES: Final = {
    ECHO_REPLY: "echo reply",
    DESTINATION_UNREACHABLE: "destination unreachable",
    ECHO_REQUEST: "echo request",
    TIME_EXCEEDED: "time exceeded",
    PARAMETER_PROBLEM: "parameter problem",
}


class IcmpHeader(NamedTuple):
    """A valid ICMP or ICMPv6 header.

    Attributes:
        type: of the message.
        code: depends on the type.
        rest: the 32 bits behind the checksum. Echo: identifier << 16 | sequence number. ICMP type 3, code 4: the MTU in
            the lower half. ICMPv6 type 2: the MTU.
        start: offset in the buffer of the message behind this header.
        end: end of the message.
    """

    type: int
    code: int
    rest: int
    start: int
    end: int


def parse(buf: Buffer, ip: IpHeader, verify: bool) -> IcmpHeader:
    """Read a header.

    Args:
        buf: holds the packet.
        ip: its IPv4 header.
        verify: check the checksum.

    Raises:
        Malformed: with ICMP_MALFORMED.
    """
    start = ip.start
    end = ip.end
    if end - start < 8 or (verify and ones_sum(buf[start:end])):
        raise Malformed(Reason.ICMP_MALFORMED)
    kind, code, _, rest = HEADER.unpack_from(buf, start)
    return tuple.__new__(IcmpHeader, (kind, code, rest, start + 8, end))


def emit(type: int, code: int, rest: int, payload: Buffer) -> bytes:
    """A message with its checksum.

    Args:
        type: 8 bits.
        code: 8 bits.
        rest: the 32 bits behind the checksum; see `IcmpHeader`.
        payload: the bytes behind the 8 bytes of the header.
    """
    checksum = finish((type << 8) + code + rest + ones_sum(payload))
    return HEADER.pack(type, code, checksum, rest) + payload


def summary(buf: Buffer, ip: IpHeader, source: str, destination: str) -> str:
    """One line of text; the addresses are given as text."""
    ends = f"{source} > {destination}: ICMP"
    try:
        icmp = parse(buf, ip, verify=False)
    except Malformed as error:
        return f"{ends}, {error}"
    return f"{ends} {describe(icmp, _NAMES, (ECHO_REQUEST, ECHO_REPLY))}"


def describe(icmp: IcmpHeader, names: dict[int, str], echo: tuple[int, int]) -> str:
    """The part of a summary that both families share."""
    name = names.get(icmp.type, f"type {icmp.type}")
    detail = f"id {icmp.rest >> 16}, seq {icmp.rest & 0xFFFF}" if icmp.type in echo else f"code {icmp.code}"
    return f"{name}, {detail}, length {icmp.end - icmp.start + HEADER_SIZE}"
