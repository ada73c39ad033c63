"""How much memory this process may use: limits of its control groups and of itself, and what the machine has.

Control groups (cgroups(7)) limit all their processes together, and those of the groups in them: containers, services of
systemd, jobs of a cluster. Above the limit, the kernel ends one of them. Both versions are read.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from sansnet_core.config import MIN_MEMORY
from sansnet_trio.linux import files
from sansnet_trio.linux.mountinfo import read_mounts

__all__ = ["cgroup_limit", "for_guest"]

_PROGRAM: Final = 96 << 20
"""Bytes of address space, and of data, that the program takes beside its guest's network."""
_SHARED: Final = 4
"""A guest's network gets one part in so many of memory that other processes use too, such as the guest itself. The
kernel's buffers of its sockets are not counted, but need the same memory."""
_OWN: Final = 2
"""The same for memory of this process alone. The rest is for parts of the memory that are too small to be used."""

_FILES: Final = {"cgroup2": ("memory.max", "memory.high"), "cgroup": ("memory.limit_in_bytes",)}
"""Type of file system -> the files with a group's limits, in bytes. The text "max" means that there is none."""


def for_guest() -> int | None:
    """How many bytes the network of one guest may take if the user does not say it; None if that cannot be found out.

    This looks at the limits of the control group and of the address space (RLIMIT_AS, RLIMIT_DATA), and at the size of
    the machine's memory.
    """
    found = [limit // _SHARED for limit in (cgroup_limit(), _machine_memory()) if limit is not None]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            found.append((limit - _PROGRAM) // _OWN)
    return max(min(found), MIN_MEMORY) if found else None


def cgroup_limit(proc: str = "/proc/self") -> int | None:
    """The smallest limit of the control groups that this process is in; None if there is none, or none can be read.

    Args:
        proc: the directory of the process in /proc.
    """
    found = []
    for directory, name in _limits(proc):
        with suppress(OSError, ValueError):  # ValueError: "max"
            found.append(int(files.read(os.path.join(directory, name))))
    return min(found, default=None)


def _limits(proc: str) -> Iterator[tuple[str, str]]:
    """The directory and name of each file that may have a limit."""
    try:
        paths = dict(_groups(files.read(f"{proc}/cgroup")))
        mounts = read_mounts(f"{proc}/mountinfo")
    except OSError:
        return
    for mount in mounts:
        if mount.kind not in paths or (mount.kind == "cgroup" and "memory" not in mount.own_options):
            continue
        # A container may see only a part of the tree, whose root is its own group
        below = os.path.relpath(paths[mount.kind], mount.root)
        parts = [] if below.startswith("..") else [part for part in below.split("/") if part != "."]
        for depth in range(len(parts) + 1):
            for name in _FILES[mount.kind]:
                yield os.path.join(mount.point, *parts[:depth]), name


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """Type of file system and path of the groups that may limit memory, from the text of /proc/PID/cgroup."""
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield "cgroup2", path
        elif "memory" in controllers.split(","):
            yield "cgroup", path


def _machine_memory() -> int | None:
    try:
        lines = files.read("/proc/meminfo").splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("MemTotal:")), [])
    return int(words[1]) << 10 if len(words) == 3 else None  # MemTotal: NUMBER kB
