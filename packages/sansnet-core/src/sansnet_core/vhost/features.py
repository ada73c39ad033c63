"""Features of the device (virtio 1.2, 5.1.3 and 6) and of the protocol (QEMU, docs/interop/vhost-user.rst)."""

from __future__ import annotations

from typing import Final

from sansnet_core.config import LinkConfig

__all__ = [
    "EVENT_IDX",
    "GUEST_CSUM",
    "GUEST_TSO4",
    "GUEST_TSO6",
    "GUEST_USO4",
    "GUEST_USO6",
    "INDIRECT_DESC",
    "LOG_ALL",
    "MRG_RXBUF",
    "OFFERED",
    "PROTOCOL_CONFIGURE_MEM_SLOTS",
    "PROTOCOL_FEATURES",
    "PROTOCOL_LOG_SHMFD",
    "PROTOCOL_NET_MTU",
    "PROTOCOL_OFFERED",
    "PROTOCOL_RARP",
    "PROTOCOL_REPLY_ACK",
    "PROTOCOL_STATUS",
    "VERSION_1",
    "link_config",
]

_CSUM: Final = 1 << 0
GUEST_CSUM: Final = 1 << 1
_MTU: Final = 1 << 3
GUEST_TSO4: Final = 1 << 7
GUEST_TSO6: Final = 1 << 8
_GUEST_ECN: Final = 1 << 9
_HOST_TSO4: Final = 1 << 11
_HOST_TSO6: Final = 1 << 12
_HOST_ECN: Final = 1 << 13
MRG_RXBUF: Final = 1 << 15
LOG_ALL: Final = 1 << 26
INDIRECT_DESC: Final = 1 << 28
EVENT_IDX: Final = 1 << 29
PROTOCOL_FEATURES: Final = 1 << 30
VERSION_1: Final = 1 << 32
GUEST_USO4: Final = 1 << 54
GUEST_USO6: Final = 1 << 55
_HOST_USO: Final = 1 << 56

# HOST_...: offloads that the guest may use when it sends; GUEST_...: those that it accepts when it receives. QEMU
# itself implements the features that are missing here, such as the MAC address and the control queue.
OFFERED: Final = (
    _CSUM
    | GUEST_CSUM
    | _MTU
    | GUEST_TSO4
    | GUEST_TSO6
    | _GUEST_ECN
    | _HOST_TSO4
    | _HOST_TSO6
    | _HOST_ECN
    | MRG_RXBUF
    | LOG_ALL
    | INDIRECT_DESC
    | EVENT_IDX
    | PROTOCOL_FEATURES
    | VERSION_1
    | GUEST_USO4
    | GUEST_USO6
    | _HOST_USO
)

PROTOCOL_LOG_SHMFD: Final = 1 << 1
"""Without it QEMU refuses to migrate the guest."""
PROTOCOL_RARP: Final = 1 << 2
"""Without it QEMU reports an error after each migration. The message itself is ignored."""
PROTOCOL_REPLY_ACK: Final = 1 << 3
PROTOCOL_NET_MTU: Final = 1 << 4
PROTOCOL_CONFIGURE_MEM_SLOTS: Final = 1 << 15
PROTOCOL_STATUS: Final = 1 << 16
PROTOCOL_OFFERED: Final = (
    PROTOCOL_LOG_SHMFD
    | PROTOCOL_RARP
    | PROTOCOL_REPLY_ACK
    | PROTOCOL_NET_MTU
    | PROTOCOL_CONFIGURE_MEM_SLOTS
    | PROTOCOL_STATUS
)


def link_config(features: int, *, mtu: int, max_frame_size: int) -> LinkConfig:
    """The link of a guest that accepted these features."""
    uso = GUEST_USO4 | GUEST_USO6
    checksum = bool(features & GUEST_CSUM)
    return LinkConfig(
        mtu=mtu,
        max_frame_size=max_frame_size,
        vnet_header=True,
        checksum_offload=checksum,
        tso4=checksum and bool(features & GUEST_TSO4),
        tso6=checksum and bool(features & GUEST_TSO6),
        uso=checksum and features & uso == uso,
    )
