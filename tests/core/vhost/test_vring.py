from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.vhost import MAX_FRAME_SIZE, Fault, VhostViolation, features
from sansnet_core.vhost.messages import Request
from sansnet_core.vhost.vring import MAX_RING_SIZE
from tests.core.vhost.machine import HIGH, INDIRECT, LOW, NEXT, WRITE, Machine, Queue

HEADER = bytes(10) + b"\1\0"
"""The `virtio_net_hdr` that the guest gets with a frame in one buffer."""
FRAME = bytes(12) + b"to everybody......from me...text"


def fault_of(machine: Machine) -> Fault:
    """The fault of taking frames. Afterwards the ring is dead, and nothing outside the memory has changed."""
    with pytest.raises(VhostViolation) as caught:
        machine.from_guest.take_frames(64)
    assert machine.from_guest.take_frames(64) == []
    assert machine.guarded()
    return caught.value.fault


# From the guest


def test_a_frame_comes_out_and_its_buffer_goes_back() -> None:
    machine = Machine().start()
    head = machine.up.send(FRAME)

    assert machine.from_guest.take_frames(64) == [FRAME]
    assert machine.up.collect() == [(head, 0)]
    assert machine.from_guest.base == 1


def test_nothing_is_taken_from_an_empty_ring() -> None:
    machine = Machine().start()

    assert machine.from_guest.take_frames(64) == []
    assert machine.up.collect() == []


def test_a_frame_in_many_buffers_of_both_regions() -> None:
    machine = Machine().start()
    machine.write(0x40000, FRAME[:12])
    machine.write(HIGH.guest + HIGH.size - 5, FRAME[12:17])
    machine.write(0x50000, FRAME[17:])
    buffers = [(0x40000, 12), (HIGH.guest + HIGH.size - 5, 5), (0, 0), (0x50000, len(FRAME) - 17)]
    machine.up.offer(buffers)
    machine.up.offer(buffers, indirect=True)

    assert machine.from_guest.take_frames(64) == [FRAME, FRAME]


def test_a_buffer_before_an_indirect_table() -> None:
    machine = Machine().start()
    machine.write(0x40000, FRAME)
    machine.up.offer([(0x40000 + 12, len(FRAME) - 12)], indirect=True)
    machine.up.describe(7, 0x40000, 12, NEXT, 0)
    machine.up.write16(machine.up.available + 4, 7)

    assert machine.from_guest.take_frames(64) == [FRAME]


def test_as_many_frames_as_asked_for() -> None:
    machine = Machine().start()
    frames = [FRAME + bytes([number]) for number in range(5)]
    for number, frame in enumerate(frames):
        machine.up.send(frame, address=0x40000 + 0x100 * number)

    assert machine.from_guest.take_frames(3) == frames[:3]
    assert machine.from_guest.take_frames(3) == frames[3:]


def test_a_batch_is_bounded_in_bytes() -> None:
    machine = Machine(size=64).start()
    for _ in range(64):
        machine.up.offer([(0x40000, 65536)])

    assert len(machine.from_guest.take_frames(64)) == 16


def test_the_ring_tells_whether_it_has_more() -> None:
    machine = Machine(size=64).start()
    assert not machine.from_guest.more
    for _ in range(30):
        machine.up.offer([(0x40000, 65536)])
    for count, more in ((5, True), (64, True), (64, False)):
        machine.from_guest.take_frames(count)
        assert machine.from_guest.more is more
    assert machine.up.kick_wanted() == 30, "a kick is wanted once there is no more"


def test_indices_wrap() -> None:
    machine = Machine(base=65530).start()
    for number in range(20):
        head = machine.up.send(FRAME + bytes([number]))
        assert machine.from_guest.take_frames(64) == [FRAME + bytes([number])]
        assert machine.up.collect() == [(head, 0)]
    assert machine.from_guest.base == 14


