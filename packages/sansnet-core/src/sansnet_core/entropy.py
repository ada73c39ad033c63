"""Unpredictable numbers, derived from one secret: the same secret and inputs give the same numbers."""

from __future__ import annotations

from functools import lru_cache

try:  # `hashlib` has the same function, but loads OpenSSL: 3 MB
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["Entropy"]


class Entropy:
    """A keyed generator of numbers.

    Args:
        secret: at least 16 bytes, unpredictable to the guest and to remote hosts.
    """

    __slots__ = ("_count", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret[:64]
        self._count = 0

    def keyed(self, purpose: bytes, data: bytes) -> int:
        """A 64-bit number that depends on `purpose` (at most 16 bytes), `data` and the secret."""
        found = _hash(self._secret, purpose).copy()
        found.update(data)
        return int.from_bytes(found.digest(), "big")

    def next(self, bits: int) -> int:
        """A fresh number of up to 64 bits."""
        self._count += 1
        return self.keyed(b"next", self._count.to_bytes(8, "big")) >> (64 - bits)

    def initial_sequence(self, four_tuple: bytes, now: float) -> int:
        """A TCP initial sequence number (RFC 6528): a clock of 4 us ticks, plus a keyed hash of the four-tuple."""
        return (int(now * 250_000) + self.keyed(b"isn", four_tuple)) & 0xFFFFFFFF


@lru_cache(16)
def _hash(secret: bytes, purpose: bytes) -> blake2b:
    """The state of a hash that has taken the key: a copy costs less than to take it again."""
    return blake2b(digest_size=8, key=secret, person=purpose)
