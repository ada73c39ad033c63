"""What a front-end or a guest can do wrong. Either ends the connection, and nothing else."""

from __future__ import annotations

from enum import Enum

from sansnet_core.errors import SansnetError

__all__ = ["Fault", "VhostViolation"]


class Fault(Enum):
    """Why a connection was dropped; the value is a sentence for people."""

    # By the front-end
    HEADER = "message header of another version of the protocol, or a reply where a request is due"
    MESSAGE_SIZE = "message longer than any that exists"
    PAYLOAD = "message with a payload of the wrong size"
    FD_COUNT = "message with missing or surplus file descriptors"
    FEATURES = "features that were not offered, or without VIRTIO_F_VERSION_1"
    RING_INDEX = "ring that does not exist"
    RING_SIZE = "ring whose size is no power of two, or more than 32768"
    RING_ADDRESS = "ring that is misaligned, or not in one region of the memory"
    RING_SETUP = "ring started before its size, addresses or the features are known"
    RING_POLLED = "ring that is to be polled, for want of a kick descriptor"
    REGION_COUNT = "more memory regions than there are slots"
    REGION_RANGE = "memory region that is empty, or wraps around the end of the address space"
    REGION_OVERLAP = "memory regions that overlap"
    REGION_UNKNOWN = "removal of a memory region that does not exist"
    MAPPING = "file that cannot be mapped"
    LOG_RANGE = "dirty log too small for the memory, or a ring's log address beyond it"
    MTU = "MTU that no Ethernet has"
    STATUS = "device status of more than 8 bits"
    # By the guest
    AVAILABLE_INDEX = "more buffers made available than the ring has"
    CHAIN_INDEX = "descriptor index outside its table"
    CHAIN_LOOP = "descriptor chain longer than its table: a loop"
    CHAIN_INDIRECT = "indirect table nested, of a wrong size, followed by a descriptor, or not negotiated"
    CHAIN_DIRECTION = "buffer of the other direction"
    CHAIN_ADDRESS = "buffer that is not in one region of the memory"
    FRAME_BUFFERS = "buffers so small that a frame takes more than 1024 descriptors"


class VhostViolation(SansnetError):
    """The protocol, or a ring, was violated: the connection must be dropped.

    Args:
        fault: what was wrong.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault
