"""The longest prefix that contains an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from sansnet_core.addresses import Prefix

__all__ = ["PrefixTable"]

Value = TypeVar("Value")


class PrefixTable(Generic[Value]):
    """Values by prefix. A search takes one dictionary look-up for each length of prefix that occurs.

    Args:
        items: pairs of prefix and value; the last one counts if a prefix occurs twice.
    """

    __slots__ = ("_lengths",)

    def __init__(self, items: Iterable[tuple[Prefix, Value]] = ()) -> None:
        tables: dict[int, dict[int, dict[int, Value]]] = {4: {}, 16: {}}
        for (address, length), value in items:
            shift = 8 * len(address) - length
            table = tables[len(address)].setdefault(shift, {})
            table[int.from_bytes(address, "big") >> shift] = value
        self._lengths = {size: tuple(sorted(table.items())) for size, table in tables.items()}
        """Size of address -> pairs of the number of bits beyond a prefix, and the prefixes; the longest first."""

    def matches(self, address: bytes) -> Iterator[Value]:
        """The values of all prefixes that contain an address, the longest first."""
        number = int.from_bytes(address, "big")
        for shift, table in self._lengths[len(address)]:
            value = table.get(number >> shift)
            if value is not None:
                yield value

    def find(self, address: bytes) -> Value | None:
        """The value of the longest prefix that contains an address; None if there is none."""
        return next(self.matches(address), None) if self._lengths[len(address)] else None
