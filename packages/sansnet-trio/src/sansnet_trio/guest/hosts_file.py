"""The contents of a guest's /etc/hosts (hosts(5)): its own names, and those of the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from sansnet_core import addresses

__all__ = ["HOSTS", "HostsEntry", "render"]

HOSTS: Final = "/etc/hosts"

HostsEntry: TypeAlias = tuple[bytes, Sequence[str]]
"""An address, 4 or 16 bytes, and its names: the canonical name first, then aliases."""


def render(entries: Iterable[HostsEntry], base: str) -> str:
    """The contents of a guest's hosts file.

    The host's lines lose the names of the entries: resolvers combine the addresses of several lines, so such a name
    would also have the host's address.

    Args:
        entries: entries to put first.
        base: contents of the host's file.
    """
    entries = tuple(entries)
    names = {name.lower() for _, own in entries for name in own}
    lines = [f"{addresses.format(address)} {' '.join(own)}" for address, own in entries]
    lines += [kept for line in base.splitlines() if (kept := _remove_names(line, names)) is not None]
    return "".join(f"{line}\n" for line in ("# made by sansnet", *lines))


def _remove_names(line: str, names: set[str]) -> str | None:
    """A line without some names; None if no name is left."""
    address, *own = line.partition("#")[0].split() or [""]
    kept = [name for name in own if name.lower() not in names]
    if kept == own:
        return line
    return f"{address} {' '.join(kept)}" if kept else None
