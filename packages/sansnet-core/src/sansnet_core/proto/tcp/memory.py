"""The bound on what all connections hold together, so that many slow readers cannot exhaust the host's memory."""

from __future__ import annotations

from typing import Final

__all__ = ["Memory"]

RESERVE: Final = 16384
"""Bytes that a connection may hold even when all together hold too much, so that none starves."""


class Memory:
    """Counts payload bytes.

    Args:
        limit: most bytes to hold.

    Attributes:
        held: bytes held now, in either direction.
    """

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def left(self) -> int:
        """Bytes that may still be read from hosts; negative if the reserve was used."""
        return self._limit - self.held

    @property
    def is_short(self) -> bool:
        """Whether connections should hold less than they might."""
        return self.held >= self._limit >> 1

    def takes(self, size: int, own: int, in_order: bool) -> bool:
        """Whether a connection that holds `own` bytes may hold `size` more of the guest's."""
        return self.held + size <= self._limit or (in_order and own + size <= RESERVE)

    def window(self, limit: int) -> int:
        """What a connection may offer whose own limit is `limit`."""
        return min(limit, 2 * RESERVE) if self.is_short else limit
