"""Split virtqueues (virtio 1.2, 2.7) of a network device, in memory that the guest may change while we read it.

Theory of operation. The guest makes chains of buffers available: it writes their heads into the available ring and then
advances the ring's index. The device returns each chain by an element of the used ring and then advances that ring's
index. Indices count modulo 65536, positions in the rings modulo their size. `_next` is the index of the next chain to
take, and `_seen` the guest's index when it was last read, so `_next <= _seen <= _next + size` (modulo 65536). `_used`
is our own index; its copy in the guest's memory is written and never read again.

Every value that the guest may change is read once into a Python integer and checked there. A frame is copied out whole
before it is parsed. All buffers for a frame to the guest are found before its first byte is written.

A side that has written its index then reads whether the other side requests a notification. A side that has requested a
notification then reads the index of the other side. Between the write and the read there must be a fence (a full memory
barrier), which the driver provides. All other stores only need to stay in order, as they do on x86-64. The casts below
also assume its byte order, little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from sansnet_core.orders import Buffer, Frame
from sansnet_core.vhost import features
from sansnet_core.vhost.faults import Fault, VhostViolation
from sansnet_core.vhost.memory import DirtyLog, MemoryTable
from sansnet_core.wire import virtio_net

__all__ = ["MAX_FRAME_SIZE", "MAX_RING_SIZE", "RingFromGuest", "RingLayout", "RingToGuest", "Vring"]

MAX_FRAME_SIZE: Final = 65535 + 14
"""Most bytes of one frame, without the `virtio_net_hdr`: the largest IP packet and its Ethernet header."""

MAX_RING_SIZE: Final = 32768

_BATCH_BYTES: Final = 1 << 20
"""Most bytes of one batch from the guest, and so of one batch for the host's sockets."""

_DESCRIPTOR: Final = Struct("<QIHH")
"""Guest-physical address, length, flags, index of the next descriptor."""
_DESCRIPTOR_SIZE: Final = 16
_NEXT: Final = 1
_WRITE: Final = 2
_INDIRECT: Final = 4
_MAX_CHAIN: Final = 1024
"""Most descriptors of a chain, of an indirect table, and of all buffers for one frame to the guest; this bounds the
work for one frame. QEMU has the same limits, but counts chains for the last one."""

_MAX_COPIED: Final = virtio_net.HEADER_SIZE + MAX_FRAME_SIZE + 1
"""Most bytes of a frame from the guest: one more than the network takes, so that it notices."""

_NO_INTERRUPT: Final = 1
_NOTHING: Final = memoryview(b"")

_Buffers: TypeAlias = list[tuple[int, memoryview]]
"""Guest-physical addresses, and views of the bytes there."""

_Places: TypeAlias = list[tuple[int | None, int, memoryview]]
"""Buffers of several chains: the head of the chain for its last buffer and None for the others, then as above."""


class RingLayout(NamedTuple):
    """The size and the addresses of a ring.

    Attributes:
        size: in descriptors; a power of two.
        descriptors, used, available: user addresses of the front-end.
        log: guest-physical address of the used ring, for the dirty log; None if writes to it are not logged.
    """

    size: int
    descriptors: int
    used: int
    available: int
    log: int | None


