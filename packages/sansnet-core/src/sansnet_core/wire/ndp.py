"""Neighbour Discovery (RFC 4861) with the options of RFC 8106.

Functions that build a message return the arguments (rest, payload) of `icmp6.emit`: the 32 bits behind the checksum,
which belong to the message, and the bytes behind the ICMPv6 header.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from sansnet_core import addresses
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer
from sansnet_core.wire import dns_names, icmp6
from sansnet_core.wire.icmp6 import IcmpHeader
from sansnet_core.wire.ip import IpHeader

__all__ = [
    "ALL_NODES",
    "ALL_ROUTERS",
    "MANAGED",
    "OTHER",
    "RouterAdvertisement",
    "Solicitation",
    "advertise_neighbour",
    "advertise_router",
    "multicast_mac",
    "parse",
    "solicit_neighbour",
    "solicited_node",
    "summary",
]

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS: Final = bytes.fromhex("ff020000000000000000000000000002")
_SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")

HOP_LIMIT: Final = 255
"""A message with another value came through a router."""

# https://www.iana.org/assignments/icmpv6-parameters, NDP option formats
_SOURCE_LINK_ADDRESS: Final = 1
_TARGET_LINK_ADDRESS: Final = 2
_PREFIX: Final = Struct("!BBBBIII8s8x")
_PREFIX_TYPE: Final = 3
_PREFIX_ON_LINK: Final = 0x80
_PREFIX_AUTONOMOUS: Final = 0x40
_MTU: Final = Struct("!BBHI")
_MTU_TYPE: Final = 5
_SERVERS: Final = Struct("!BBHI")
_SERVERS_TYPE: Final = 25
_SEARCH: Final = Struct("!BBHI")
_SEARCH_TYPE: Final = 31

FOREVER: Final = 0xFFFFFFFF

# Flags of a router advertisement: addresses, or other configuration, by DHCPv6
MANAGED: Final = 0x80
OTHER: Final = 0x40

# Flags of a neighbour advertisement
_ROUTER: Final = 0x80000000
_SOLICITED: Final = 0x40000000
_OVERRIDE: Final = 0x20000000

_MAX_ADVERTISEMENT: Final = 1280
"""Bytes of a whole packet with a router advertisement, which must not be fragmented on its way (RFC 6980)."""

_MAX_SIZE: Final = 1500 - 40 - 8
"""Bytes of a solicitation behind its ICMPv6 header. RFC 4861 allows as many as the link's MTU. But a solicitation with
all options that exist (RFC 3971) fits into Ethernet's, and parsing 64 KiB of tiny options would take milliseconds."""


class Solicitation(NamedTuple):
    """A valid router or neighbour solicitation.

    Attributes:
        target: the address looked for; None in a router solicitation.
        link_address: the sender's Ethernet address, if the option is present.
    """

    target: bytes | None
    link_address: bytes | None


class RouterAdvertisement(NamedTuple):
    """The contents of a router advertisement.

    Attributes:
        flags: `MANAGED`, `OTHER`.
        lifetime: seconds as the default router.
        prefix: 8 bytes, on link and for address autoconfiguration; None for no prefix.
        mac: the router's Ethernet address.
        mtu: bytes; None to leave it out.
        servers: DNS servers, 16 bytes each.
        search: search domains.
        valid: lifetime in seconds of prefix, servers and search domains; 0 withdraws them.
    """

    flags: int
    lifetime: int
    prefix: bytes | None
    mac: bytes
    mtu: int | None
    servers: tuple[bytes, ...]
    search: tuple[str, ...]
    valid: int = FOREVER


def solicited_node(address: bytes) -> bytes:
    """The multicast group for solicitations of an address (RFC 4291, 2.7.1)."""
    return _SOLICITED_NODE + address[13:]


def multicast_mac(group: bytes) -> bytes:
    """The Ethernet address of an IPv6 multicast group (RFC 2464, 7)."""
    return b"\x33\x33" + group[12:]


