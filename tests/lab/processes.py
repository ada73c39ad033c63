"""Processes in the PID namespace of a guest, by their ids inside and outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["children", "descendants", "outside", "reaper"]


def children(pid: int) -> list[int]:
    """The children of a process."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> Iterator[int]:
    """The children of a process, theirs, and so on."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def outside(sansnet: int, inside: int) -> int:
    """The process id of a process in the guest of a sansnet, by the one that it has in its own PID namespace."""
    for pid in descendants(sansnet):
        numbers = _numbers(pid)
        if len(numbers) > len(_numbers(sansnet)) and numbers[-1] == inside:
            return pid
    raise ProcessLookupError(inside)


def reaper(sansnet: int) -> int:
    """The process id of process 1 of the guest of a sansnet."""
    return outside(sansnet, 1)


def _numbers(pid: int) -> list[int]:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[1:]]
    return []
