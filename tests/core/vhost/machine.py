"""A virtual machine: its memory, its front-end and its guest's driver. It keeps to the protocol by default."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, TypeAlias

from sansnet_core.vhost import MapLog, MapMemory, RingFromGuest, RingToGuest, VhostOrder, VhostUserBackend, features
from sansnet_core.vhost.messages import Region, Request, emit, emit_regions

__all__ = ["GUARD", "HIGH", "LOW", "NEXT", "WRITE", "INDIRECT", "Buffers", "Machine", "Queue"]

NEXT: Final = 1
WRITE: Final = 2
INDIRECT: Final = 4

LOW: Final = Region(0, 0x100000, 0x7F0000000000, 0)
HIGH: Final = Region(0x100000000, 0x40000, 0x7F8000000000, 0x100000)
"""A region below 4 GiB and one above, as in machines with much memory."""

GUARD: Final = b"the memory of somebody else....."
"""The bytes around each region, which must neither be read nor written."""

_U16: Final = Struct("<H")
_DESCRIPTOR: Final = Struct("<QIHH")
_ELEMENT: Final = Struct("<II")

Buffers: TypeAlias = Sequence[tuple[int, int]]
"""Guest-physical addresses and lengths."""


class Queue:
    """The guest's driver of one ring. It uses the descriptors in sequence, so the head of each chain is known.

    Args:
        machine: the machine that the driver is in.
        index: 0 to the guest, 1 from it.
        size: in descriptors.
        base: where the indices begin.
    """

    def __init__(self, machine: Machine, index: int, size: int, base: int) -> None:
        self.machine = machine
        self.index = index
        self.size = size
        self.descriptors = 0x1000 + 0x8000 * index
        self.available = self.descriptors + 16 * size
        self.used = self.available + 6 + 2 * size + 3 & ~3
        self.position = self.used_position = base
        self.tables = 0x20000 + 0x10000 * index
        """Address of the indirect tables: 256 bytes for each position of the ring."""
        self.free = 0
        self.write16(self.available + 2, base)
        self.write16(self.used + 2, base)

    def write16(self, address: int, value: int) -> None:
        self.machine.write(address, _U16.pack(value & 0xFFFF))

    def read16(self, address: int) -> int:
        value: int = _U16.unpack(self.machine.read(address, 2))[0]
        return value

    def describe(self, place: int, address: int, length: int, flags: int, following: int = 0) -> None:
        self.machine.write(self.descriptors + 16 * place, _DESCRIPTOR.pack(address, length, flags, following))

    def offer(self, buffers: Buffers, *, indirect: bool = False, write: bool | None = None) -> int:
        """Make a chain available.

        Returns:
            Its head.
        """
        flags = WRITE if (self.index == 0 if write is None else write) else 0
        head = self.free
        if indirect:
            table = b"".join(
                _DESCRIPTOR.pack(address, length, flags | (NEXT if place < len(buffers) else 0), place % len(buffers))
                for place, (address, length) in enumerate(buffers, 1)
            )
            self.machine.write(self.tables + 256 * head, table)
            self.describe(head, self.tables + 256 * head, len(table), INDIRECT)
            self.free = (head + 1) % self.size
        else:
            for place, (address, length) in enumerate(buffers, 1):
                following = (self.free + 1) % self.size
                more = NEXT if place < len(buffers) else 0
                self.describe(self.free, address, length, flags | more, following)
                self.free = following
        self.push(head)
        return head

    def push(self, head: int) -> None:
        self.write16(self.available + 4 + 2 * (self.position % self.size), head)
        self.position = self.position + 1 & 0xFFFF
        self.write16(self.available + 2, self.position)

    def send(self, data: bytes, *, address: int = 0x40000) -> int:
        self.machine.write(address, data)
        return self.offer([(address, len(data))])

    def collect(self) -> list[tuple[int, int]]:
        """The heads and lengths that the device has used since the last call."""
        done = []
        while self.used_position != self.read16(self.used + 2):
            place = self.used_position % self.size
            done.append(_ELEMENT.unpack(self.machine.read(self.used + 4 + 8 * place, 8)))
            self.used_position = self.used_position + 1 & 0xFFFF
        return done

    def want_notice(self, position: int) -> None:
        self.write16(self.available + 4 + 2 * self.size, position)

    def forbid_notice(self) -> None:
        self.write16(self.available, 1)

    def kick_wanted(self) -> int:
        return self.read16(self.used + 4 + 8 * self.size)


class Machine:
    """A front-end, with a driver that answers mapping orders at once."""

    def __init__(self, *, size: int = 8, base: int = 0, offered: int = features.OFFERED) -> None:
        self.fences = 0
        self.backend = VhostUserBackend(self._fence, offered)
        self.memory = {region: bytearray(GUARD + bytes(region.size) + GUARD) for region in (LOW, HIGH)}
        self.log = bytearray()
        self.orders: list[VhostOrder] = []
        self.base = base
        self.down = Queue(self, 0, size, base)
        self.up = Queue(self, 1, size, base)

    def _fence(self) -> None:
        self.fences += 1

    # Memory

    def view(self, region: Region) -> memoryview:
        return memoryview(self.memory[region])[len(GUARD) : -len(GUARD)]

    def _at(self, address: int) -> tuple[memoryview, int]:
        region = LOW if address < LOW.size else HIGH
        return self.view(region), address - region.guest

    def write(self, address: int, data: bytes) -> None:
        view, start = self._at(address)
        view[start : start + len(data)] = data

    def read(self, address: int, length: int) -> bytes:
        view, start = self._at(address)
        return bytes(view[start : start + length])

    def guarded(self) -> bool:
        return all(memory.startswith(GUARD) and memory.endswith(GUARD) for memory in self.memory.values())

    # Messages

    def request(
        self, request: int, payload: bytes = b"", fds: Sequence[int] = (), *, needs_reply: bool = False
    ) -> list[bytes]:
        """Send a message, carry out the mapping orders, keep the other orders, and return the replies."""
        message = emit(request, payload, reply=False, needs_reply=needs_reply)
        backend = self.backend
        at = 0
        try:
            while at < len(message):
                piece = message[at : at + backend.wanted()]
                backend.receive(piece, fds if not at else ())
                at += len(piece)
                self._carry_out()
        finally:
            self.orders += backend.take_orders()
        return backend.take_replies()

    def _carry_out(self) -> None:
        for order in self.backend.take_orders():
            self.orders.append(order)
            if isinstance(order, MapMemory):
                self.backend.mapped([self.view(region) for region in order.regions])
            elif isinstance(order, MapLog):
                self.log = bytearray(order.size)
                self.backend.mapped([memoryview(self.log)])

    def take_orders(self) -> list[VhostOrder]:
        orders, self.orders = self.orders, []
        return orders

    def u64(self, request: int, value: int, fds: Sequence[int] = (), *, needs_reply: bool = False) -> list[bytes]:
        return self.request(request, value.to_bytes(8, "little"), fds, needs_reply=needs_reply)

    def state(self, request: int, index: int, value: int = 0, *, needs_reply: bool = False) -> list[bytes]:
        return self.request(request, Struct("<II").pack(index, value), needs_reply=needs_reply)

    def addresses(self, queue: Queue, *, log: bool = False) -> None:
        user = LOW.user
        payload = Struct("<IIQQQQ").pack(
            queue.index, log, user + queue.descriptors, user + queue.used, user + queue.available, queue.used
        )
        self.request(Request.SET_VRING_ADDR, payload)

    def negotiate(self, acked: int, protocol: int = features.PROTOCOL_OFFERED) -> None:
        self.request(Request.GET_FEATURES)
        self.request(Request.GET_PROTOCOL_FEATURES)
        self.u64(Request.SET_PROTOCOL_FEATURES, protocol)
        self.request(Request.SET_OWNER)
        for index in range(2):
            self.u64(Request.SET_VRING_CALL, index, [20 + index])
            self.u64(Request.SET_VRING_ERR, index, [30 + index])
            self.state(Request.SET_VRING_ENABLE, index, 1)
        self.u64(Request.SET_FEATURES, acked)

    def share_memory(self) -> None:
        self.request(Request.SET_MEM_TABLE, emit_regions((LOW, HIGH)), [40, 41])

    def set_up(self, queue: Queue) -> None:
        self.state(Request.SET_VRING_NUM, queue.index, queue.size)
        self.state(Request.SET_VRING_BASE, queue.index, self.base)
        self.addresses(queue)
        self.u64(Request.SET_VRING_KICK, queue.index, [50 + queue.index])
        self.u64(Request.SET_VRING_CALL, queue.index, [60 + queue.index])

    def start(self, acked: int = features.OFFERED & ~features.LOG_ALL) -> Machine:
        """Do what QEMU does from its start until the guest's driver is ready."""
        self.negotiate(acked)
        self.share_memory()
        self.set_up(self.down)
        self.set_up(self.up)
        return self

    def start_log(self, *, rings: bool = True) -> None:
        """Do what QEMU does when a migration begins."""
        pages = (HIGH.guest + HIGH.size) // 4096
        self.request(Request.SET_LOG_BASE, Struct("<QQ").pack(pages // 8, 0), [70])
        self.u64(Request.SET_FEATURES, self.backend.features | features.LOG_ALL, needs_reply=True)
        if rings:
            self.addresses(self.down, log=True)
            self.addresses(self.up, log=True)

    def dirty(self) -> set[int]:
        """The pages that are marked in the log."""
        return {byte * 8 + bit for byte, bits in enumerate(self.log) if bits for bit in range(8) if bits & 1 << bit}

    @property
    def to_guest(self) -> RingToGuest:
        assert self.backend.to_guest is not None
        return self.backend.to_guest

    @property
    def from_guest(self) -> RingFromGuest:
        assert self.backend.from_guest is not None
        return self.backend.from_guest