def parse(buf: Buffer, ip: IpHeader, icmp: IcmpHeader) -> Solicitation:
    """Read a router or neighbour solicitation.

    All checks of RFC 4861 (6.1.1, 7.1.1) are made. The size is limited, and a fragment header is refused.

    Args:
        buf: holds the packet.
        ip: its IPv6 header.
        icmp: its ICMPv6 header, of one of these two types.

    Raises:
        Malformed: with NDP_MALFORMED.
    """
    start = icmp.start
    target = None
    unspecified = addresses.is_unspecified(ip.source)
    bad = ip.ttl != HOP_LIMIT or icmp.code != 0 or icmp.end - start > _MAX_SIZE
    bad = bad or ip.may_fragment  # RFC 6980, 5
    if icmp.type == icmp6.NEIGHBOUR_SOLICITATION:
        target = bytes(buf[start : start + 16])
        start += 16
        bad = bad or start > icmp.end or addresses.is_multicast(target)
        bad = bad or (unspecified and ip.destination != solicited_node(target))
    if bad:
        raise Malformed(Reason.NDP_MALFORMED)
    link_address = None
    for kind, data in _options(buf, start, icmp.end):
        if kind == _SOURCE_LINK_ADDRESS:
            # RFC 2464, 6: no other length is Ethernet's. The answer to a group address would go to all stations
            if unspecified or len(data) != 6 or data[0] & 1:
                raise Malformed(Reason.NDP_MALFORMED)
            link_address = data
    return Solicitation(target, link_address)


def _options(buf: Buffer, start: int, end: int) -> list[tuple[int, bytes]]:
    found = []
    while start < end:
        size = buf[start + 1] << 3 if start + 1 < end else 0
        if not 0 < size <= end - start:
            raise Malformed(Reason.NDP_MALFORMED)
        found.append((buf[start], bytes(buf[start + 2 : start + size])))
        start += size
    return found


def _link_address(kind: int, mac: bytes) -> bytes:
    return bytes([kind, 1]) + mac


def solicit_neighbour(target: bytes, mac: bytes) -> tuple[int, bytes]:
    """A solicitation of the Ethernet address of `target`; `mac` is the sender's."""
    return 0, target + _link_address(_SOURCE_LINK_ADDRESS, mac)


def advertise_neighbour(target: bytes, mac: bytes, *, override: bool, solicited: bool = True) -> tuple[int, bytes]:
    """An advertisement that `target`, a router, is at `mac`.

    Args:
        target: 16 bytes.
        mac: 6 bytes.
        override: whether it replaces the cached address of `target`.
        solicited: False if it goes to all nodes.
    """
    flags = _ROUTER | (_SOLICITED if solicited else 0) | (_OVERRIDE if override else 0)
    return flags, target + _link_address(_TARGET_LINK_ADDRESS, mac)


def advertise_router(advertisement: RouterAdvertisement, link_mtu: int = _MAX_ADVERTISEMENT) -> tuple[int, bytes]:
    """A router advertisement of at most 1280 bytes; search domains, and then servers, that do not fit are left out.

    Args:
        advertisement: the contents.
        link_mtu: of the link, in bytes; the packet is not larger, unless that is below 104.
    """
    room = min(link_mtu, _MAX_ADVERTISEMENT) - 40 - 16
    flags, lifetime, prefix, mac, mtu, servers, search, valid = advertisement
    options = b""
    if prefix is not None:
        use = _PREFIX_ON_LINK | _PREFIX_AUTONOMOUS
        options = _PREFIX.pack(_PREFIX_TYPE, 4, 64, use, valid, valid, 0, prefix)
    options += _link_address(_SOURCE_LINK_ADDRESS, mac)
    if mtu is not None:
        options += _MTU.pack(_MTU_TYPE, 1, 0, mtu)
    count = min(len(servers), (room - len(options) - _SERVERS.size) // 16)
    if count > 0:
        options += _SERVERS.pack(_SERVERS_TYPE, 1 + 2 * count, 0, valid) + b"".join(servers[:count])
    names = dns_names.emit_list(search, (room - len(options) - _SEARCH.size) & ~7)
    if names:
        names += bytes(-len(names) % 8)
        options += _SEARCH.pack(_SEARCH_TYPE, 1 + len(names) // 8, 0, valid) + names
    # Hop limit of the hosts' packets; the 8 zero bytes are reachable time and retransmission timer, unspecified
    return HOP_LIMIT << 24 | flags << 16 | lifetime, bytes(8) + options


def summary(buf: Buffer, ip: IpHeader, icmp: IcmpHeader) -> str:
    """One line of text about a solicitation."""
    try:
        target = parse(buf, ip, icmp).target
    except Malformed as error:
        return str(error)
    return "router solicitation" if target is None else f"neighbour solicitation, who has {addresses.format(target)}"
