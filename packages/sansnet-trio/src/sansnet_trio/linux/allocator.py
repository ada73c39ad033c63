"""The memory that the C library keeps when this process frees it (mallopt(3))."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

__all__ = ["keep_freed_memory"]

_LARGEST: Final = 4 << 20
"""Bytes. Twice as many are kept: more than the data of a batch."""


def keep_freed_memory() -> None:
    """Have the C library keep some MiB of freed memory for the next data.

    By default it gives memory above half a MiB back to the kernel, which then has to make each page anew: with eight
    busy connections that takes a third of the processor time of the kernel. glibc learns from the largest block that
    was freed (M_MMAP_THRESHOLD), so one is freed here; nothing is written to it. Other C libraries ignore it.
    """
    with suppress(MemoryError):
        bytes(_LARGEST)
