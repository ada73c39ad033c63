"""A guest's /etc/hosts (hosts(5)): names of its own in front of those that the host has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from sansnet_core import addresses

__all__ = ["HOSTS", "HostsEntry", "render"]

HOSTS: Final = "/etc/hosts"

HostsEntry: TypeAlias = tuple[bytes, Sequence[str]]
"""An address, 4 or 16 bytes, and its names: the canonical one first, then aliases."""


def render(entries: Iterable[HostsEntry], base: str) -> str:
    """The text of a hosts file.

    The entries come first, since of two entries for one name the C library takes the first.

    Args:
        entries: what is added.
        base: the text of the host's file.
    """
    lines = [f"{addresses.format(address)} {' '.join(names)}\n" for address, names in entries]
    return "".join(["# made by sansnet\n", *lines, base])