class Vring:
    """The part that is common to both directions.

    Args:
        memory: the guest's memory.
        layout: where the ring is in the memory.
        acked: the features that the guest accepted.
        log: the dirty log for writes to the guest's memory; None if they are not logged.
        base: index of the first chain to take.
        fence: a full memory barrier.

    Attributes:
        broken: the guest violated the ring; no more frames are processed.

    Raises:
        VhostViolation: RING_ADDRESS or LOG_RANGE.
    """

    _direction: int
    """The value of `_WRITE` in the flags of its buffers."""

    def __init__(
        self,
        memory: MemoryTable,
        layout: RingLayout,
        acked: int,
        log: DirtyLog | None,
        base: int,
        fence: Callable[[], None],
    ) -> None:
        self.broken = False
        size = layout.size
        self._size: Final = size
        self._mask: Final = size - 1
        self._memory: Final = memory
        self._log: Final = log
        self._used_log: Final = layout.log
        self._fence: Final = fence
        self._event_idx: Final = bool(acked & features.EVENT_IDX)
        self._indirect: Final = bool(acked & features.INDIRECT_DESC)
        self._mergeable: Final = bool(acked & features.MRG_RXBUF)
        used = memory.resolve_user(layout.used, 6 + 8 * size, 4)
        self._descriptors: Final = memory.resolve_user(layout.descriptors, _DESCRIPTOR_SIZE * size, 16)
        # Flags, index, heads, used_event. A cast accesses a whole element at once; struct's "<H" goes byte by byte.
        self._available: Final = memory.resolve_user(layout.available, 6 + 2 * size, 2).cast("H")
        self._used_index: Final = used[:4].cast("H")
        self._elements: Final = used[4:-2].cast("Q")
        self._available_event: Final = used[-2:].cast("H")
        if log is not None and layout.log is not None:
            log.check(layout.log + len(used))
        self._next = self._seen = base
        self._used = self._used_index[1]
        self._signalled: int | None = None

    @property
    def base(self) -> int:
        """Index of the next chain to take. A ring that was stopped continues there."""
        return self._next

    def must_notify(self) -> bool:
        """Whether the guest must be notified of the buffers used since the last call. Call this once per batch.

        The first answer is always yes: an earlier back-end may have used buffers without a notification.
        """
        old, new = self._signalled, self._used
        self._signalled = new
        if old is None:
            return True
        if new == old:
            return False
        self._fence()
        if self._event_idx:
            return (new - self._available[2 + self._size] - 1) & 0xFFFF < (new - old) & 0xFFFF
        return not self._available[0] & _NO_INTERRUPT

    def _look(self, position: int) -> bool:
        """Whether there is a chain at `position`. If not, request a kick for the next one."""
        seen = self._available[1]
        if seen == position:
            self._ask_for_kick(position)
            seen = self._available[1]
        if (seen - position & 0xFFFF) + (position - self._next & 0xFFFF) > self._size:
            raise VhostViolation(Fault.AVAILABLE_INDEX)
        self._seen = seen
        return seen != position

    def _ask_for_kick(self, position: int) -> None:
        if self._event_idx:
            self._available_event[0] = position
            self._mark_used(4 + 8 * self._size, 2)
        elif self._used_index[0]:  # we never suppress kicks, but an earlier back-end may have
            self._used_index[0] = 0
            self._mark_used(0, 2)
        else:
            return
        self._fence()

    def _walk(self, head: int) -> tuple[_Buffers, int]:
        """The buffers of a chain, one per descriptor, and their bytes. Empty buffers may have any address."""
        resolve, unpack, direction = self._memory.resolve, _DESCRIPTOR.unpack_from, self._direction
        table: memoryview | bytes = self._descriptors
        count = self._size
        nested = False
        index = head
        left = min(count, _MAX_CHAIN)
        buffers: _Buffers = []
        capacity = 0
        while True:
            if index >= count:
                raise VhostViolation(Fault.CHAIN_INDEX)
            address, length, flags, following = unpack(table, index * _DESCRIPTOR_SIZE)
            if flags & _INDIRECT:
                # Plain descriptors may precede one with a table (virtio 1.2, 2.7.5.3.2), but none may follow it
                count, rest = divmod(length, _DESCRIPTOR_SIZE)
                if nested or not self._indirect or flags & _NEXT or rest or not 0 < count <= _MAX_CHAIN:
                    raise VhostViolation(Fault.CHAIN_INDIRECT)
                table = bytes(resolve(address, length))
                nested = True
                index = 0
                left = count
                continue
            if not left:
                raise VhostViolation(Fault.CHAIN_LOOP)
            left -= 1
            if flags & _WRITE != direction:
                raise VhostViolation(Fault.CHAIN_DIRECTION)
            buffers.append((address, resolve(address, length) if length else _NOTHING))
            capacity += length
            if not flags & _NEXT:
                return buffers, capacity
            index = following

    def _complete(self, chains: Iterable[tuple[int, int]]) -> None:
        """Return chains (head, bytes that were written). The guest sees that after `_publish`."""
        elements, mask, used = self._elements, self._mask, self._used
        begin = used
        for head, length in chains:
            elements[used & mask] = head | length << 32
            used = used + 1 & 0xFFFF
        self._used = used
        if self._log is not None:
            while begin != used:
                self._mark_used(4 + 8 * (begin & mask), 8)
                begin = begin + 1 & 0xFFFF

    def _publish(self) -> None:
        self._used_index[1] = self._used
        self._mark_used(2, 2)

    def _mark_used(self, offset: int, length: int) -> None:
        if self._log is not None and self._used_log is not None:
            self._log.mark(self._used_log + offset, length)


