"""The processor time and the memory of a process, and whether it serves a tap."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["is_served", "own_memory", "processor_time", "resident"]


def processor_time(pid: int) -> float:
    """In seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Memory, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def own_memory(pid: int) -> int:
    """Memory without what is shared, such as a machine's, in bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def is_served(pid: int) -> bool:
    """Whether the driver of this process waits for frames of a tap."""
    process = Path(f"/proc/{pid}")
    opened: dict[str, str] = {}
    waited: set[str] = set()
    for path in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            opened[path.name] = kind = str(path.readlink())
            if kind == "anon_inode:[eventpoll]":
                lines = (process / "fdinfo" / path.name).read_text().splitlines()
                waited |= {line.split()[1] for line in lines if line.startswith("tfd:")}
    return any(opened.get(name) == "/dev/net/tun" for name in waited)
