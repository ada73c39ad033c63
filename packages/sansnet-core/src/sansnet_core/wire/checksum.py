"""The Internet checksum (RFC 1071) by big-integer arithmetic.

2^16 is 1 modulo 65535, so the one's-complement sum of a buffer is its big-endian value modulo 65535. Sums are plain
ints that may be added before the last step. `finish` and `partial` never give 0x0000. In UDP, this value means that
there is no checksum (RFC 768), which IPv6 does not allow (RFC 8200, 8.1). In other protocols it is equal to 0xffff.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.orders import Buffer

__all__ = ["finish", "ones_sum", "partial", "pseudo_sum"]

_WHOLE: Final = 512
_HALVES: Final = 4096
"""Bytes. Buffers above these sizes are summed in two halves, and in 16 pieces. The modulo costs twice as much per byte
as a conversion and an addition, so it is done once, on the sum of the pieces: 1460 bytes take 1.6 us instead of 2.1,
65000 bytes 42 us instead of 87."""


def ones_sum(data: Buffer) -> int:
    """The one's-complement sum of `data` as 16-bit big-endian words, an odd last byte padded with zero: 0 to 65534."""
    # With the bytes of each word swapped, the padding adds nothing; the sum is swapped at the end (RFC 1071, 2)
    size = len(data)
    if size <= _WHOLE:
        total = int.from_bytes(data, "little")
    elif size <= _HALVES:
        half = size >> 1 & ~1
        total = int.from_bytes(data[:half], "little") + int.from_bytes(data[half:], "little")
    else:
        piece = (size >> 4) + 2 & ~1
        total = 0
        for start in range(0, size, piece):
            total += int.from_bytes(data[start : start + piece], "little")
    return (total % 65535 << 8) % 65535


def pseudo_sum(source: bytes, destination: bytes, protocol: int) -> int:
    """Sum of the pseudo-header without the length, for either family (RFC 9293 3.1, RFC 8200 8.1)."""
    return int.from_bytes(source + destination, "big") % 65535 + protocol


def finish(total: int) -> int:
    """The checksum field for a sum of everything it covers: 1 to 65535."""
    return 65535 - total % 65535


def partial(pseudo: int) -> int:
    """The checksum field that the guest completes (virtio 1.2, 5.1.6.2), from the pseudo-header's sum: 1 to 65535."""
    return pseudo % 65535 or 65535
