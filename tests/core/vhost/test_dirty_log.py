"""The dirty log is complete and exact: a page is in it if and only if it was written."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core.vhost import Fault, VhostViolation, features
from sansnet_core.vhost.messages import Region, Request, emit_region
from tests.core.vhost.machine import HIGH, LOW, Machine, Queue


def pages(address: int, length: int) -> set[int]:
    """The pages of a range that is not empty."""
    return set(range(address // 4096, (address + length - 1) // 4096 + 1))


def used_pages(queue: Queue, elements: range, *, event: bool) -> set[int]:
    """The pages of the parts of the used ring that are written for these indices."""
    dirty = set()
    for index in elements:
        dirty |= pages(queue.used + 4 + 8 * (index % queue.size), 8)
    if elements:
        dirty |= pages(queue.used + 2, 2)
    if event:
        dirty |= pages(queue.used + 4 + 8 * queue.size, 2)
    return dirty


def test_nothing_is_logged_before_a_migration() -> None:
    machine = Machine().start()
    machine.request(Request.SET_LOG_BASE, pack("<QQ", 1 << 18, 0), [70])
    machine.down.offer([(0x60000, 100)])
    machine.to_guest.put_frames([bytes(100)])

    assert machine.dirty() == set()


def test_a_frame_and_its_ring() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.down.offer([(0x60FFF, 1), (HIGH.guest + 0x1FFF, 0x1002), (0x90000, 4096)])
    machine.to_guest.put_frames([bytes(1 + 0x1002)])

    assert machine.dirty() == {0x60, 0x100001, 0x100002, 0x100003} | used_pages(machine.down, range(1), event=True)


def test_a_buffer_that_was_not_needed_is_not_in_it() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.down.offer([(0x60000, 4096), (0x61000, 4096)])
    machine.to_guest.put_frames([bytes(4096)])

    assert 0x60 in machine.dirty()
    assert 0x61 not in machine.dirty()


def test_what_the_guest_sends_dirties_the_used_ring_alone() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.up.send(bytes(100))
    machine.from_guest.take_frames(64)

    assert machine.dirty() == used_pages(machine.up, range(1), event=True)


def test_rings_are_logged_only_where_asked_for() -> None:
    machine = Machine().start()
    machine.start_log(rings=False)
    machine.down.offer([(0x60000, 100)])
    machine.up.send(bytes(100))
    machine.to_guest.put_frames([bytes(100)])
    machine.from_guest.take_frames(64)

    assert machine.dirty() == {0x60}


def test_the_log_ends_with_the_feature() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.u64(Request.SET_FEATURES, machine.backend.features & ~features.LOG_ALL)
    machine.down.offer([(0x60000, 100)])
    machine.to_guest.put_frames([bytes(100)])

    assert machine.dirty() == set()


def restarted(machine: Machine, *, stop: bool = True) -> None:
    """QEMU sends a new log, after the rings, if the guest's driver starts during a migration."""
    for queue in (machine.down, machine.up):
        if stop:
            machine.state(Request.GET_VRING_BASE, queue.index)
    machine.u64(Request.SET_FEATURES, features.OFFERED, needs_reply=True)
    machine.share_memory()
    for queue in (machine.down, machine.up):
        machine.state(Request.SET_VRING_NUM, queue.index, queue.size)
        machine.state(Request.SET_VRING_BASE, queue.index, queue.used_position)
        machine.addresses(queue, log=True)
        machine.u64(Request.SET_VRING_KICK, queue.index, [50 + queue.index])


@pytest.mark.parametrize("stop", [False, True])
def test_a_driver_that_starts_during_a_migration_has_no_ring_before_there_is_a_log(stop: bool) -> None:
    machine = Machine()
    if stop:
        machine.start()
        machine.start_log()
    else:
        machine.negotiate(features.OFFERED)
    restarted(machine, stop=stop)
    assert machine.backend.to_guest is None
    assert machine.backend.from_guest is None

    machine.start_log(rings=False)
    machine.down.offer([(0x60000, 100)])
    machine.to_guest.put_frames([bytes(100)])
    assert machine.dirty() == {0x60} | used_pages(machine.down, range(1), event=True)


def test_a_log_ends_when_it_is_not_wanted_any_more() -> None:
    machine = Machine().start()
    machine.start_log()
    machine.u64(Request.SET_FEATURES, machine.backend.features & ~features.LOG_ALL)
    machine.log.append(0)  # no view refers to it
    machine.u64(Request.SET_FEATURES, machine.backend.features | features.LOG_ALL)
    assert machine.backend.to_guest is None


def test_a_flag_that_allows_kicks_again_is_in_it() -> None:
    machine = Machine().start(features.OFFERED & ~features.LOG_ALL & ~features.EVENT_IDX)
    machine.start_log()
    machine.up.write16(machine.up.used, 1)
    assert machine.from_guest.take_frames(64) == []
    assert machine.dirty() == pages(machine.up.used, 2)


