"""The guest's memory, which is accessed only through checked ranges, and the log of the pages that were written.

A slice of a memoryview is silently cut off at the view's end, and a negative start counts from the end. So each range
is checked here before it is sliced, and no other module slices a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.messages import Region

__all__ = ["PAGE", "DirtyLog", "MappedRegion", "MemoryTable", "check_overlap"]

PAGE: Final = 4096
"""Bytes per bit of the dirty log, independent of the guest's page size."""


class MappedRegion(NamedTuple):
    """A region and its bytes.

    Attributes:
        region: its addresses.
        view: writable, `region.size` bytes.
    """

    region: Region
    view: memoryview


def check_overlap(regions: Sequence[Region]) -> None:
    """Make sure that no guest-physical address and no user address belongs to two regions.

    Raises:
        VhostViolation: REGION_OVERLAP.
    """
    for starts in (
        sorted((region.guest, region.size) for region in regions),
        sorted((region.user, region.size) for region in regions),
    ):
        for (start, size), (following, _) in pairwise(starts):
            if start + size > following:
                raise VhostViolation(Fault.REGION_OVERLAP)


class MemoryTable:
    """The memory regions of one guest. A table never changes; it is replaced by a new one.

    Args:
        mapped: the regions, without overlaps.
    """

    def __init__(self, mapped: Sequence[MappedRegion] = ()) -> None:
        # The largest first, because most buffers are in it
        self.mapped: Final = tuple(sorted(mapped, key=lambda entry: -entry.region.size))
        self._guest: Final = tuple(
            (entry.region.guest, entry.region.guest + entry.region.size, entry.view) for entry in self.mapped
        )
        self.end: Final = max((end for _, end, _ in self._guest), default=0)
        """The guest-physical address after the end of the highest region."""

    def resolve(self, address: int, length: int) -> memoryview:
        """The bytes at a guest-physical address.

        Raises:
            VhostViolation: CHAIN_ADDRESS; they are not within one region.
        """
        for guest, end, view in self._guest:
            if guest <= address <= end - length:
                return view[address - guest : address - guest + length]
        raise VhostViolation(Fault.CHAIN_ADDRESS)

    def resolve_user(self, address: int, length: int, alignment: int) -> memoryview:
        """The bytes at a user address of the front-end, which must be a multiple of `alignment`.

        Raises:
            VhostViolation: RING_ADDRESS; it is misaligned, or they are not within one region.
        """
        for region, view in self.mapped:
            start = address - region.user
            if start >= 0 and start + length <= region.size and not address % alignment:
                return view[start : start + length]
        raise VhostViolation(Fault.RING_ADDRESS)


class DirtyLog:
    """One bit for each page of the guest's memory; it is set after the page was written.

    The front-end collects bits by exchanging whole words for 0. Setting a bit here is a read and a write, so it may
    bring back a bit that the front-end has just collected, which makes it copy one page again, but it loses no bit. If
    another device wrote to the same log, bits could be lost.

    Args:
        view: writable; bit 0 of byte 0 is the page at guest-physical address 0.
    """

    def __init__(self, view: memoryview) -> None:
        self._view: Final = view

    def check(self, end: int) -> None:
        """Make sure that there is a bit for each page below this guest-physical address.

        Raises:
            VhostViolation: LOG_RANGE.
        """
        if end > len(self._view) * 8 * PAGE:
            raise VhostViolation(Fault.LOG_RANGE)

    def mark(self, address: int, length: int) -> None:
        """Mark the pages of these bytes. Call this after writing, or the front-end may copy a page too early.

        Args:
            address: guest-physical.
            length: in bytes, at least 1.

        Raises:
            VhostViolation: LOG_RANGE.
        """
        self.check(address + length)
        view = self._view
        for page in range(address // PAGE, (address + length - 1) // PAGE + 1):
            view[page >> 3] |= 1 << (page & 7)
