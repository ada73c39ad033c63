"""Hostile memory and hostile front-ends for vhost-user.

Invariants:

- Any content of the memory and any message is either served or raises `VhostViolation`.
- A chain is served if and only if an independent second reader finds it sound, and with the bytes that the second
  reader finds.
- Nothing changes outside the used ring and the buffers of the right direction.
- Each descriptor that arrives leaves once.
- A message has at most one reply.
"""

from __future__ import annotations

from struct import unpack

from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core.vhost import (
    MAX_FRAME_SIZE,
    CloseFds,
    MapLog,
    MapMemory,
    SetCall,
    SetError,
    SetKick,
    VhostViolation,
    features,
)
from sansnet_core.vhost.messages import Region, Request, emit, emit_region, emit_regions
from tests.core.vhost.machine import GUARD, HIGH, LOW, Machine

SIZE = 8
PLAIN = features.OFFERED & ~features.LOG_ALL
FEATURES = st.sampled_from([PLAIN, PLAIN & ~features.INDIRECT_DESC, PLAIN & ~features.EVENT_IDX & ~features.MRG_RXBUF])

EDGES = [0, 0x1000, 0x20000, 0x40000, LOW.size, HIGH.guest, HIGH.guest + HIGH.size, 1 << 63, (1 << 64) - 1]
ADDRESSES = st.builds(
    lambda edge, by: (edge + by) % (1 << 64), st.sampled_from(EDGES), st.sampled_from([-17, -16, -1, 0, 1, 16, 160])
)
GOOD = st.integers(0x40000, 0xF0000)
LENGTHS = st.sampled_from([0, 1, 12, 16, 32, 48, 1500, 0x4000, 0x10000, LOW.size, 0xFFFFFFF0, 0xFFFFFFFF])
DESCRIPTORS = st.tuples(
    st.one_of(GOOD, GOOD, GOOD, st.just(0x20000), ADDRESSES),
    st.one_of(st.integers(0, 2000), st.sampled_from([16, 32]), LENGTHS),
    st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 0xFFFF]),
    st.one_of(st.integers(0, SIZE - 1), st.integers(0, SIZE), st.integers(0, 65535)),
)
TABLES = st.lists(DESCRIPTORS, min_size=SIZE, max_size=SIZE)


def read(machine: Machine, address: int, length: int) -> bytes | None:
    """The guest's memory, for the second reader; None unless the range is within one region."""
    for region in (LOW, HIGH):
        if region.guest <= address and address + length <= region.guest + region.size:
            return machine.read(address, length)
    return None


def chain(machine: Machine, table: bytes, head: int, indirect: bool, write: bool) -> list[tuple[int, int]] | None:
    """The buffers of a chain if it is sound; otherwise None."""
    buffers = []
    inside = False
    steps = [head]
    while True:
        if (steps[-1] + 1) * 16 > len(table) or len(steps) > len(table) // 16:
            return None
        address, length, flags, following = unpack("<QIHH", table[steps[-1] * 16 : steps[-1] * 16 + 16])
        if flags & 4:
            if inside or not indirect or flags & 1 or length % 16 or not 0 < length <= 16384:
                return None
            content = read(machine, address, length)
            if content is None:
                return None
            inside, table, steps = True, content, [0]
            continue
        if bool(flags & 2) != write:
            return None
        if length:
            if read(machine, address, length) is None:
                return None
            buffers.append((address, length))
        if not flags & 1:
            return buffers
        steps.append(following)


@settings(max_examples=400)
@given(
    FEATURES,
    st.integers(0, 65535),
    TABLES,
    TABLES,
    st.lists(st.integers(0, SIZE), max_size=SIZE),
    st.binary(max_size=64),
)
def test_chains_from_the_guest_agree_with_a_second_reader(
    acked: int,
    base: int,
    direct: list[tuple[int, int, int, int]],
    indirect: list[tuple[int, int, int, int]],
    heads: list[int],
    salt: bytes,
) -> None:
    machine = Machine(size=SIZE, base=base).start(acked)
    machine.write(0x40000, salt * 64)
    for place, fields in enumerate(direct):
        machine.up.describe(place, *fields)
    for place, fields in enumerate(indirect):
        machine.up.describe((0x20000 - machine.up.descriptors) // 16 + place, *fields)
    for head in heads:
        machine.up.push(head)
    table = machine.read(machine.up.descriptors, 16 * SIZE)
    for head in heads:
        expected = chain(machine, table, head, bool(acked & features.INDIRECT_DESC), False)
        try:
            (frame,) = machine.from_guest.take_frames(1)
        except VhostViolation:
            assert expected is None
            break
        assert expected is not None
        whole = b"".join(machine.read(*buffer) for buffer in expected)
        # The used ring that was written since may be one of the buffers
        if not any(address < 0x20000 for address, _ in expected):
            assert frame == whole[: 12 + MAX_FRAME_SIZE + 1]
        assert machine.up.collect() == [(head, 0)]
    assert machine.guarded()


@settings(max_examples=400)
@given(
    FEATURES,
    st.integers(0, 65535),
    TABLES,
    st.lists(st.integers(0, SIZE - 1), max_size=SIZE),
    st.lists(st.integers(12, 5000), max_size=4),
)
def test_frames_to_the_guest_change_its_buffers_and_the_used_ring_alone(
    acked: int, base: int, direct: list[tuple[int, int, int, int]], heads: list[int], sizes: list[int]
) -> None:
    machine = Machine(size=SIZE, base=base).start(acked)
    for place, fields in enumerate(direct):
        machine.down.describe(place, *fields)
    for head in heads:
        machine.down.push(head)
    table = machine.read(machine.down.descriptors, 16 * SIZE)
    before = {region: bytes(machine.view(region)) for region in (LOW, HIGH)}
    writable = [(machine.down.used, 6 + 8 * SIZE)]
    for head in heads:
        writable += chain(machine, table, head, bool(acked & features.INDIRECT_DESC), True) or []
    try:
        done = machine.to_guest.put_frames([b"\xff" * size for size in sizes])
        assert 0 <= done <= len(sizes)
    except VhostViolation:
        pass
    assert machine.guarded()
    for region, old in before.items():
        new = machine.view(region)
        for address, length in writable:
            if region.guest <= address < region.guest + region.size:
                start = address - region.guest
                old = old[:start] + bytes(new[start : start + length]) + old[start + length :]
        assert bytes(new) == old


@settings(max_examples=200)
@given(st.data())
def test_memory_that_changes_all_the_time(data: st.DataObject) -> None:
    machine = Machine(size=SIZE).start()
    machine.start_log()
    queues = (machine.down, machine.up)
    for _ in range(data.draw(st.integers(1, 8), "rounds")):
        queue = data.draw(st.sampled_from(queues))
        match data.draw(st.integers(0, 3), "change"):
            case 0:
                queue.describe(data.draw(st.integers(0, SIZE - 1)), *data.draw(DESCRIPTORS))
            case 1:
                queue.write16(queue.available + 2, data.draw(st.integers(0, 65535)))
            case 2:
                queue.offer([(data.draw(GOOD), data.draw(st.integers(0, 3000)))])
            case _:
                machine.write(queue.descriptors, data.draw(st.binary(max_size=256)))
        try:
            for frame in machine.from_guest.take_frames(64):
                assert GUARD not in frame
            machine.to_guest.put_frames(
                [bytes(size) for size in data.draw(st.lists(st.integers(12, 70000), max_size=3))]
            )
            machine.to_guest.must_notify()
        except VhostViolation:
            break
    assert machine.guarded()


WORDS = st.one_of(
    st.sampled_from([0, 1, 2, 8, 256, 0x100, 0x101, PLAIN, features.OFFERED, features.PROTOCOL_OFFERED, 1 << 32]),
    st.integers(0, (1 << 64) - 1),
)
ADDRESS_SETS = st.sampled_from(
    [
        (LOW.user + 0x1000, LOW.user + 0x3000, LOW.user + 0x2000, 0x3000),
        (HIGH.user, HIGH.user + 0x3000, HIGH.user + 0x2000, HIGH.guest),
        (0, 0, 0, 0),
        (LOW.user + LOW.size - 16, LOW.user, LOW.user, (1 << 64) - 1),
    ]
)
SOUND_REGIONS = st.sampled_from([LOW, HIGH, LOW._replace(guest=1 << 40, user=1 << 40), Region(1, 1, 1, 1)])
PAYLOADS = st.one_of(
    st.just(b""),
    WORDS.map(lambda word: word.to_bytes(8, "little")),
    st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 8, 16, 256])).map(
        lambda state: state[0].to_bytes(4, "little") + state[1].to_bytes(4, "little")
    ),
    st.tuples(st.integers(0, 1), st.integers(0, 1), ADDRESS_SETS).map(
        lambda fields: (
            fields[0].to_bytes(4, "little")
            + fields[1].to_bytes(4, "little")
            + b"".join(address.to_bytes(8, "little") for address in fields[2])
        )
    ),
    st.tuples(st.sampled_from([0, 64, 1 << 18]), WORDS).map(
        lambda words: words[0].to_bytes(8, "little") + words[1].to_bytes(8, "little")
    ),
    SOUND_REGIONS.map(emit_region),
    st.lists(SOUND_REGIONS, max_size=3).map(lambda regions: emit_regions(tuple(regions))),
    st.binary(max_size=48),
)
REQUESTS = st.one_of(
    st.sampled_from([value for name, value in vars(Request).items() if name.isupper()]), st.integers(0, 50)
)


