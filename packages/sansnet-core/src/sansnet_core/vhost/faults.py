"""Violations by the front-end or the guest. Each ends its connection and has no other effect."""

from __future__ import annotations

from enum import Enum

from sansnet_core.errors import SansnetError

__all__ = ["Fault", "VhostViolation"]


class Fault(Enum):
    """Why a connection was dropped; the value is the text that users see."""

    # By the front-end
    HEADER = "message header with another protocol version, or a reply instead of a request"
    MESSAGE_SIZE = "message longer than any request"
    PAYLOAD = "message with a payload of the wrong size"
    FD_COUNT = "message with missing or surplus file descriptors"
    FEATURES = "features that were not offered, or that lack VIRTIO_F_VERSION_1"
    RING_INDEX = "ring that does not exist"
    RING_SIZE = "ring size that is not a power of two, or is more than 32768"
    RING_ADDRESS = "ring that is misaligned, or not within one memory region"
    RING_SETUP = "ring started before its size, addresses or the features are known"
    RING_POLLED = "ring without a kick descriptor, which would have to be polled"
    REGION_COUNT = "more memory regions than there are slots"
    REGION_RANGE = "memory region that is empty, or extends beyond the address space"
    REGION_OVERLAP = "memory regions that overlap"
    REGION_UNKNOWN = "removal of a memory region that does not exist"
    MAPPING = "memory file that cannot be mapped"
    LOG_RANGE = "dirty log too small for the memory or for the log address of a ring"
    MTU = "MTU below 68 or above 65535 bytes"
    STATUS = "device status of more than 8 bits"
    # By the guest
    AVAILABLE_INDEX = "more buffers made available than the ring has"
    CHAIN_INDEX = "descriptor index outside its table"
    CHAIN_LOOP = "descriptor chain longer than its table, so it loops"
    CHAIN_INDIRECT = "indirect table that is nested, of a wrong size, followed by a descriptor, or not negotiated"
    CHAIN_DIRECTION = "buffer for the other direction"
    CHAIN_ADDRESS = "buffer that is not within one memory region"
    FRAME_BUFFERS = "buffers so small that one frame needs more than 1024 descriptors"


class VhostViolation(SansnetError):
    """The front-end violated the protocol, or the guest its ring: the connection must be dropped.

    Args:
        fault: the violation.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault
