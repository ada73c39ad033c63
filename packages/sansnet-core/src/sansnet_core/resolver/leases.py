"""Addresses of their own for names (RFC 3089): leases.

Theory of operation. A lease is a number; its addresses are the prefixes plus that number, one in each family. Numbers
are given in turn, so that one is used again as late as possible, and only when there are too many names: then the least
recently used name without an open flow loses its lease.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.addresses import Prefix

__all__ = ["Lease", "Leases"]

_FIRST: Final = 1
"""The first number: an address without host bits is that of the network, or of all its routers (RFC 4291, 2.6.1)."""


class Lease:
    """A name's own addresses.

    Attributes:
        name: in canonical form.
        number: added to the prefixes.
        pins: number of open flows.
    """

    __slots__ = ("name", "number", "pins")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.pins = 0


class Leases:
    """All leases of a network.

    Args:
        prefix4, prefix6: of the addresses.
        limit: most names.
    """

    __slots__ = ("_by_name", "_by_number", "_count", "_limit", "_next", "_prefixes")

    def __init__(self, prefix4: Prefix, prefix6: Prefix, limit: int) -> None:
        self._prefixes = {4: prefix4, 16: prefix6}
        sizes = [1 << 8 * len(prefix.address) - prefix.length for prefix in (prefix4, prefix6)]
        self._count = min(min(sizes) - 2, 1 << 32)  # without the first and the last, which may be a broadcast address
        self._limit = min(limit, self._count)
        self._next = 0
        self._by_name: dict[str, Lease] = {}
        """The least recently used first."""
        self._by_number: dict[int, Lease] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def contains(self, address: bytes) -> bool:
        """Whether an address is in the prefixes, leased or not."""
        return self._prefixes[len(address)].contains(address)

    def find(self, address: bytes) -> Lease | None:
        """The lease of an address."""
        prefix = self._prefixes[len(address)]
        if not prefix.contains(address):
            return None
        return self._by_number.get(int.from_bytes(address, "big") - int.from_bytes(prefix.address, "big"))

    def touch(self, lease: Lease) -> None:
        """A lease is used."""
        self._by_name[lease.name] = self._by_name.pop(lease.name)

    def give(self, name: str) -> Lease | None:
        """The lease of a name, which is made if there is none; None if open flows need all leases."""
        lease = self._by_name.get(name)
        if lease is not None:
            self.touch(lease)
            return lease
        if len(self._by_name) >= self._limit:
            old = next((lease for lease in self._by_name.values() if not lease.pins), None)
            if old is None:
                return None
            del self._by_name[old.name], self._by_number[old.number]
        while self._next + _FIRST in self._by_number:
            self._next = (self._next + 1) % self._count
        lease = self._by_name[name] = self._by_number[self._next + _FIRST] = Lease(name, self._next + _FIRST)
        self._next = (self._next + 1) % self._count
        return lease

    def address(self, lease: Lease, size: int) -> bytes:
        """The address of a lease with this number of bytes."""
        return (int.from_bytes(self._prefixes[size].address, "big") + lease.number).to_bytes(size, "big")
