"""The groups of addresses that rules may name, and the IPv4 addresses that IPv6 addresses carry."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sansnet_core.addresses import Prefix
from sansnet_core.policy.rule import Group
from sansnet_core.prefixes import PrefixTable

__all__ = ["Groups", "carried"]

_MEMBERS: Final = {
    Group.LOOPBACK: ("127.0.0.0/8", "::1"),
    Group.LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    Group.METADATA: ("169.254.169.254", "fd00:ec2::254"),
    Group.MULTICAST: ("224.0.0.0/4", "255.255.255.255", "ff00::/8"),
    Group.PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
}
"""IANA's registries of special-purpose addresses (RFC 6890)."""

_NAT64: Final = Prefix("64:ff9b::", 96)


class Groups:
    """Which groups an address is in.

    Args:
        host: the host's own addresses, which are in `HOST`.
        resolvers: the guest's name servers, which are in `RESOLVER`.
    """

    __slots__ = ("_host", "_resolvers", "_table")

    def __init__(self, host: Collection[bytes] = (), resolvers: Collection[bytes] = ()) -> None:
        self._host = frozenset(host)
        self._resolvers = frozenset(resolvers)
        self._table = PrefixTable((Prefix(text), group) for group, texts in _MEMBERS.items() for text in texts)

    def of(self, address: bytes) -> Iterable[Group]:
        """The groups of an address of 4 or 16 bytes."""
        found = set(self._table.matches(address))
        if Group.LOOPBACK in found or address in self._host:
            found.add(Group.HOST)
        if address in self._resolvers:
            found.add(Group.RESOLVER)
        return found or {Group.PUBLIC}


def carried(address: bytes) -> bytes | None:
    """The IPv4 address that a translator or a tunnel would send to for an IPv6 address; None if there is none."""
    if len(address) == 16 and _NAT64.contains(address):
        return address[12:]
    return None
