"""Work for `core.py`: a virtual machine's rings, as Linux's driver fills them, and frames in a stream.

The guest's own work is left out: its buffers are prepared once, and it offers them again by moving its index on.
"""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable
from struct import Struct
from typing import Final

from sansnet_core.link.stream import FrameDecoder, encode
from sansnet_core.orders import Frame
from sansnet_core.vhost import features
from sansnet_core.vhost.memory import MappedRegion, MemoryTable
from sansnet_core.vhost.messages import Region
from sansnet_core.vhost.vring import RingFromGuest, RingLayout, RingToGuest

__all__ = ["stream_decode", "vhost_down", "vhost_up"]

SIZE: Final = 256
"""Of a ring, in descriptors: that of QEMU's cards."""
ROUNDS: Final = 8
"""How often the guest offers all its buffers."""
PAGE: Final = 4096
HEADERS: Final = 12 + 54
LARGE: Final = 65160
"""Payload of a frame with segmentation offload."""

_DESCRIPTOR: Final = Struct("<QIHH")
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_DESCRIPTORS, _AVAILABLE, _USED, _TABLES, _BUFFERS = 0x1000, 0x4000, 0x8000, 0x10000, 0x100000
_INDEX: Final = Struct("<H")


class _Guest:
    """The memory of a guest, and one ring in it."""

    def __init__(self) -> None:
        self.memory = memoryview(mmap.mmap(-1, 64 << 20))
        self.memory[:] = random.Random(1).randbytes(len(self.memory))
        self.memory[:_BUFFERS] = bytes(_BUFFERS)
        self.table = MemoryTable([MappedRegion(Region(0, len(self.memory), 0, 0), self.memory)])
        self.layout = RingLayout(SIZE, _DESCRIPTORS, _USED, _AVAILABLE, None)
        for place in range(SIZE):
            _INDEX.pack_into(self.memory, _AVAILABLE + 4 + 2 * place, place)

    def describe(self, at: int, address: int, length: int, flags: int, following: int = 0) -> None:
        _DESCRIPTOR.pack_into(self.memory, at, address, length, flags, following)

    def offer(self, base: int) -> None:
        """Offer the buffers again that were used before the chain at `base`."""
        _INDEX.pack_into(self.memory, _AVAILABLE + 2, base + SIZE & 0xFFFF)


def vhost_up(payload: int, piece: int) -> Callable[[], int]:
    """Frames in indirect tables: the headers, and pieces of at most this size."""
    guest = _Guest()
    at = _BUFFERS
    for place in range(SIZE):
        sizes = [HEADERS] + [min(piece, payload - start) for start in range(0, payload, piece)]
        table = _TABLES + 0x200 * place
        guest.describe(_DESCRIPTORS + 16 * place, table, 16 * len(sizes), _INDIRECT)
        for number, size in enumerate(sizes, 1):
            following = number % len(sizes)
            guest.describe(table + 16 * (number - 1), at, size, _NEXT if following else 0, following)
            at += -(-size // PAGE) * PAGE
            if at > len(guest.memory) - 2 * 65536:
                at = _BUFFERS
    ring = RingFromGuest(guest.table, guest.layout, features.OFFERED, None, 0, lambda: None)

    def run() -> int:
        count = 0
        for _ in range(ROUNDS):
            guest.offer(ring.base)
            while frames := ring.take_frames(64):
                count += len(frames)
                ring.must_notify()
        return count

    return run


def vhost_down(payload: int, buffer: int = PAGE) -> Callable[[], int]:
    """Frames into mergeable buffers of one descriptor each."""
    guest = _Guest()
    for place in range(SIZE):
        guest.describe(_DESCRIPTORS + 16 * place, _BUFFERS + PAGE * place, buffer, _WRITE)
    ring = RingToGuest(guest.table, guest.layout, features.OFFERED, None, 0, lambda: None)
    data = random.Random(1).randbytes(4 * payload)
    batch: list[Frame] = [
        (bytes(HEADERS), memoryview(data)[start : start + payload]) for start in range(0, len(data), payload)
    ]

    def run() -> int:
        count = 0
        for _ in range(ROUNDS * 4):
            guest.offer(ring.base)
            while done := ring.put_frames(batch):
                count += done
                ring.must_notify()
        return count

    return run


def stream_decode(payload: int, received: int) -> Callable[[], int]:
    """Frames of a stream that arrives in pieces of this size."""
    data = random.Random(1).randbytes(payload)
    frames = [(bytes(54), data)] * 64
    stream = b"".join(map(bytes, encode(frames)))
    pieces = [stream[start : start + received] for start in range(0, len(stream), received)]

    def run() -> int:
        decoder = FrameDecoder()
        count = 0
        for piece in pieces:
            decoder.receive(piece)
            count += len(decoder.take_frames(64))
        return count

    return run
