"""Virtual machines: the messages of vhost-user, and rings in memory that a hostile guest writes.

Any message and any content of the memory is served or raises `VhostViolation`. Nothing changes outside the used ring
and the buffers of the right direction, and each descriptor that arrives leaves once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.vhost import (
    CloseFds,
    MapLog,
    MapMemory,
    SetCall,
    SetError,
    SetKick,
    VhostUserBackend,
    VhostViolation,
    features,
)
from sansnet_core.vhost.messages import Region, Request, emit, emit_region, emit_regions
from tests.core.vhost.machine import HIGH, LOW, Machine
from tests.fuzz.test_vhost import chain

__all__ = ["memory_of_rings", "messages_of_front_end"]

_SIZE: Final = 8
_PLAIN: Final = features.OFFERED & ~features.LOG_ALL
_FEATURES: Final = (_PLAIN, _PLAIN & ~features.INDIRECT_DESC, _PLAIN & ~features.EVENT_IDX & ~features.MRG_RXBUF)
_PLACES: Final = (0x40000, 0x20000, 0, 0x1000, LOW.size - 16, LOW.size, HIGH.guest, HIGH.guest + HIGH.size, 1 << 63)
_PLACES_BELOW: Final = (0xFFFFFFFFFFFFFFF0, 0x9000, 0x9080, 0x41000)
_LENGTHS: Final = (64, 12, 0, 1, 16, 32, 1500, 0x4000, 0x10000, LOW.size, 0xFFFFFFFF, 128)


def _describe(choices: Choices, machine: Machine, index: int) -> None:
    """Write one descriptor of a ring, or of its first indirect table."""
    queue = (machine.down, machine.up)[index]
    place = choices.number(2 * _SIZE)
    address = (choices.pick(_PLACES + _PLACES_BELOW) + choices.number(64) * 8) % (1 << 64)
    length = choices.pick(_LENGTHS) + choices.number(4)
    flags, following = choices.number(8), choices.number(_SIZE + 1)
    if place >= _SIZE:
        place = (0x20000 + 0x10000 * index - queue.descriptors) // 16 + place - _SIZE
    queue.describe(place, address, min(length, 0xFFFFFFFF), flags, following)


def _from_guest(machine: Machine, acked: int, heads: list[int], pieces: int) -> None:
    """Take what the guest sent; a second reader of chains finds the same bytes."""
    table = machine.read(machine.up.descriptors, 16 * _SIZE)
    expected = [chain(machine, table, head, bool(acked & features.INDIRECT_DESC), False) for head in heads]
    contents = [None if each is None else b"".join(machine.read(*buffer) for buffer in each) for each in expected]
    before = machine.up.collect()
    assert not before
    frames = machine.from_guest.take_frames(pieces)
    assert len(frames) <= min(pieces, len(heads))
    assert None not in contents[: len(frames)]
    for buffers, content, frame in zip(expected, contents, frames, strict=False):
        assert buffers is not None
        assert content is not None
        if not any(address < 0x20000 for address, _ in buffers):  # the used ring may be one of the buffers
            assert content.startswith(frame)
    assert [head for head, _ in machine.up.collect()] == heads[: len(frames)]


def _to_guest(machine: Machine, acked: int, sizes: list[int]) -> None:
    """Put frames into the guest's buffers; nothing changes but these and the used ring."""
    table = machine.read(machine.down.descriptors, 16 * _SIZE)
    writable = [(machine.down.used, 6 + 8 * _SIZE)]
    for head in range(_SIZE):
        writable += chain(machine, table, head, bool(acked & features.INDIRECT_DESC), True) or []
    before = {region: bytes(machine.view(region)) for region in (LOW, HIGH)}
    try:
        assert 0 <= machine.to_guest.put_frames([b"\xff" * size for size in sizes]) <= len(sizes)
        assert len(machine.down.collect()) <= _SIZE
    finally:
        for region, old in before.items():
            new = machine.view(region)
            if new != old:
                known = bytearray(old)
                for address, length in writable:
                    if region.guest <= address < region.guest + region.size:
                        start = address - region.guest
                        known[start : start + length] = new[start : start + length]
                assert new == known, "memory that is not the card's has changed"


def _seeds() -> Iterable[bytes]:
    one = b"\0\0" + b"\1\0\0\0\1\0\0\0" + b"\2\0" + b"\0\0\0\0\0\0\2\0" + b"\3\0" + b"\4\2\1"
    return [one, bytes(64), b"\1\5" + b"\1\1\1\1\2\1\1\2" * 4 + b"\2\1\2\0\4\4\3\1\4\1\7"]


@target(max_size=400, seeds=_seeds)
def memory_of_rings(data: bytes) -> None:
    """Descriptors, heads and frames, in any order."""
    choices = Choices(data)
    acked = choices.pick(_FEATURES)
    machine = Machine(size=_SIZE, base=choices.pick((0, 1, 65535, 65530))).start(acked)
    if choices.flag():
        machine.start_log()
    offered: list[int] = []
    try:
        while choices.left:
            match choices.number(6):
                case 0:
                    _describe(choices, machine, 0)
                case 1:
                    _describe(choices, machine, 1)
                case 2:
                    head = choices.number(_SIZE + 1)
                    if len(offered) < _SIZE:
                        machine.up.push(head)
                        offered.append(head)
                case 3:
                    machine.down.push(choices.number(_SIZE + 1))
                case 4:
                    pieces = 1 + choices.number(8)
                    _from_guest(machine, acked, offered, pieces)
                    del offered[:pieces]
                case _:
                    _to_guest(machine, acked, [12 + choices.number(65536) % 5000 for _ in range(choices.number(4))])
    except VhostViolation:
        pass
    assert machine.guarded()


