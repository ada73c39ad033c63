"""A guest's hosts file (hosts(5)): the host's own, with other names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sansnet_core import addresses

__all__ = ["HOSTS", "render_hosts"]

HOSTS: Final = "/etc/hosts"


def render_hosts(text: str, entries: Iterable[tuple[bytes, tuple[str, ...]]]) -> str:
    """A hosts file with more entries, whose names have these addresses only.

    Args:
        text: the file as it is on the host.
        entries: pairs (address, its names).
    """
    entries = tuple(entries)
    given = {name.lower() for _, names in entries for name in names}
    lines = [kept for line in text.splitlines() if (kept := _without(line, given)) is not None]
    lines += [f"{addresses.format(address)}\t{' '.join(names)}" for address, names in entries]
    return "".join(f"{line}\n" for line in lines)


def _without(line: str, names: set[str]) -> str | None:
    """A line without some names; None if nothing is left of it."""
    address, *own = line.partition("#")[0].split() or [""]
    kept = [name for name in own if name.lower() not in names]
    if kept == own:
        return line
    return f"{address}\t{' '.join(kept)}" if kept else None
