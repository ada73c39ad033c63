"""The back-end's side of a vhost-user connection: it reads requests, answers them, gives orders and keeps the rings.

Theory of operation. The driver reads at most as many bytes as `wanted` returns, and passes them to `receive`. A request
that needs a mapping causes an order, and `wanted` returns 0 until the driver has answered the order (`mapped`,
`mapping_failed`). So requests are handled one after the other, and the front-end gets its reply when the work is done.

Each descriptor that arrives leaves in exactly one order.

A ring exists while it is *enabled* and *kicked* (it has a kick descriptor); the front-end may send the two in either
sequence. It must have sent the ring's size and addresses and the features before. It may send any of these again: then
the ring is built again and continues at its position. A ring pauses while the log that it must write has not arrived,
or while its memory is removed. It ends by GET_VRING_BASE, by a status of 0, or with the connection.

After a violation the back-end has no rings, and `wanted` returns 0. The driver writes the replies that remain, executes
the orders, and drops the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from sansnet_core.config import LinkConfig
from sansnet_core.errors import UsageError
from sansnet_core.vhost import features, messages
from sansnet_core.vhost.exchange import Exchange
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.memory import DirtyLog, MappedRegion, MemoryTable, check_overlap
from sansnet_core.vhost.messages import Header, Region, Request
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
from sansnet_core.vhost.ring_settings import RingSettings
from sansnet_core.vhost.vring import MAX_FRAME_SIZE, MAX_RING_SIZE, RingFromGuest, RingToGuest

__all__ = ["FROM_GUEST", "MAX_SLOTS", "TO_GUEST", "VhostUserBackend"]

TO_GUEST: Final = 0
FROM_GUEST: Final = 1
"""Indices of the rings (virtio 1.2, 5.1.2): the guest's receiveq and transmitq."""

MAX_SLOTS: Final = 64
"""Most memory regions with CONFIGURE_MEM_SLOTS; each takes one descriptor."""
_MAX_TABLE: Final = 8
"""Most memory regions of SET_MEM_TABLE: one message carries as many descriptors."""

_RING_MASK: Final = 0xFF
_NO_FD: Final = 0x100
_NO_PAYLOAD: Final = Struct("")

_Continuation: TypeAlias = Callable[[Sequence[memoryview]], bytes | None]


