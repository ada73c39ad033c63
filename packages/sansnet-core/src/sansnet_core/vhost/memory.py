"""The guest's memory, reached only through checked ranges, and the log of the pages that were written.

A slice of a memoryview silently ends where the view does, and a negative start counts from its end. So each range is
checked here, before the slice, and nobody else slices a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.messages import Region

__all__ = ["PAGE", "DirtyLog", "MappedRegion", "MemoryTable", "check_overlap"]

PAGE: Final = 4096
"""Bytes that one bit of the dirty log stands for, whatever the page size of the guest."""


class MappedRegion(NamedTuple):
    """A region and its bytes.

    Attributes:
        region: where it is.
        view: writable, `region.size` bytes.
    """

    region: Region
    view: memoryview


def check_overlap(regions: Sequence[Region]) -> None:
    """Make sure that an address, guest-physical or user, means one byte.

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
    """The regions of one guest. They do not change: a new table takes the place of the old one.

    Args:
        mapped: the regions, without overlaps.
    """

    def __init__(self, mapped: Sequence[MappedRegion] = ()) -> None:
        # The largest first: most buffers are there.
        self.mapped: Final = tuple(sorted(mapped, key=lambda entry: -entry.region.size))
        self._guest: Final = tuple((entry.region.guest, entry.region.size, entry.view) for entry in self.mapped)
        self.end: Final = max((guest + size for guest, size, _ in self._guest), default=0)
        """Guest-physical address behind the highest region."""

    def resolve(self, address: int, length: int) -> memoryview:
        """The bytes at a guest-physical address.

        Raises:
            VhostViolation: CHAIN_ADDRESS; they are not all in one region.
        """
        for guest, size, view in self._guest:
            start = address - guest
            if start >= 0 and start + length <= size:
                return view[start : start + length]
        raise VhostViolation(Fault.CHAIN_ADDRESS)

    def resolve_user(self, address: int, length: int, alignment: int) -> memoryview:
        """The bytes at an address of the front-end, which must be a multiple of `alignment`.

        Raises:
            VhostViolation: RING_ADDRESS; it is not, or they are not all in one region.
        """
        for region, view in self.mapped:
            start = address - region.user
            if start >= 0 and start + length <= region.size and not address % alignment:
                return view[start : start + length]
        raise VhostViolation(Fault.RING_ADDRESS)


class DirtyLog:
    """One bit for each page of the guest's memory, set when something was written there.

    The front-end takes bits out by exchanging whole words for 0, so setting one here, which is a read and a write, may
    bring back a bit that it took, which costs it one page more, but can lose none. It could if another device wrote to
    the same log.

    Args:
        view: writable; bit 0 of byte 0 stands for guest-physical address 0.
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
        """These bytes were written; call it afterwards, or the front-end may copy the page too early.

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
