"""vhost-user: a virtual machine's network card that works in the machine's shared memory. Nothing here does I/O.

`VhostUserBackend` serves one connection of the front-end (QEMU) and keeps the two rings; its orders tell the driver
what to map and which descriptors to wait for.
"""

from __future__ import annotations

from sansnet_core.vhost.backend import FROM_GUEST, TO_GUEST, VhostUserBackend
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.orders import (
    CloseFds,
    MapLog,
    MapMemory,
    SetCall,
    SetError,
    SetKick,
    StartRing,
    StopRing,
    VhostOrder,
)
from sansnet_core.vhost.vring import MAX_FRAME_SIZE, RingFromGuest, RingToGuest

__all__ = [
    "FROM_GUEST",
    "MAX_FRAME_SIZE",
    "TO_GUEST",
    "CloseFds",
    "Fault",
    "MapLog",
    "MapMemory",
    "RingFromGuest",
    "RingToGuest",
    "SetCall",
    "SetError",
    "SetKick",
    "StartRing",
    "StopRing",
    "VhostOrder",
    "VhostUserBackend",
    "VhostViolation",
]