@settings(max_examples=400)
@given(
    st.booleans(),
    st.lists(st.tuples(REQUESTS, PAYLOADS, st.integers(0, 3), st.booleans(), st.booleans()), max_size=12),
)
def test_any_messages_in_any_order(started: bool, sequence: list[tuple[int, bytes, int, bool, bool]]) -> None:
    machine = Machine()
    machine.negotiate(PLAIN)
    if started:
        machine.share_memory()
        machine.set_up(machine.down)
        machine.set_up(machine.up)
    machine.take_orders()
    backend = machine.backend
    next_fd = 1000
    taken: list[int] = []

    def carry_out() -> None:
        for order in backend.take_orders():
            match order:
                case MapMemory(regions, fds):
                    taken.extend(fds)
                    if all(region.size <= 1 << 20 for region in regions):
                        backend.mapped([memoryview(bytearray(region.size)) for region in regions])
                    else:
                        backend.mapping_failed()
                case MapLog(fd, size, _):
                    taken.append(fd)
                    if size <= 1 << 20:
                        backend.mapped([memoryview(bytearray(size))])
                    else:
                        backend.mapping_failed()
                case SetKick(_, fd) | SetCall(_, fd) | SetError(_, fd) if fd is not None:
                    taken.append(fd)
                case CloseFds(fds):
                    taken.extend(fds)

    try:
        for request, payload, count, needs_reply, honest in sequence:
            message = emit(request, payload, reply=False, needs_reply=needs_reply)
            if not honest:
                message = message[:5] + bytes([message[5] ^ 1]) + message[6:]
            fds = range(next_fd, next_fd + count)
            next_fd += count
            while message and backend.wanted():
                wanted = backend.wanted()
                backend.receive(message[:wanted], fds)
                message, fds = message[wanted:], range(0)
                carry_out()
            assert len(backend.take_replies()) <= 1
            if backend.from_guest is not None:
                backend.from_guest.take_frames(4)
            if backend.to_guest is not None:
                backend.to_guest.put_frames([bytes(100)])
    except VhostViolation:
        assert len(backend.take_replies()) <= 1
    carry_out()
    backend.close()
    carry_out()
    assert sorted(taken) == list(range(1000, next_fd))