def test_a_frame_that_is_too_large_is_cut_off_where_the_network_notices() -> None:
    machine = Machine().start()
    machine.up.offer([(0x40000, 0x10000)] * 8)

    assert [len(frame) for frame in machine.from_guest.take_frames(64)] == [12 + MAX_FRAME_SIZE + 1]
    assert len(machine.up.collect()) == 1


def test_a_frame_without_bytes_is_for_the_network_to_refuse() -> None:
    machine = Machine().start()
    head = machine.up.offer([(1 << 63, 0)])

    assert machine.from_guest.take_frames(64) == [b""]
    assert machine.up.collect() == [(head, 0)]


def test_the_largest_ring() -> None:
    machine = Machine(size=8)
    machine.up = Queue(machine, 1, MAX_RING_SIZE, 0)
    machine.up.descriptors, machine.up.available, machine.up.used = 0x1000, 0x90000, 0xB0000
    machine.negotiate(features.OFFERED & ~features.LOG_ALL)
    machine.share_memory()
    machine.set_up(machine.up)
    machine.write(0x90000, bytes(8))
    machine.write(0xB0000, bytes(8))
    machine.up.describe(0, 0xA8000, 20, 0)
    machine.up.write16(machine.up.available + 2, MAX_RING_SIZE)

    assert machine.from_guest.take_frames(64) == [bytes(20)] * 64


# Notification


def test_the_first_answer_is_to_notify_whatever_happened_before() -> None:
    machine = Machine().start()

    assert machine.from_guest.must_notify()
    assert not machine.from_guest.must_notify()


def test_the_guest_is_notified_when_the_index_passes_its_event() -> None:
    machine = Machine(base=65534).start()
    machine.from_guest.must_notify()
    machine.up.want_notice(0)
    for used, notify in ((65535, False), (0, False), (1, True), (2, False)):
        machine.up.send(FRAME)
        machine.from_guest.take_frames(64)
        before = machine.fences
        assert machine.from_guest.must_notify() is notify, used
        assert machine.fences == before + 1, "the index is published before the event is read"


def test_a_batch_that_passes_the_event_is_notified() -> None:
    machine = Machine().start()
    machine.from_guest.must_notify()
    machine.up.want_notice(1)
    for _ in range(3):
        machine.up.send(FRAME)
    machine.from_guest.take_frames(64)

    assert machine.from_guest.must_notify()


def test_without_event_indices_a_flag_forbids_notices() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.EVENT_IDX)
    machine.from_guest.must_notify()
    machine.up.send(FRAME)
    machine.from_guest.take_frames(64)
    assert machine.from_guest.must_notify()

    machine.up.forbid_notice()
    machine.up.send(FRAME)
    machine.from_guest.take_frames(64)
    assert not machine.from_guest.must_notify()
    assert machine.up.kick_wanted() == 0, "there is no such field"


def test_kicks_are_wanted_when_the_ring_was_found_empty_and_not_before() -> None:
    machine = Machine(base=100).start()
    for _ in range(3):
        machine.up.send(FRAME)

    machine.from_guest.take_frames(3)
    assert machine.up.kick_wanted() == 0
    machine.from_guest.take_frames(3)
    assert machine.up.kick_wanted() == 103


def test_without_event_indices_kicks_that_somebody_before_us_forbade_are_allowed_again() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.EVENT_IDX)
    for queue in (machine.up, machine.down):
        queue.write16(queue.used, 1)

    assert machine.from_guest.take_frames(64) == []
    assert machine.to_guest.put_frames([FRAME]) == 0
    assert machine.up.read16(machine.up.used) == machine.down.read16(machine.down.used) == 0


