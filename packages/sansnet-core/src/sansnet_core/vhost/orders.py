"""What a vhost-user back-end asks its driver to do.

A file descriptor in an order belongs to the driver from then on.
"""

from __future__ import annotations

from typing import TypeAlias

from sansnet_core.orders import message
from sansnet_core.vhost.messages import Region

__all__ = ["CloseFds", "MapLog", "MapMemory", "StartRing", "StopRing", "VhostOrder", "SetCall", "SetError", "SetKick"]


@message
class MapMemory:
    """Map these regions, shared and writable, and close the descriptors. Answer: `mapped` or `mapping_failed`."""

    regions: tuple[Region, ...]
    fds: tuple[int, ...]
    """One for each region."""


@message
class MapLog:
    """Map the dirty log, shared and writable, and close the descriptor. Answer: `mapped` or `mapping_failed`."""

    fd: int
    size: int
    """Bytes."""
    offset: int
    """Bytes from the start of the file."""


@message
class SetKick:
    """This eventfd tells that the guest has moved the ring's available index; close the one before.

    It may be read only while the ring runs: at other times QEMU reads it itself.
    """

    ring: int
    fd: int


@message
class SetCall:
    """From now on this eventfd is written when the guest is to be notified; close the one before."""

    ring: int
    fd: int | None
    """None: the guest wants no notification."""


@message
class SetError:
    """From now on this eventfd is written when the ring was violated; close the one before."""

    ring: int
    fd: int | None


@message
class StartRing:
    """The ring in `VhostUserBackend` is new: listen to its kicks, and work on it once without waiting for one."""

    ring: int


@message
class StopRing:
    """The ring is gone: do not listen to its kicks any more, but keep the descriptor."""

    ring: int


@message
class CloseFds:
    """Nobody needs these."""

    fds: tuple[int, ...]


VhostOrder: TypeAlias = MapMemory | MapLog | SetKick | SetCall | SetError | StartRing | StopRing | CloseFds
