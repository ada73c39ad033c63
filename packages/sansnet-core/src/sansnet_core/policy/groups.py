"""The groups of addresses that rules may name.

Theory of operation. Addresses in IANA's registries of special-purpose addresses (RFC 6890 and its successors) are not
public. The longest prefix that contains an address decides, so that an address inside of another
network, such as that of a metadata service, differs from its neighbours.

A rule that opens a group of addresses does not open the host or a metadata service that is among them: these must be
named. A rule that closes the group closes them, too. So an address has two sets of groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sansnet_core.addresses import Prefix, split_zone
from sansnet_core.policy.rule import Group
from sansnet_core.prefixes import PrefixTable

__all__ = ["BITS", "Groups", "groups_in"]

BITS: Final = {group: 1 << number for number, group in enumerate(Group)}
"""Sets of groups are integers, with one bit for each group."""

_PUBLIC: Final = BITS[Group.PUBLIC]
_PRIVATE: Final = BITS[Group.PRIVATE]
_LOOPBACK: Final = BITS[Group.LOOPBACK]
_LINK_LOCAL: Final = BITS[Group.LINK_LOCAL]
_METADATA: Final = BITS[Group.METADATA]
_MULTICAST: Final = BITS[Group.MULTICAST]
_HOST: Final = BITS[Group.HOST]
_RESOLVER: Final = BITS[Group.RESOLVER]

_MEMBERS: Final = {
    # Linux connects an unspecified address to its own loopback
    _LOOPBACK: ("127.0.0.0/8", "0.0.0.0", "::1", "::"),
    _LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    _LINK_LOCAL | _METADATA: (
        *("169.254.169.254", "fe80::a9fe:a9fe"),  # nearly all; OpenStack
        *("169.254.170.2", "169.254.170.23"),  # Amazon's containers
        *("169.254.0.23", "169.254.42.42"),  # Tencent, Scaleway
    ),
    _PRIVATE | _METADATA: (
        *("fd00:ec2::254", "fd00:ec2::23"),  # Amazon
        *("fd20:ce::254", "fd00:42::42"),  # Google, Scaleway
        *("100.100.100.200", "192.0.0.192"),  # Alibaba, Oracle
    ),
    _PUBLIC | _METADATA: ("168.63.129.16",),  # Azure
    _MULTICAST: ("224.0.0.0/4", "255.255.255.255", "ff00::/8"),
    _PUBLIC: ("2000::/3", "64:ff9b::/96"),  # the latter is as public as the IPv4 address that it carries
    _PRIVATE: (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"),
        *("192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        *("192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "192.88.99.0/24"),
        "::/0",  # RFC 4291, 2.4: only 2000::/3 has been given out
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16"),
        *("64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "fc00::/7", "fec0::/10"),
    ),
}


class Groups:
    """Which groups an address is in.

    Args:
        host: the host's own addresses, and networks that are all its own, which are in `HOST`.
        resolvers: the guest's name servers, which are in `RESOLVER`.
    """

    __slots__ = ("_host", "_resolvers")

    def __init__(self, host: Iterable[bytes | Prefix] = (), resolvers: Collection[bytes] = ()) -> None:
        own = map(Prefix, host)
        self._host = PrefixTable((Prefix(split_zone(address)[0], length), True) for address, length in own)
        self._resolvers = frozenset(resolvers)

    def is_resolver(self, address: bytes) -> bool:
        """Whether an address in the guest's packets is that of one of its name servers."""
        return address in self._resolvers

    def of(self, address: bytes, host: bytes) -> tuple[int, int]:
        """The groups of a destination: those of rules that open it, and those of rules that close it.

        Args:
            address: in the guest's packets, 4 or 16 bytes.
            host: the host's address that it leads to; the same if it is not translated.
        """
        if len(host) == 16 and host[0] == 0xFE:
            host = split_zone(host)[0]
        found = _TABLE.find(host) or _PUBLIC
        resolver = _RESOLVER if address in self._resolvers else 0
        if found & _METADATA:
            return _METADATA | resolver, found | (_HOST if self._host.find(host) else 0) | resolver
        if found & _LOOPBACK:
            return found | _HOST | resolver, found | _HOST | resolver
        if self._host.find(host):
            return _HOST | resolver, found | _HOST | resolver
        return found | resolver, found | resolver


def groups_in(bits: int) -> tuple[Group, ...]:
    """The groups of a set."""
    return tuple(group for group, bit in BITS.items() if bits & bit)


_TABLE: Final = PrefixTable((Prefix(text), groups) for groups, texts in _MEMBERS.items() for text in texts)