@pytest.mark.interpreted
@pytest.mark.parametrize("event", [features.EVENT_IDX, 0])
def test_a_chain_that_comes_while_kicks_are_asked_for_is_not_missed(event: int) -> None:
    machine = Machine()
    late = [FRAME]

    def fence() -> None:
        if late:
            machine.up.send(late.pop())

    machine.backend._fence = fence  # type: ignore[misc]  # it is a method
    machine.start(features.OFFERED & ~features.LOG_ALL & ~features.EVENT_IDX | event)
    machine.up.write16(machine.up.used, 1)

    assert machine.from_guest.take_frames(64) == [FRAME]


# To the guest


def test_a_frame_goes_into_a_buffer() -> None:
    machine = Machine().start()
    head = machine.down.offer([(0x60000, 1526)])

    assert machine.to_guest.put_frames([FRAME]) == 1
    assert machine.down.collect() == [(head, len(FRAME))]
    assert machine.read(0x60000, len(FRAME) + 1) == HEADER + FRAME[12:] + b"\0"


def test_a_frame_is_spread_over_mergeable_buffers() -> None:
    machine = Machine().start()
    heads = [machine.down.offer([(0x60000 + 0x1000 * number, 1500)], indirect=bool(number & 1)) for number in range(5)]
    frame = bytes(12) + bytes(range(256)) * 16

    assert machine.to_guest.put_frames([(frame[:54], frame[54:])]) == 1
    assert machine.down.collect() == list(zip(heads, (1500, 1500, 1108), strict=False))
    received = b"".join(machine.read(0x60000 + 0x1000 * number, 1500) for number in range(3))
    assert received[: len(frame)] == bytes(10) + b"\3\0" + frame[12:]


@given(
    sizes=st.lists(st.lists(st.sampled_from([0, 1, 9, 12, 65, 66, 67, 300]), min_size=1, max_size=4), max_size=7),
    split=st.integers(12, 700),
    size=st.integers(12, 700),
    mergeable=st.booleans(),
)
def test_any_buffers_get_the_bytes_of_a_frame(
    sizes: list[list[int]], split: int, size: int, *, mergeable: bool
) -> None:
    """Chains of any sizes hold the same bytes of a frame in one part or in two."""
    unwanted = features.LOG_ALL | (0 if mergeable else features.MRG_RXBUF)
    machine = Machine(size=32).start(features.OFFERED & ~unwanted)
    chains = {}
    for number, lengths in enumerate(sizes):
        buffers = [(0x60000 + 0x4000 * number + 0x1000 * place, length) for place, length in enumerate(lengths)]
        chains[machine.down.offer(buffers, indirect=bool(number & 1))] = buffers
    frame = bytes(12) + random.Random(size).randbytes(size - 12)
    done = machine.to_guest.put_frames([(frame[:split], memoryview(frame)[split:]) if split < size else frame])

    used = machine.down.collect()
    written = b""
    for head, length in used:
        held = b"".join(machine.read(*buffer) for buffer in chains[head])
        written += held[:length]
        assert not any(held[length:]), "a byte was written that is not announced"
    if written:
        count = sum(length > 0 for _, length in used)
        assert (done, written) == (1, frame[:10] + count.to_bytes(2, "little") + frame[12:])
    elif mergeable:
        assert done == 0
        assert sum(map(sum, sizes)) < size
    else:
        assert done == (max(map(sum, sizes), default=0) > 0) or not any(sum(lengths) >= size for lengths in sizes)
    assert machine.guarded()


def test_a_header_may_be_spread_over_buffers_too() -> None:
    machine = Machine().start()
    machine.down.offer([(0x60000, 5), (0x61000, 6)])
    machine.down.offer([(0x62000, 1500)])

    assert machine.to_guest.put_frames([memoryview(FRAME)]) == 1
    assert machine.read(0x60000, 5) + machine.read(0x61000, 6) == bytes(10) + b"\2"
    assert machine.read(0x62000, len(FRAME) - 11) == b"\0" + FRAME[12:]


