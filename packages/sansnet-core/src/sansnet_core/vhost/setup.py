"""What a front-end tells about a ring, in whatever order, until there is enough to make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sansnet_core.vhost import features
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.memory import DirtyLog, MemoryTable
from sansnet_core.vhost.vring import RingLayout, Vring

__all__ = ["RingSetup"]

_V = TypeVar("_V", bound=Vring)


class RingSetup:
    """What is known of one ring, whether it exists or not.

    Attributes:
        size: in descriptors; 0 if that is not known.
        addresses: of the descriptors, the used and the available ring; of the front-end.
        log: see `RingLayout`.
        base: where the ring begins, or goes on.
        enabled: by the front-end.
        kicked: has a kick descriptor.
        memory_removed: its memory was removed, and may be added again.
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
            kind: of the ring.
            memory: see `Vring`; so with the others.
            acked: likewise.
            log: the one that there is, whether it is wanted or not.
            fence: likewise.

        Returns:
            None if it is not to exist, or not yet.

        Raises:
            VhostViolation: it is to exist and cannot.
        """
        # Without this feature rings are enabled from the start
        enabled = self.enabled or bool(acked and not acked & features.PROTOCOL_FEATURES)
        if not (self.kicked and enabled):
            return None
        if not self.size or self.addresses is None or not acked:
            raise VhostViolation(Fault.RING_SETUP)
        if not acked & features.LOG_ALL:
            log = None
        elif log is None and self.log is not None:
            # A driver starts while the machine is migrated: QEMU brings the log after the rings
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