_REQUESTS: Final = [value for name, value in vars(Request).items() if name.isupper()]
_REGIONS: Final = (LOW, HIGH, LOW._replace(guest=1 << 40, user=1 << 40), Region(1, 1, 1, 1))
_WORDS: Final = (0, 1, 2, 8, 256, 0x100, 0x101, _PLAIN, features.OFFERED, features.PROTOCOL_OFFERED, 1 << 32, 1 << 63)
_ADDRESS_SETS: Final = (
    (LOW.user + 0x1000, LOW.user + 0x3000, LOW.user + 0x2000, 0x3000),
    (HIGH.user, HIGH.user + 0x3000, HIGH.user + 0x2000, HIGH.guest),
    (0, 0, 0, 0),
    (LOW.user + LOW.size - 16, LOW.user, LOW.user, (1 << 64) - 1),
)


def _payload(choices: Choices) -> bytes:
    match choices.number(8):
        case 0:
            return b""
        case 1:
            return choices.pick(_WORDS).to_bytes(8, "little")
        case 2:
            return choices.number(3).to_bytes(4, "little") + choices.pick((8, 0, 1, 16, 256)).to_bytes(4, "little")
        case 3:
            head = choices.number(2).to_bytes(4, "little") + choices.number(2).to_bytes(4, "little")
            return head + b"".join(address.to_bytes(8, "little") for address in choices.pick(_ADDRESS_SETS))
        case 4:
            sizes = choices.pick((0, 64, 1 << 18)), choices.pick(_WORDS)
            return b"".join(size.to_bytes(8, "little") for size in sizes)
        case 5:
            return emit_region(choices.pick(_REGIONS))
        case 6:
            return emit_regions(tuple(choices.pick(_REGIONS) for _ in range(choices.number(4))))
        case _:
            return choices.take(choices.number(64))


class _FrontEnd:
    """Carries out the orders of a back-end, with or without success, and counts the descriptors."""

    def __init__(self, choices: Choices) -> None:
        self.backend = VhostUserBackend(lambda: None, features.OFFERED)
        self._choices = choices
        self.given = 1000
        self._taken: list[int] = []

    def send(self, message: bytes, count: int) -> None:
        fds = list(range(self.given, self.given + count))
        self.given += count
        while message and (wanted := self.backend.wanted()):
            piece, message = message[:wanted], message[wanted:]
            self.backend.receive(piece, fds)
            fds = []
            self.carry_out()
        self._taken += fds  # the end of the dialogue leaves them to the driver
        assert len(self.backend.take_replies()) <= 1

    def carry_out(self) -> None:
        for order in self.backend.take_orders():
            match order:
                case MapMemory(regions, fds):
                    self._taken += fds
                    if all(region.size <= 1 << 20 for region in regions) and self._choices.number(8) != 7:
                        self.backend.mapped([memoryview(bytearray(region.size)) for region in regions])
                    else:
                        self.backend.mapping_failed()
                case MapLog(fd, size, _):
                    self._taken.append(fd)
                    if size <= 1 << 20:
                        self.backend.mapped([memoryview(bytearray(size))])
                    else:
                        self.backend.mapping_failed()
                case SetKick(_, fd) | SetCall(_, fd) | SetError(_, fd) if fd is not None:
                    self._taken.append(fd)
                case CloseFds(fds):
                    self._taken += fds

    def close(self) -> None:
        self.backend.close()
        self.carry_out()
        assert sorted(self._taken) == list(range(1000, self.given)), "descriptors are lost or closed twice"


def _session() -> bytes:
    """What a front-end sends until the rings run."""
    return bytes(
        (
            *(_REQUESTS.index(Request.GET_FEATURES), 0, 0),
            *(_REQUESTS.index(Request.SET_FEATURES), 0, 1, 7),
            *(_REQUESTS.index(Request.SET_PROTOCOL_FEATURES), 0, 1, 9),
            *(_REQUESTS.index(Request.SET_OWNER), 0, 0),
            *(_REQUESTS.index(Request.SET_MEM_TABLE), 2, 6, 2, 0, 1, 0, 0),
            *(_REQUESTS.index(Request.SET_VRING_NUM), 0, 2, 0, 0),
            *(_REQUESTS.index(Request.SET_VRING_ADDR), 0, 3, 0, 0, 0),
            *(_REQUESTS.index(Request.SET_VRING_KICK), 1, 1, 0),
        )
    )


@target(max_size=400, seeds=lambda: [_session()])
def messages_of_front_end(data: bytes) -> None:
    """Messages in any order, with descriptors, whole and in pieces."""
    choices = Choices(data)
    front_end = _FrontEnd(choices)
    backend = front_end.backend
    try:
        while choices.left and backend.wanted():
            kind = choices.number(256)
            request = _REQUESTS[kind] if kind < len(_REQUESTS) else kind % 50
            options = choices.number(256)
            message = emit(request, _payload(choices), reply=False, needs_reply=bool(options & 8))
            if options & 0xF0 == 0xF0:
                message = message[:5] + bytes([message[5] ^ 1]) + message[6:]
            front_end.send(message, options & 3)
            if backend.from_guest is not None:
                backend.from_guest.take_frames(4)
            if backend.to_guest is not None:
                backend.to_guest.put_frames([bytes(100)])
    except VhostViolation:
        assert len(backend.take_replies()) <= 1
        front_end.carry_out()
    front_end.close()
