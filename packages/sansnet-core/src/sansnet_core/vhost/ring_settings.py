"""The settings of a ring. The front-end sends them in any order, until there are enough to make the ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sansnet_core.vhost import features
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.memory import DirtyLog, MemoryTable
from sansnet_core.vhost.vring import RingLayout, Vring

__all__ = ["RingSettings"]

_V = TypeVar("_V", bound=Vring)


class RingSettings:
    """The settings of one ring, which may exist or not.

    Attributes:
        size: in descriptors; 0 if unknown.
        addresses: user addresses of the descriptors, the used and the available ring; None if unknown.
        log: see `RingLayout`.
        base: index of the chain at which the ring begins or continues.
        enabled: the front-end has enabled it.
        kicked: it has a kick descriptor.
        memory_removed: its memory was removed and may be added again.
    """

    def __init__(self) -> None:
        self.size = 0
        self.addresses: tuple[int, int, int] | None = None
        self.log: int | None = None
        self.base = 0
        self.enabled = False
        self.kicked = False
        self.memory_removed = False

    def make(
        self, kind: type[_V], memory: MemoryTable, acked: int, log: DirtyLog | None, fence: Callable[[], None]
    ) -> _V | None:
        """Make the ring.

        Args:
            kind: `RingToGuest` or `RingFromGuest`.
            memory: see `Vring`.
            acked: see `Vring`.
            log: the dirty log, if there is one; it is used only if LOG_ALL was accepted.
            fence: see `Vring`.

        Returns:
            None if the ring should not exist, or not yet.

        Raises:
            VhostViolation: the ring should exist, but its settings are incomplete or wrong.
        """
        # Without this feature, rings are enabled from the start
        enabled = self.enabled or bool(acked and not acked & features.PROTOCOL_FEATURES)
        if not (self.kicked and enabled):
            return None
        if not self.size or self.addresses is None or not acked:
            raise VhostViolation(Fault.RING_SETUP)
        if not acked & features.LOG_ALL:
            log = None
        elif log is None and self.log is not None:
            # The guest's driver starts during a migration: QEMU sends the log after the rings
            return None
        layout = RingLayout(self.size, *self.addresses, self.log)
        try:
            made = kind(memory, layout, acked, log, self.base, fence)
        except VhostViolation as violation:
            if violation.fault is Fault.RING_ADDRESS and self.memory_removed:
                return None
            raise
        self.memory_removed = False
        return made