def test_a_frame_waits_until_all_its_buffers_are_there() -> None:
    machine = Machine().start()
    frame = bytes(12) + bytes(2500)
    machine.down.offer([(0x60000, 1500)])

    assert machine.to_guest.put_frames([FRAME, frame, FRAME]) == 1
    assert len(machine.down.collect()) == 1
    machine.down.offer([(0x61000, 1500)])
    assert machine.to_guest.put_frames([frame, FRAME]) == 0
    assert machine.down.collect() == []
    assert machine.down.kick_wanted() == 2
    machine.down.offer([(0x62000, 1500)])
    assert machine.to_guest.put_frames([frame, FRAME]) == 1
    assert machine.down.collect() == [(1, 1500), (2, 1012)]


def test_a_buffer_without_bytes_goes_back_and_is_not_counted() -> None:
    machine = Machine().start()
    machine.down.offer([(0, 0)])
    machine.down.offer([(0x60000, 1500)])

    assert machine.to_guest.put_frames([FRAME]) == 1
    assert machine.down.collect() == [(0, 0), (1, len(FRAME))]
    assert machine.read(0x60000, len(FRAME)) == HEADER + FRAME[12:]


def test_a_buffer_without_bytes_between_others_is_passed_over() -> None:
    machine = Machine().start()
    machine.down.offer([(0x60000, 10), (1 << 63, 0), (0x61000, 1500)])

    assert machine.to_guest.put_frames([FRAME]) == 1
    assert machine.read(0x60000, 10) + machine.read(0x61000, len(FRAME) - 10) == HEADER + FRAME[12:]


def test_a_frame_that_the_whole_ring_cannot_hold_is_dropped() -> None:
    machine = Machine(size=4).start()
    for number in range(4):
        machine.down.offer([(0x60000 + 0x1000 * number, 100)])

    assert machine.to_guest.put_frames([bytes(500), FRAME]) == 2
    assert machine.down.collect() == [(0, len(FRAME))]
    assert machine.backend.dropped == 1


def test_without_mergeable_buffers_a_frame_must_fit_into_one() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.MRG_RXBUF)
    machine.down.offer([(0x60000, 50), (0x61000, 50)])

    assert machine.to_guest.put_frames([bytes(101), FRAME]) == 2
    assert machine.down.collect() == [(0, len(FRAME))]
    assert machine.to_guest.dropped == 1
    machine.state(Request.GET_VRING_BASE, 0)
    assert machine.backend.dropped == 1


def test_without_event_indices_buffers_that_are_missing_are_waited_for_too() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.EVENT_IDX)

    assert machine.to_guest.put_frames([FRAME]) == 0
    assert machine.down.kick_wanted() == 0


# Hostile guests


@pytest.mark.parametrize("index", [8, 9, 255, 65535])
def test_a_head_outside_the_table(index: int) -> None:
    machine = Machine().start()
    machine.up.push(index)

    assert fault_of(machine) is Fault.CHAIN_INDEX


@pytest.mark.parametrize("index", [8, 65535])
def test_a_next_descriptor_outside_the_table(index: int) -> None:
    machine = Machine().start()
    machine.up.describe(0, 0x40000, 20, NEXT, index)
    machine.up.push(0)

    assert fault_of(machine) is Fault.CHAIN_INDEX


def test_a_next_descriptor_outside_an_indirect_table() -> None:
    machine = Machine().start()
    machine.up.offer([(0x40000, 20), (0x40000, 20)], indirect=True)
    machine.write(machine.up.tables + 14, b"\2\0")

    assert fault_of(machine) is Fault.CHAIN_INDEX


@pytest.mark.parametrize("length", [1, 2, 8])
def test_a_chain_that_is_a_loop(length: int) -> None:
    machine = Machine().start()
    for place in range(length):
        machine.up.describe(place, 0x40000, 0, NEXT, (place + 1) % length)
    machine.up.push(0)

    assert fault_of(machine) is Fault.CHAIN_LOOP


