"""Processes in the PID namespace of a guest, by their ids inside and outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["broker", "children", "descendants", "helpers", "outside", "reaper"]


_SOON: Final = 15.0


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
        if _is_inside(sansnet, pid) and _numbers(pid)[-1] == inside:
            return pid
    raise ProcessLookupError(inside)


def reaper(sansnet: int) -> int:
    """The process id of process 1 of the guest of a sansnet."""
    return outside(sansnet, 1)


def broker(sansnet: int) -> int:
    """The process id of the broker of a sansnet, which it starts last."""
    deadline = time.monotonic() + _SOON
    while time.monotonic() < deadline:
        for pid in children(sansnet):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "sansnet-broker\n":
                    return pid
        time.sleep(0.01)
    raise ProcessLookupError(sansnet)


def helpers(sansnet: int) -> list[int]:
    """The resident and the socket agent of a sansnet, if there are any, whichever process has started them."""
    found = broker(sansnet)
    return [*(pid for pid in children(sansnet) if pid != found and not _is_inside(sansnet, pid)), *children(found)]


def _is_inside(sansnet: int, pid: int) -> bool:
    """Whether a process is in a PID namespace below that of sansnet."""
    return len(_numbers(pid)) > len(_numbers(sansnet))


def _numbers(pid: int) -> list[int]:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[1:]]
    return []
