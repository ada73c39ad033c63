"""The orders of a vhost-user back-end to its driver.

The driver owns the file descriptors of an order.
"""

from __future__ import annotations

from typing import TypeAlias

from sansnet_core.orders import value_class
from sansnet_core.vhost.messages import Region

__all__ = ["CloseFds", "MapLog", "MapMemory", "StartRing", "StopRing", "VhostOrder", "SetCall", "SetError", "SetKick"]


@value_class
class MapMemory:
    """Map these regions, shared and writable, and close the descriptors. Answer: `mapped` or `mapping_failed`."""

    regions: tuple[Region, ...]
    fds: tuple[int, ...]
    """One for each region."""


@value_class
class MapLog:
    """Map the dirty log, shared and writable, and close the descriptor. Answer: `mapped` or `mapping_failed`."""

    fd: int
    size: int
    """Bytes."""
    offset: int
    """Bytes from the start of the file."""


@value_class
class SetKick:
    """Use `fd` as the ring's kick descriptor, and close the former one. The guest signals this eventfd for new buffers.

    Read it only while the ring runs. At other times QEMU itself reads it.
    """

    ring: int
    fd: int


@value_class
class SetCall:
    """Use `fd` as the ring's call descriptor, and close the former one. Signal this eventfd to notify the guest."""

    ring: int
    fd: int | None
    """None: do not notify the guest."""


@value_class
class SetError:
    """Use `fd` as the ring's error descriptor, and close the former one. Signal this eventfd after a violation."""

    ring: int
    fd: int | None
    """None: do not signal violations."""


@value_class
class StartRing:
    """The ring in `VhostUserBackend` is new: wait for its kicks, and process it once without waiting."""

    ring: int


@value_class
class StopRing:
    """The ring is gone: stop waiting for its kicks, but keep the descriptor."""

    ring: int


@value_class
class CloseFds:
    """Close these descriptors, which are not needed."""

    fds: tuple[int, ...]


VhostOrder: TypeAlias = MapMemory | MapLog | SetKick | SetCall | SetError | StartRing | StopRing | CloseFds
