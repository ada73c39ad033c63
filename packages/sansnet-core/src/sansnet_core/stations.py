"""The Ethernet address of each of the guest's IP addresses.

Theory of operation. There may be several stations behind one link: containers on a bridge or on macvlan interfaces in
the guest, or nested virtual machines. The table maps each source address of the guest's packets, ARP and NDP to the
Ethernet address that it was last seen with. When the table is full, a new address replaces the one learnt longest ago.
If that is in use, its next packet adds it again; until then its flows keep the Ethernet address (`egress.FlowHeaders`).
"""

from __future__ import annotations

from collections.abc import Callable

from sansnet_core.mypyc import mypyc_attr

__all__ = ["Stations"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Stations:
    """The Ethernet address of each IP address that the guest has used.

    Args:
        limit: the most IP addresses to keep.

    Attributes:
        find: returns the Ethernet address (6 bytes) of an IP address (4 or 16 bytes), None if unknown. Called for each
            packet, so it is the dict's own method.
        generation: rises with every change, after which values derived from the table may be stale.
    """

    __slots__ = ("_known", "_limit", "find", "generation")

    def __init__(self, limit: int) -> None:
        self._known: dict[bytes, bytes] = {}
        """By IP address, in the order in which they were learnt."""
        self._limit = limit
        self.find: Callable[[bytes], bytes | None] = self._known.get
        self.generation = 0

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, address: bytes, mac: bytes) -> None:
        """Remember the Ethernet address of an IP address."""
        known = self._known
        changed = known.pop(address, None) != mac
        if len(known) >= self._limit:
            del known[next(iter(known))]
        known[address] = mac
        self.generation += changed