class RingFromGuest(Vring):
    """The guest's transmit queue.

    Attributes:
        more: the last call of `take_frames` ended before the ring was empty, so the guest need not kick.
    """

    _direction = 0
    more = False

    def take_frames(self, limit: int) -> list[bytes]:
        """Take frames that the guest sent, each with its `virtio_net_hdr` in front.

        A frame of more than `MAX_FRAME_SIZE` bytes is cut off one byte later, so the network counts it as too large.

        Args:
            limit: most frames to take. If fewer are returned, and less than 1 MiB, the guest kicks for the next one.

        Raises:
            VhostViolation: the guest violated the ring.
        """
        if self.broken:
            return []
        try:
            return self._take(limit)
        except VhostViolation:
            self.broken = True
            raise

    def _take(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        taken: list[tuple[int, int]] = []
        budget = _BATCH_BYTES
        self.more = True
        while len(frames) < limit and budget > 0:
            position = self._next
            if position == self._seen and not self._look(position):
                self.more = False
                break
            head = self._available[2 + (position & self._mask)]
            buffers, size = self._walk(head)
            views = [view for _, view in buffers]
            frame = b"".join(views if size <= _MAX_COPIED else _cut(views))
            frames.append(frame)
            budget -= len(frame)
            self._next = position + 1 & 0xFFFF
            taken.append((head, 0))
        if frames:
            self._complete(taken)
            self._publish()
        return frames


def _cut(views: list[memoryview]) -> list[memoryview]:
    """The first bytes, as many as are copied."""
    room = _MAX_COPIED
    pieces = []
    for view in views:
        pieces.append(view[:room])
        room -= len(pieces[-1])
    return pieces


class RingToGuest(Vring):
    """The guest's receive queue.

    Attributes:
        dropped: number of frames that were dropped because the ring's buffers are too small for them.
    """

    _direction = _WRITE
    dropped = 0

    def put_frames(self, frames: Sequence[Frame]) -> int:
        """Give the guest frames, each with its `virtio_net_hdr` in front, until no buffers are left.

        Returns:
            How many frames were handled, that is written or dropped. If not all, the guest kicks when it has made
            buffers available.

        Raises:
            VhostViolation: the guest violated the ring.
        """
        if self.broken:
            return 0
        try:
            return self._put(frames)
        except VhostViolation:
            self.broken = True
            raise

    def _put(self, frames: Sequence[Frame]) -> int:
        done = 0
        used = self._used
        for frame in frames:
            headers, payload = frame if isinstance(frame, tuple) else (frame, b"")
            found = self._find(len(headers) + len(payload))
            if found is None:
                break
            chains, places = found
            if chains:
                self._fill(chains, places, bytes(headers), payload)
            else:
                self.dropped += 1
            done += 1
        if used != self._used:
            self._publish()
        return done

    def _find(self, size: int) -> tuple[int, _Places] | None:
        """Take chains with room for `size` bytes, or none at all.

        Returns:
            Their number, 0 if the frame must be dropped, and their buffers. None while there are too few.

        Raises:
            VhostViolation: a chain is malformed, or FRAME_BUFFERS: dropping the frame instead would leave the same
                buffers to the next frame.
        """
        available, mask, table, resolve = self._available, self._mask, self._descriptors, self._memory.resolve
        position = self._next
        seen = self._seen
        room = 0
        places: _Places = []
        empty: list[tuple[int, int]] = []
        while room < size:
            if position == seen:
                if not self._look(position):
                    return (0, []) if position - self._next & 0xFFFF == self._size else None
                seen = self._seen
            head = available[2 + (position & mask)]
            if head > mask:
                raise VhostViolation(Fault.CHAIN_INDEX)
            address, capacity, flags, _ = _DESCRIPTOR.unpack_from(table, head * _DESCRIPTOR_SIZE)
            if flags == _WRITE and capacity:  # as from Linux's driver; other chains cost three times as much
                places.append((head, address, resolve(address, capacity)))
            else:
                buffers, capacity = self._walk(head)
                places += [(None, address, view) for address, view in buffers]
                if capacity:
                    places[-1] = (head, *buffers[-1])
                else:
                    empty.append((head, 0))
            if len(places) > _MAX_CHAIN:
                raise VhostViolation(Fault.FRAME_BUFFERS)
            if 0 < capacity < size and not self._mergeable:
                return 0, []
            position = position + 1 & 0xFFFF
            room += capacity
        chains = (position - self._next & 0xFFFF) - len(empty)
        self._next = position
        if empty:  # they have no room, so they are returned unused
            self._complete(empty)
        return chains, places

    def _fill(self, chains: int, places: _Places, headers: bytes, payload: Buffer) -> None:
        """Write a frame into chains that have room for it. The payload is copied once, from where it is."""
        headers = b"".join((headers[:10], chains.to_bytes(2, "little"), headers[12:]))
        _, _, first = places[0]
        if len(headers) > len(first):  # it needs several buffers
            payload, headers = b"".join((headers, payload)), b""
        else:
            first[: len(headers)] = headers
        skip = len(headers)
        rest = memoryview(payload)
        position = written = 0
        log = self._log
        filled: list[tuple[int, int]] = []
        for head, address, view in places:
            piece = rest[position : position + len(view) - skip]
            size = len(piece)
            if size:
                view[skip : skip + size] = piece
                position += size
            size += skip
            skip = 0
            if log is not None and size:
                log.mark(address, size)
            written += size
            if head is not None:
                filled.append((head, written))
                written = 0
        self._complete(filled)
