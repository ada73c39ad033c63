"""The Internet checksum (RFC 1071) by big-integer arithmetic.

2^16 is 1 modulo 65535, so the one's-complement sum of a buffer is its big-endian value modulo 65535. Sums are plain
ints that may be added before the last step. `finish` and `partial` never give 0x0000. In UDP, this value means that
there is no checksum (RFC 768), which IPv6 does not allow (RFC 8200, 8.1). In other protocols it is equal to 0xffff.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.orders import Buffer

__all__ = ["finish", "ones_sum", "partial", "pseudo_sum"]

_FOLD_ABOVE: Final = 2048
"""Bytes. Larger buffers are folded by halves before the modulo: 70 us instead of 280 us for 65000 bytes."""


def ones_sum(data: Buffer) -> int:
    """The one's-complement sum of `data` as 16-bit big-endian words, an odd last byte padded with zero: 0 to 65534."""
    size = len(data)
    value = int.from_bytes(data, "big")
    if size & 1:
        value <<= 8
        size += 1
    while size > _FOLD_ABOVE:
        size = ((size >> 1) + 1) & ~1
        bits = size << 3
        value = (value >> bits) + (value & ((1 << bits) - 1))
    return value % 65535


def pseudo_sum(source: bytes, destination: bytes, protocol: int) -> int:
    """Sum of the pseudo-header without the length, for either family (RFC 9293 3.1, RFC 8200 8.1)."""
    return int.from_bytes(source + destination, "big") % 65535 + protocol


def finish(total: int) -> int:
    """The checksum field for a sum of everything it covers: 1 to 65535."""
    return 65535 - total % 65535


def partial(pseudo: int) -> int:
    """The checksum field that the guest completes (virtio 1.2, 5.1.6.2), from the pseudo-header's sum: 1 to 65535."""
    return pseudo % 65535 or 65535
