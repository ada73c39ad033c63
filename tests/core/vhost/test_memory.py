from __future__ import annotations

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.vhost import Fault, VhostViolation
from sansnet_core.vhost.memory import PAGE, DirtyLog, MappedRegion, MemoryTable, check_overlap
from sansnet_core.vhost.messages import Region

REGIONS = (Region(0x100, 0x40, 0x9000, 0), Region(0x140, 0x40, 0x8000, 0), Region(0x1000, 0x80, 0x5000, 0))


def table() -> tuple[MemoryTable, dict[int, int]]:
    """Regions with a different byte at each address, and the bytes by guest-physical address."""
    content: dict[int, int] = {}
    mapped = []
    for number, region in enumerate(REGIONS):
        data = bytearray((number * 0x40 + at) & 0xFF for at in range(region.size))
        content.update(zip(range(region.guest, region.guest + region.size), data, strict=True))
        mapped.append(MappedRegion(region, memoryview(data)))
    return MemoryTable(mapped), content


@given(st.one_of(st.integers(0, 0x1200), st.integers(0, (1 << 64) - 1)), st.integers(0, 0x100))
def test_a_range_is_inside_one_region_or_refused(address: int, length: int) -> None:
    memory, content = table()
    fits = any(r.guest <= address and address + length <= r.guest + r.size for r in REGIONS)
    if fits:
        expected = bytes(content[at] for at in range(address, address + length))
        assert bytes(memory.resolve(address, length)) == expected
    else:
        with pytest.raises(VhostViolation, match=Fault.CHAIN_ADDRESS.value):
            memory.resolve(address, length)


@given(st.one_of(st.integers(0x4F00, 0x9100), st.integers(0, (1 << 64) - 1)), st.integers(0, 0x100))
def test_a_range_of_user_addresses_likewise(address: int, length: int) -> None:
    memory, content = table()
    homes = [r for r in REGIONS if r.user <= address and address + length <= r.user + r.size]
    if homes:
        start = address - homes[0].user + homes[0].guest
        expected = bytes(content[at] for at in range(start, start + length))
        assert bytes(memory.resolve_user(address, length, 1)) == expected
    else:
        with pytest.raises(VhostViolation, match=Fault.RING_ADDRESS.value):
            memory.resolve_user(address, length, 1)


@pytest.mark.parametrize("address", [0x5001, 0x5002, 0x5008])
def test_a_misaligned_range_of_user_addresses(address: int) -> None:
    with pytest.raises(VhostViolation, match="misaligned"):
        table()[0].resolve_user(address, 16, 16)


def test_an_empty_table_has_nothing() -> None:
    memory = MemoryTable()
    assert memory.end == 0
    with pytest.raises(VhostViolation):
        memory.resolve(0, 0)


def test_the_end_of_memory() -> None:
    assert table()[0].end == 0x1080


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.integers(0, 60)), max_size=5))
def test_overlaps_are_found_in_either_address_space(shapes: list[tuple[int, int, int]]) -> None:
    regions = [Region(guest, size, user, 0) for guest, size, user in shapes]
    guest = [at for r in regions for at in range(r.guest, r.guest + r.size)]
    user = [at for r in regions for at in range(r.user, r.user + r.size)]
    overlap = len(set(guest)) < len(guest) or len(set(user)) < len(user)
    with pytest.raises(VhostViolation, match=Fault.REGION_OVERLAP.value) if overlap else nullcontext():
        check_overlap(regions)


@given(st.lists(st.tuples(st.integers(0, 64 * PAGE - 1), st.integers(1, 5 * PAGE)), max_size=5))
def test_the_log_has_exactly_the_pages_that_were_written(writes: list[tuple[int, int]]) -> None:
    data = bytearray(8)
    log = DirtyLog(memoryview(data))
    expected = 0
    for address, length in writes:
        length = min(length, 64 * PAGE - address)
        log.mark(address, length)
        for at in {*range(address, address + length, PAGE), address + length - 1}:
            expected |= 1 << at // PAGE
    assert int.from_bytes(data, "little") == expected


@pytest.mark.parametrize(
    ("address", "length"), [(8 * PAGE, 1), (8 * PAGE - 1, 2), (0, 8 * PAGE + 1), ((1 << 64) - 1, 1)]
)
def test_a_write_beyond_the_log(address: int, length: int) -> None:
    data = bytearray(1)
    with pytest.raises(VhostViolation) as caught:
        DirtyLog(memoryview(data)).mark(address, length)
    assert caught.value.fault is Fault.LOG_RANGE
    assert data == b"\0"