class VhostUserBackend:
    """One connection of a front-end.

    Args:
        fence: a full memory barrier, for the rings.
        offered: the features that the guest may accept.

    Attributes:
        features: the features that the guest accepted; 0 before.
        mtu: the guest's MTU as the front-end announced it, in bytes; None if it did not.
        to_guest: the ring for frames to the guest, while it exists.
        from_guest: the ring of frames from the guest, while it exists.
    """

    def __init__(self, fence: Callable[[], None], offered: int = features.OFFERED) -> None:
        self.features = 0
        self.mtu: int | None = None
        self.to_guest: RingToGuest | None = None
        self.from_guest: RingFromGuest | None = None
        self._dropped = 0
        self._fence: Final = fence
        self._offered: Final = offered
        self._protocol = 0
        self._status = 0
        self._memory = MemoryTable()
        self._log: DirtyLog | None = None
        self._rings: Final = (RingSettings(), RingSettings())
        self._exchange: Final = Exchange()
        self._continuation: _Continuation | None = None
        self._expected: tuple[int, ...] = ()
        self._closed = False
        self._orders: list[VhostOrder] = []

    # Outputs

    def wanted(self) -> int:
        """How many bytes to read next, at most; 0 while a mapping is awaited, and after the end."""
        if self._closed or self._continuation is not None:
            return 0
        return self._exchange.missing()

    def take_replies(self) -> list[bytes]:
        """Whole messages for the front-end. Write them first: the front-end, and so the guest, waits for them."""
        return self._exchange.take_replies()

    def take_orders(self) -> list[VhostOrder]:
        """The orders to execute, in sequence."""
        orders, self._orders = self._orders, []
        return orders

    @property
    def dropped(self) -> int:
        """Number of frames that were dropped because no buffers of the guest would ever be large enough."""
        return self._dropped + (0 if self.to_guest is None else self.to_guest.dropped)

    def link_config(self, mtu: int) -> LinkConfig:
        """The guest's link with the features that the guest accepted; `mtu` is in bytes."""
        return features.link_config(self.features, mtu=mtu, max_frame_size=MAX_FRAME_SIZE)

    # Inputs

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Pass on bytes and descriptors from the front-end. Then take the outputs.

        Args:
            data: at least one byte, and at most `wanted()`.
            fds: the descriptors that came with them.

        Raises:
            VhostViolation: drop the connection, after the outputs are taken.
            UsageError: these are more bytes than `wanted`, or none.
        """
        if not 0 < len(data) <= self.wanted():
            raise UsageError("receive: not the bytes that were wanted")
        self._exchange.add(data, fds)
        self._guard(self._read)

    def mapped(self, views: Sequence[memoryview]) -> None:
        """Answer `MapMemory` or `MapLog` with writable views of exactly the ordered sizes. Then take the outputs.

        The views may be released, and the files unmapped, when nothing refers to them any more.

        Raises:
            VhostViolation: as in `receive`.
            UsageError: no mapping was ordered, or one of other sizes.
        """
        continuation, self._continuation = self._continuation, None
        if continuation is None or tuple(map(len, views)) != self._expected:
            self._continuation = continuation
            raise UsageError("mapped: not the views that were asked for")
        self._guard(lambda: self._finish(continuation(views)))

    def mapping_failed(self) -> None:
        """Answer `MapMemory` or `MapLog`: the file cannot be mapped. Then take the outputs.

        Raises:
            VhostViolation: always.
            UsageError: no mapping was ordered.
        """
        if self._continuation is None:
            raise UsageError("mapping_failed: nothing was to be mapped")
        self._guard(self._fail_mapping)

    def close(self) -> None:
        """End the connection. Then take the orders."""
        self._closed = True
        self._continuation = None
        for index in range(len(self._rings)):
            self._stop(index)
        self._memory = MemoryTable()
        self._log = None
        self._close_fds()

    # Requests

    def _guard(self, work: Callable[[], None]) -> None:
        """Do some work; a violation is answered and ends the connection."""
        try:
            work()
        except VhostViolation:
            self._exchange.acknowledge(1)
            self.close()
            raise

    def _read(self) -> None:
        header = self._exchange.request()
        if header is not None:
            self._dispatch(header)

    def _dispatch(self, header: Header) -> None:
        exchange = self._exchange
        rule = _RULES.get(header.request)
        if rule is None or rule.protocol & ~self._protocol:
            # Unknown, or not negotiated
            self._close_fds()
            exchange.acknowledge(1)
            exchange.finish()
            return
        if not rule.fds[0] <= len(exchange.fds) <= rule.fds[1]:
            raise VhostViolation(Fault.FD_COUNT)
        if rule.payload is None:
            fields: tuple[int, ...] = ()
        elif rule.payload.size == header.size:
            fields = rule.payload.unpack(exchange.payload)
        else:
            raise VhostViolation(Fault.PAYLOAD)
        reply = rule.handle(self, *fields)
        if self._continuation is None:
            self._finish(reply)

    def _finish(self, reply: bytes | None) -> None:
        """Answer the request that was handled, and go on to the next."""
        if reply is None:
            self._exchange.acknowledge(0)
        else:
            self._exchange.reply(reply)
        self._close_fds()
        self._exchange.finish()

    def _close_fds(self) -> None:
        if fds := self._exchange.take_fds():
            self._orders.append(CloseFds(fds))

    def _fail_mapping(self) -> None:
        raise VhostViolation(Fault.MAPPING)

    # Features

    def _get_features(self) -> bytes:
        return messages.U64.pack(self._offered)

    def _set_features(self, acked: int) -> None:
        if acked & ~self._offered or not acked & features.VERSION_1:
            raise VhostViolation(Fault.FEATURES)
        self.features = acked
        if not acked & features.LOG_ALL:
            self._log = None
        self._check_log(self._memory, self._log)
        self._renew_all()

    def _get_protocol_features(self) -> bytes:
        return messages.U64.pack(features.PROTOCOL_OFFERED)

    def _set_protocol_features(self, acked: int) -> None:
        if acked & ~features.PROTOCOL_OFFERED:
            raise VhostViolation(Fault.FEATURES)
        self._protocol = acked
        self._exchange.acknowledges = bool(acked & features.PROTOCOL_REPLY_ACK)

    def _set_status(self, status: int) -> None:
        if status > 0xFF:
            raise VhostViolation(Fault.STATUS)
        self._status = status
        if not status:
            for index in range(len(self._rings)):
                self._stop(index)

    def _get_status(self) -> bytes:
        return messages.U64.pack(self._status)

    def _set_mtu(self, mtu: int) -> None:
        if not 68 <= mtu <= 65535:
            raise VhostViolation(Fault.MTU)
        self.mtu = mtu

    def _ignore(self, *_: int) -> None:
        pass

    # Memory

    def _get_max_slots(self) -> bytes:
        return messages.U64.pack(MAX_SLOTS)

    def _set_memory(self) -> None:
        regions = messages.parse_regions(self._exchange.payload)
        if len(regions) > _MAX_TABLE:
            raise VhostViolation(Fault.REGION_COUNT)
        self._map_regions(regions, ())

    def _add_region(self) -> None:
        mapped = self._memory.mapped
        if len(mapped) >= MAX_SLOTS:
            raise VhostViolation(Fault.REGION_COUNT)
        self._map_regions((messages.parse_region(self._exchange.payload),), mapped)

    def _map_regions(self, regions: tuple[Region, ...], kept: tuple[MappedRegion, ...]) -> None:
        """Order the mapping of new regions; then the memory consists of them and of the regions that are kept."""
        if len(self._exchange.fds) != len(regions):
            raise VhostViolation(Fault.FD_COUNT)
        check_overlap([*regions, *(entry.region for entry in kept)])

        def use(views: Sequence[memoryview]) -> None:
            self._use_memory(MemoryTable((*map(MappedRegion, regions, views), *kept)))

        self._orders.append(MapMemory(regions, self._exchange.take_fds()))
        self._await(tuple(region.size for region in regions), use)

    def _remove_region(self) -> None:
        # The offset is not compared, because QEMU sends 0
        wanted = messages.parse_region(self._exchange.payload)
        mapped = self._memory.mapped
        kept = tuple(entry for entry in mapped if entry.region[:3] != wanted[:3])
        if len(kept) == len(mapped):
            raise VhostViolation(Fault.REGION_UNKNOWN)
        for ring in self._rings:
            ring.memory_removed = True
        self._use_memory(MemoryTable(kept))

    def _use_memory(self, memory: MemoryTable) -> None:
        self._check_log(memory, self._log)
        self._memory = memory
        self._renew_all()

    def _await(self, sizes: tuple[int, ...], use: _Continuation) -> None:
        self._expected = sizes
        self._continuation = use

    # The dirty log

    def _set_log(self, size: int, offset: int) -> None:
        if not size or size + offset >= 1 << 64:
            raise VhostViolation(Fault.LOG_RANGE)

        def use(views: Sequence[memoryview]) -> bytes:
            log = DirtyLog(views[0])
            self._check_log(self._memory, log)
            self._log = log
            self._renew_all()
            return messages.U64.pack(0)

        (fd,) = self._exchange.take_fds()
        self._orders.append(MapLog(fd, size, offset))
        self._await((size,), use)

    def _check_log(self, memory: MemoryTable, log: DirtyLog | None) -> None:
        if log is not None and self.features & features.LOG_ALL:
            log.check(memory.end)

    # Rings

    def _ring(self, index: int) -> RingSettings:
        if index >= len(self._rings):
            raise VhostViolation(Fault.RING_INDEX)
        return self._rings[index]

    def _set_ring_size(self, index: int, size: int) -> None:
        ring = self._ring(index)
        if not 0 < size <= MAX_RING_SIZE or size & (size - 1):
            raise VhostViolation(Fault.RING_SIZE)
        ring.size = size
        self._renew(index)

    def _set_ring_addresses(
        self, index: int, flags: int, descriptors: int, used: int, available: int, log: int
    ) -> None:
        ring = self._ring(index)
        ring.addresses = (descriptors, used, available)
        ring.log = log if flags & messages.RING_LOGGED else None
        ring.memory_removed = False
        self._renew(index)

    def _set_ring_base(self, index: int, base: int) -> None:
        ring = self._ring(index)
        self._forget(index)
        ring.base = base & 0xFFFF
        self._renew(index)

    def _get_ring_base(self, index: int, _: int) -> bytes:
        ring = self._ring(index)
        self._stop(index)
        return messages.RING_STATE.pack(index, ring.base)

    def _enable_ring(self, index: int, enabled: int) -> None:
        self._ring(index).enabled = bool(enabled)
        self._renew(index)

    def _set_kick(self, word: int) -> None:
        index, fd = self._ring_fd(word)
        if fd is None:
            raise VhostViolation(Fault.RING_POLLED)
        self._orders.append(SetKick(index, fd))
        self._rings[index].kicked = True
        self._renew(index)

    def _set_call(self, word: int) -> None:
        self._orders.append(SetCall(*self._ring_fd(word)))

    def _set_error(self, word: int) -> None:
        self._orders.append(SetError(*self._ring_fd(word)))

    def _ring_fd(self, word: int) -> tuple[int, int | None]:
        index = word & _RING_MASK
        self._ring(index)
        if len(self._exchange.fds) != (not word & _NO_FD):
            raise VhostViolation(Fault.FD_COUNT)
        return index, next(iter(self._exchange.take_fds()), None)

    def _renew_all(self) -> None:
        for index in range(len(self._rings)):
            self._renew(index)

    def _renew(self, index: int) -> None:
        """Build the ring again from its current settings, if it should exist."""
        existed = self._forget(index)
        setup, parts = self._rings[index], (self._memory, self.features, self._log, self._fence)
        if index == TO_GUEST:
            self.to_guest = setup.make(RingToGuest, *parts)
            exists = self.to_guest is not None
        else:
            self.from_guest = setup.make(RingFromGuest, *parts)
            exists = self.from_guest is not None
        if exists:
            self._orders.append(StartRing(index))
        elif existed:
            self._orders.append(StopRing(index))

    def _forget(self, index: int) -> bool:
        """Forget the ring, but keep its position.

        Returns:
            Whether it existed.
        """
        vring = self.to_guest if index == TO_GUEST else self.from_guest
        if vring is None:
            return False
        self._rings[index].base = vring.base
        if index == TO_GUEST:
            self._dropped = self.dropped
            self.to_guest = None
        else:
            self.from_guest = None
        return True

    def _stop(self, index: int) -> None:
        """End the ring until its next kick descriptor arrives."""
        if self._forget(index):
            self._orders.append(StopRing(index))
        self._rings[index].kicked = False
        if not any(ring.kicked for ring in self._rings):
            # By now QEMU has read the log to its end; it sends another one for rings that start again
            self._log = None


class _Rule(NamedTuple):
    """How one request is handled.

    Attributes:
        handle: called with the back-end and the fields of the payload; returns the payload of the reply that the
            request defines, or None if it defines none.
        payload: the format of the payload, which must have exactly this size; None if the handler parses or ignores it.
        fds: the fewest and the most descriptors.
        protocol: the protocol features that must be negotiated, or the request counts as unknown.
    """

    handle: Callable[..., bytes | None]
    payload: Struct | None = _NO_PAYLOAD
    fds: tuple[int, int] = (0, 0)
    protocol: int = 0


_SLOTS: Final = features.PROTOCOL_CONFIGURE_MEM_SLOTS
_STATUS: Final = features.PROTOCOL_STATUS
_B = VhostUserBackend
_RULES: Final[dict[int, _Rule]] = {
    Request.GET_FEATURES: _Rule(_B._get_features),
    Request.SET_FEATURES: _Rule(_B._set_features, messages.U64),
    Request.SET_OWNER: _Rule(_B._ignore),
    Request.RESET_OWNER: _Rule(_B._ignore),
    Request.SET_MEM_TABLE: _Rule(_B._set_memory, None, (0, messages.MAX_FDS)),
    Request.SET_LOG_BASE: _Rule(_B._set_log, messages.LOG_LOCATION, (1, 1), features.PROTOCOL_LOG_SHMFD),
    # The log's eventfd is not needed: the front-end reads the log when all rings have stopped
    Request.SET_LOG_FD: _Rule(_B._ignore, None, (0, 1)),
    Request.SET_VRING_NUM: _Rule(_B._set_ring_size, messages.RING_STATE),
    Request.SET_VRING_ADDR: _Rule(_B._set_ring_addresses, messages.RING_ADDRESSES),
    Request.SET_VRING_BASE: _Rule(_B._set_ring_base, messages.RING_STATE),
    Request.GET_VRING_BASE: _Rule(_B._get_ring_base, messages.RING_STATE),
    Request.SET_VRING_KICK: _Rule(_B._set_kick, messages.U64, (0, 1)),
    Request.SET_VRING_CALL: _Rule(_B._set_call, messages.U64, (0, 1)),
    Request.SET_VRING_ERR: _Rule(_B._set_error, messages.U64, (0, 1)),
    Request.GET_PROTOCOL_FEATURES: _Rule(_B._get_protocol_features),
    Request.SET_PROTOCOL_FEATURES: _Rule(_B._set_protocol_features, messages.U64),
    Request.SET_VRING_ENABLE: _Rule(_B._enable_ring, messages.RING_STATE),
    # The network announces itself to the guest; nothing needs an announcement of the guest
    Request.SEND_RARP: _Rule(_B._ignore, messages.U64, (0, 0), features.PROTOCOL_RARP),
    Request.NET_SET_MTU: _Rule(_B._set_mtu, messages.U64, (0, 0), features.PROTOCOL_NET_MTU),
    Request.GET_MAX_MEM_SLOTS: _Rule(_B._get_max_slots, _NO_PAYLOAD, (0, 0), _SLOTS),
    Request.ADD_MEM_REG: _Rule(_B._add_region, None, (1, 1), _SLOTS),
    Request.REM_MEM_REG: _Rule(_B._remove_region, None, (0, 1), _SLOTS),
    Request.SET_STATUS: _Rule(_B._set_status, messages.U64, (0, 0), _STATUS),
    Request.GET_STATUS: _Rule(_B._get_status, _NO_PAYLOAD, (0, 0), _STATUS),
}