def test_an_indirect_table_that_is_a_loop() -> None:
    machine = Machine().start()
    machine.up.offer([(0x40000, 0)] * 3, indirect=True)
    machine.write(machine.up.tables + 2 * 16 + 12, b"\1\0\0\0")

    assert fault_of(machine) is Fault.CHAIN_LOOP


def test_a_chain_of_more_than_1024_descriptors() -> None:
    machine = Machine(size=2048)
    machine.up = Queue(machine, 1, 2048, 0)
    machine.up.tables = 0x80000
    machine.up.descriptors, machine.up.available, machine.up.used = 0x60000, 0x70000, 0x72000
    machine.negotiate(features.OFFERED & ~features.LOG_ALL)
    machine.share_memory()
    machine.set_up(machine.up)
    machine.up.offer([(0x40000, 1)] * 1024)
    assert len(machine.from_guest.take_frames(64)[0]) == 1024

    machine.up.offer([(0x40000, 1)] * 1025)
    assert fault_of(machine) is Fault.CHAIN_LOOP


def wide(machine: Machine) -> Queue:
    """A ring to the guest with room for 2048 descriptors."""
    queue = machine.down = Queue(machine, 0, 2048, 0)
    queue.descriptors, queue.available, queue.used = 0x60000, 0x70000, 0x72000
    machine.negotiate(features.OFFERED & ~features.LOG_ALL)
    machine.share_memory()
    machine.set_up(queue)
    return queue


def test_a_frame_may_take_1024_descriptors() -> None:
    machine = Machine()
    queue = wide(machine)
    for _ in range(16):
        queue.offer([(0x40000, 1)] * 64)

    assert machine.to_guest.put_frames([bytes(1024)]) == 1
    assert len(queue.collect()) == 16


@pytest.mark.parametrize("length", [0, 1])
def test_buffers_of_which_a_frame_takes_more_than_1024_descriptors(length: int) -> None:
    """Examining all buffers of a large ring takes seconds, and after a drop the next frame would meet them again."""
    machine = Machine()
    queue = wide(machine)
    for _ in range(17):
        queue.offer([(0x40000, length)] * 64)

    with pytest.raises(VhostViolation) as caught:
        machine.to_guest.put_frames([bytes(1025)])
    assert caught.value.fault is Fault.FRAME_BUFFERS
    assert queue.collect() == []


@pytest.mark.parametrize("flags", [INDIRECT | NEXT, INDIRECT | NEXT | WRITE])
def test_an_indirect_table_with_a_descriptor_behind_it(flags: int) -> None:
    machine = Machine().start()
    machine.up.offer([(0x40000, 20)], indirect=True)
    machine.up.describe(0, machine.up.tables, 16, flags, 1)

    assert fault_of(machine) is Fault.CHAIN_INDIRECT


def test_a_nested_indirect_table() -> None:
    machine = Machine().start()
    machine.up.offer([(machine.up.tables, 16)], indirect=True)
    machine.write(machine.up.tables + 12, bytes([INDIRECT]))

    assert fault_of(machine) is Fault.CHAIN_INDIRECT


@pytest.mark.parametrize("length", [0, 1, 15, 17, 16 * 1025, 0xFFFFFFF0])
def test_an_indirect_table_of_a_wrong_size(length: int) -> None:
    machine = Machine().start()
    machine.up.describe(0, machine.up.tables, length, INDIRECT)
    machine.up.push(0)

    assert fault_of(machine) is Fault.CHAIN_INDIRECT


def test_an_indirect_table_that_was_not_negotiated() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.INDIRECT_DESC)
    machine.up.offer([(0x40000, 20)], indirect=True)

    assert fault_of(machine) is Fault.CHAIN_INDIRECT


