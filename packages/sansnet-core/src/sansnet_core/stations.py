"""Which Ethernet address each of the guest's IP addresses has.

Theory of operation. Behind one link there may be several stations: containers on a bridge or on macvlan interfaces in
the guest, or a machine in the machine. Each IP address that packets, ARP and NDP of the guest name as their sender is
kept with the Ethernet address that it was last seen with. The table is bounded; beyond that the address that was
learnt longest ago gives way. One that is in use is learnt again from its next packet, and what sends to it meanwhile
keeps the Ethernet address that it knew (`egress.FlowHeaders`).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Stations"]


class Stations:
    """The table.

    Args:
        most: addresses that are kept.

    Attributes:
        find: the Ethernet address (6 bytes) of an IP address (4 or 16 bytes); None if it is not known. Asked of each
            packet, so it is the table's own method.
        generation: rises with every change; what was made of an entry before may be stale then.
    """

    __slots__ = ("_known", "_most", "find", "generation")

    def __init__(self, most: int) -> None:
        self._known: dict[bytes, bytes] = {}
        """By IP address; the one that was learnt longest ago is first."""
        self._most = most
        self.find: Callable[[bytes], bytes | None] = self._known.get
        self.generation = 0

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, address: bytes, mac: bytes) -> None:
        """A station was seen with an IP address."""
        known = self._known
        changed = known.pop(address, None) != mac
        if len(known) >= self._most:
            del known[next(iter(known))]
        known[address] = mac
        self.generation += changed