def test_the_address_of_the_log_is_the_one_that_was_given() -> None:
    machine = Machine().start()
    machine.start_log(rings=False)
    user = LOW.user
    down = machine.down
    machine.request(
        Request.SET_VRING_ADDR,
        pack("<IIQQQQ", 0, 1, user + down.descriptors, user + down.used, user + down.available, 0x77000),
    )
    down.offer([(0x60000, 100)])
    machine.to_guest.put_frames([bytes(100)])

    assert machine.dirty() == {0x60, 0x77}


@pytest.mark.parametrize("end", [0, 1])
def test_a_log_that_does_not_reach_over_the_memory(end: int) -> None:
    machine = Machine().start()
    size = (HIGH.guest + HIGH.size) // 4096 // 8 - 1 + end
    machine.u64(Request.SET_FEATURES, machine.backend.features | features.LOG_ALL)
    payload = pack("<QQ", size, 0)
    if end:
        machine.request(Request.SET_LOG_BASE, payload, [70])
        return
    with pytest.raises(VhostViolation) as caught:
        machine.request(Request.SET_LOG_BASE, payload, [70])
    assert caught.value.fault is Fault.LOG_RANGE


def test_a_small_log_is_noticed_when_it_is_to_be_used() -> None:
    machine = Machine().start()
    machine.request(Request.SET_LOG_BASE, pack("<QQ", 32, 0), [70])
    with pytest.raises(VhostViolation) as caught:
        machine.u64(Request.SET_FEATURES, machine.backend.features | features.LOG_ALL)
    assert caught.value.fault is Fault.LOG_RANGE


def test_memory_that_grows_beyond_the_log() -> None:
    machine = Machine().start()
    machine.start_log()
    more = Region(1 << 40, LOW.size, 0, 0)
    machine.memory[more] = bytearray(machine.memory[LOW])
    with pytest.raises(VhostViolation) as caught:
        machine.request(Request.ADD_MEM_REG, emit_region(more), [80])
    assert caught.value.fault is Fault.LOG_RANGE


@pytest.mark.parametrize("address", [HIGH.guest + HIGH.size, (1 << 64) - 1, HIGH.guest + HIGH.size - 69])
def test_a_ring_that_is_logged_outside_the_log(address: int) -> None:
    machine = Machine().start()
    machine.start_log(rings=False)
    user = LOW.user
    down = machine.down
    with pytest.raises(VhostViolation) as caught:
        machine.request(
            Request.SET_VRING_ADDR,
            pack("<IIQQQQ", 0, 1, user + down.descriptors, user + down.used, user + down.available, address),
        )
    assert caught.value.fault is Fault.LOG_RANGE


@pytest.mark.parametrize("payload", [pack("<QQ", 0, 0), pack("<QQ", 1 << 63, 1 << 63)])
def test_a_log_that_is_empty_or_wraps(payload: bytes) -> None:
    machine = Machine().start()
    with pytest.raises(VhostViolation) as caught:
        machine.request(Request.SET_LOG_BASE, payload, [70])
    assert caught.value.fault is Fault.LOG_RANGE


@settings(max_examples=60)
@given(st.data())
def test_any_traffic_leaves_exactly_the_pages_that_changed(data: st.DataObject) -> None:
    """Compared with a model: the buffers that the used ring reports as written, and the parts of that ring."""
    base = data.draw(st.integers(0, 65535), "base")
    machine = Machine(size=1024, base=base)
    down = machine.down
    down.used = 0x10FFC  # the index, the elements and the event are on pages of their own
    down.write16(down.used + 2, base)
    machine.start()
    machine.start_log()
    address = st.one_of(st.integers(0x60000, 0xF0000), st.integers(HIGH.guest, HIGH.guest + HIGH.size - 0x2000))
    offered: dict[int, tuple[int, int]] = {}
    expected: set[int] = set()
    before = {region: bytes(machine.view(region)) for region in (LOW, HIGH)}
    for _ in range(data.draw(st.integers(1, 6), "rounds")):
        for buffer in data.draw(st.lists(st.tuples(address, st.integers(0, 0x2000)), max_size=8)):
            offered[down.offer([buffer])] = buffer
        frames = [b"\xaa" * size for size in data.draw(st.lists(st.integers(12, 0x3000), max_size=3))]
        start = down.used_position
        done = machine.to_guest.put_frames(frames)
        used = down.collect()
        for head, length in used:
            written = offered.pop(head)
            if length:
                expected |= pages(written[0], length)
        expected |= used_pages(down, range(start, start + len(used)), event=done < len(frames))
    assert machine.dirty() == expected
    for region, old in before.items():
        new = bytes(machine.view(region))
        for page in range(0, region.size, 4096):
            if new[page : page + 4096] != old[page : page + 4096]:
                by_guest = region is LOW and 0x1000 <= page < 0x7000
                assert by_guest or (region.guest + page) // 4096 in expected