@pytest.mark.parametrize("address", [LOW.size - 15, LOW.size, HIGH.guest - 1, HIGH.guest + HIGH.size, (1 << 64) - 16])
def test_an_indirect_table_outside_the_memory(address: int) -> None:
    machine = Machine().start()
    machine.up.describe(0, address, 16, INDIRECT)
    machine.up.push(0)

    assert fault_of(machine) is Fault.CHAIN_ADDRESS


def test_a_writable_buffer_from_the_guest() -> None:
    machine = Machine().start()
    machine.up.offer([(0x40000, 20)], write=True)

    assert fault_of(machine) is Fault.CHAIN_DIRECTION


@pytest.mark.parametrize("indirect", [False, True])
def test_a_readable_buffer_to_the_guest(indirect: bool) -> None:
    machine = Machine().start()
    machine.down.offer([(0x40000, 20)], write=False, indirect=indirect)

    with pytest.raises(VhostViolation) as caught:
        machine.to_guest.put_frames([FRAME])
    assert caught.value.fault is Fault.CHAIN_DIRECTION
    assert machine.to_guest.put_frames([FRAME]) == 0
    assert machine.down.collect() == []


@pytest.mark.parametrize(
    ("address", "length"),
    [
        (LOW.size - 1, 2),
        (LOW.size, 1),
        (LOW.size - 10, 0xFFFFFFFF),
        (HIGH.guest - 1, 1),
        (HIGH.guest - 1, 2),
        (HIGH.guest + HIGH.size, 1),
        (HIGH.guest + HIGH.size - 1, 2),
        (HIGH.guest, HIGH.size + 1),
        ((1 << 64) - 1, 1),
        ((1 << 64) - 1, 2),
        ((1 << 64) - 0x1000, 0x2000),
        (1 << 63, 1),
    ],
)
@pytest.mark.parametrize("indirect", [False, True])
def test_a_buffer_that_leaves_its_region(address: int, length: int, indirect: bool) -> None:
    machine = Machine().start()
    machine.up.offer([(address, length)], indirect=indirect)
    assert fault_of(machine) is Fault.CHAIN_ADDRESS

    machine.down.offer([(address, length)], indirect=indirect)
    with pytest.raises(VhostViolation, match="not within one memory region"):
        machine.to_guest.put_frames([FRAME])
    assert machine.guarded()


@pytest.mark.parametrize("ahead", [9, 100, 32768, 65535])
def test_an_index_further_ahead_than_the_ring_is_large(ahead: int) -> None:
    machine = Machine(base=7).start()
    machine.up.write16(machine.up.available + 2, 7 + ahead)

    assert fault_of(machine) is Fault.AVAILABLE_INDEX


@pytest.mark.parametrize("index", [1, 2, 9, 11])
def test_an_index_that_goes_back_or_laps_the_buffers_that_were_found(index: int) -> None:
    machine = Machine().start()
    for _ in range(3):
        machine.down.offer([(0x60000, 20)])
    assert machine.to_guest.put_frames([bytes(300)]) == 0
    machine.down.write16(machine.down.available + 2, index)

    with pytest.raises(VhostViolation) as caught:
        machine.to_guest.put_frames([bytes(300)])
    assert caught.value.fault is Fault.AVAILABLE_INDEX


def test_a_descriptor_that_changes_after_it_was_read() -> None:
    """The whole chain is examined before the first byte is copied, and no part of it twice."""
    machine = Machine().start()
    machine.up.offer([(0x40000, 20), (machine.up.descriptors, 16), (0x40000, 20)])

    assert [len(frame) for frame in machine.from_guest.take_frames(64)] == [56]


def test_a_buffer_that_is_the_ring_itself() -> None:
    machine = Machine().start()
    machine.down.offer([(machine.down.descriptors, 0x800)])
    for _ in range(7):
        machine.down.offer([(machine.down.available, 100)])

    for _ in range(20):
        try:
            machine.to_guest.put_frames([bytes(12) + b"\xff" * 0x700])
        except VhostViolation:
            break
    assert machine.guarded()
