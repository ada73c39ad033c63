"""The room that all connections share: how much each may take, and which one is next."""

from __future__ import annotations

from math import inf

import pytest

from sansnet_core.proto.tcp.memory import MIN_ROOM, PROMISE, RESERVE, Memory

LIMIT = 100_000


class Holder:
    """A connection with pieces beyond a gap, of 1000 bytes each."""

    def __init__(self, pieces: int = 0) -> None:
        self.pieces = pieces
        self.flushes = 0

    def discard_piece(self) -> tuple[int, bool]:
        self.pieces -= 1
        return 1000, self.pieces > 0

    def schedule_flush(self) -> None:
        self.flushes += 1


def held(count: int, limit: int = LIMIT) -> Memory:
    memory = Memory(limit)
    memory.held = count
    return memory


def _resume(memory: Memory, now: float) -> float:
    memory.resume(now)
    return memory.resume_at()


def test_at_first_nothing_is_held() -> None:
    memory = Memory(LIMIT)
    assert (memory.limit, memory.held, memory.beyond) == (LIMIT, 0, 0)


@pytest.mark.parametrize(
    ("count", "window"), [(0, 50_000), (49_999, 50_000), (50_000, 2 * RESERVE), (LIMIT, 2 * RESERVE)]
)
def test_windows_shrink_above_half(count: int, window: int) -> None:
    assert held(count).window(50_000, 1460) == window
    assert held(count).window(5000, 1460) == 5000


def test_a_small_window_has_room_for_two_segments() -> None:
    """A guest waits for a timer before it sends a smaller segment (RFC 9293, 3.8.6.2.1)."""
    assert held(LIMIT).window(4 << 20, 65480) == 2 * 65480
    assert held(LIMIT).window(50_000, 65480) == 50_000


def test_pieces_are_freed_in_turn() -> None:
    memory = held(LIMIT + 3500)
    holders = [Holder(3), Holder(1), Holder(2)]
    for holder in holders:
        memory.keep(holder, 1000 * holder.pieces, 1000 * holder.pieces)
    memory.make_room()
    assert [holder.pieces for holder in holders] == [1, 0, 1]
    assert (memory.held, memory.beyond) == (LIMIT - 500, 2000)
    memory.make_room()
    assert memory.held == LIMIT - 500
    memory.held = LIMIT + 1
    memory.make_room()
    assert [holder.pieces for holder in holders] == [1, 0, 0]  # that one is next
    memory.held = LIMIT * 2
    memory.make_room()
    assert [holder.pieces for holder in holders] == [0, 0, 0]
    assert memory.beyond == 0
    memory.make_room()


def test_after_a_recount_only_connections_that_have_pieces_are_asked_for_one() -> None:
    memory = held(0)
    holders = [Holder(1), Holder(1)]
    memory.keep(holders[0], 1000, 1000)
    memory.recount(LIMIT * 2, {holders[0]: 0, holders[1]: 1000})
    memory.make_room()
    assert [holder.pieces for holder in holders] == [1, 0]
    assert memory.beyond == 0


def test_exactly_the_limit_may_be_held() -> None:
    memory = held(LIMIT)
    holder = Holder(1)
    memory.keep(holder, 1000, 1000)
    memory.make_room()
    assert holder.pieces == 1


def test_a_connection_without_pieces_is_not_asked_for_one() -> None:
    memory = held(LIMIT * 2)
    holder = Holder(1)
    memory.keep(holder, 1000, 1000)
    memory.keep(holder, -1000, 0)
    assert memory.beyond == 0
    memory.make_room()
    assert holder.pieces == 1
    memory.keep(holder, 0, 0)


@pytest.mark.parametrize(
    ("count", "beyond", "unsent", "mss", "room"),
    [
        (0, 0, 0, 65480, LIMIT),
        (LIMIT, 0, 0, 1460, RESERVE),
        (LIMIT, 0, 0, 65480, 65480),
        (LIMIT, 0, 1, 65480, RESERVE - 1),
        (LIMIT * 9 // 8 - 1, 0, 0, 65480, 65480),
        (LIMIT * 9 // 8, 0, 0, 65480, RESERVE),
        (LIMIT * 9 // 8 + 1, 2, 0, 65480, 65480),
        (LIMIT, 0, RESERVE, 1460, 0),
        (LIMIT + 5, 0, RESERVE + 1, 1460, -1),
        (LIMIT, 20_000, 0, 1460, 20_000),
        (90_000, 1000, 10_000, 1460, 11_000),
    ],
)
def test_room_for_data_in_order(count: int, beyond: int, unsent: int, mss: int, room: int) -> None:
    memory = held(count)
    memory.beyond = beyond
    assert memory.room_in_order(unsent, mss) == room


@pytest.mark.parametrize(
    ("count", "beyond", "room"),
    [
        (0, 0, 64_000),
        (90_000, 0, 10_000),
        (90_000, 500, 10_500),
        (LIMIT - MIN_ROOM, 0, MIN_ROOM),
        (LIMIT - MIN_ROOM + 1, 0, 0),
        (LIMIT, MIN_ROOM, MIN_ROOM),
        (LIMIT, 0, 0),
    ],
)
def test_room_for_a_stream_of_the_host(count: int, beyond: int, room: int) -> None:
    memory = held(count)
    memory.beyond = beyond
    holder = Holder()
    assert memory.room(holder, 64_000) == room
    assert list(memory.waiting) == ([] if room else [holder])


@pytest.mark.parametrize(
    ("limit", "least"), [(4 * MIN_ROOM, MIN_ROOM), (4 * MIN_ROOM - 4, MIN_ROOM - 1), (3, 1), (1, 1)]
)
def test_a_tiny_limit_lets_streams_go_on(limit: int, least: int) -> None:
    memory = held(limit - least, limit)
    assert memory.room(Holder(), 10_000) == least
    memory.held += 1
    assert memory.room(Holder(), 10_000) == 0


def test_streams_that_did_not_wait_get_a_part_only() -> None:
    memory = held(LIMIT)
    waiting = [Holder() for _ in range(3)]
    for holder in waiting:
        memory.room(holder, 1)
    memory.held = LIMIT - 20_003
    assert memory.room(Holder(), 64_000) == 5000
    assert memory.room(Holder(), 4000) == 4000
    assert memory.room(waiting[0], 64_000) == 5000
    assert list(memory.waiting) == waiting[1:]
    memory.held = LIMIT - 3 * MIN_ROOM + 1
    assert memory.room(Holder(), 64_000) == MIN_ROOM
    memory.held = LIMIT - MIN_ROOM + 1
    assert memory.room(waiting[1], 64_000) == 0
    assert list(memory.waiting) == waiting[1:]


def test_as_many_streams_are_resumed_as_there_is_room_for() -> None:
    memory = held(LIMIT)
    holders = [Holder() for _ in range(4)]
    for holder in holders:
        memory.room(holder, 1)
    assert _resume(memory, 1.0) == inf
    memory.held = LIMIT - 3 * MIN_ROOM + 1
    assert _resume(memory, 1.0) == 1.0 + PROMISE
    assert [holder.flushes for holder in holders] == [1, 1, 0, 0]
    assert list(memory.promised) == holders[:2]
    assert memory.room(Holder(), 64_000) == 0  # the rest is promised
    assert memory.room(holders[0], 64_000) == MIN_ROOM  # to these
    assert _resume(memory, 1.0 + PROMISE / 2) == 1.0 + PROMISE
    assert [holder.flushes for holder in holders] == [1, 1, 0, 0]
    assert _resume(memory, 1.0 + PROMISE) == pytest.approx(1.0 + 2 * PROMISE)  # they read nothing
    assert [holder.flushes for holder in holders] == [1, 1, 1, 1]


def test_pieces_beyond_gaps_are_room_for_waiting_streams() -> None:
    memory = held(LIMIT)
    holders = [Holder() for _ in range(3)]
    for holder in holders:
        memory.room(holder, 1)
    memory.beyond = MIN_ROOM
    assert _resume(memory, 1.0) == 1.0 + PROMISE  # for the next one, should the first read nothing
    assert [holder.flushes for holder in holders] == [1, 0, 0]
    memory.beyond = MIN_ROOM - 1
    assert _resume(memory, 1.0) == inf


def test_without_a_queue_nothing_is_resumed() -> None:
    memory = held(0)
    assert _resume(memory, 1.0) == inf
    holder = Holder()
    memory.held = LIMIT
    memory.room(holder, 1)
    memory.held = 0
    assert _resume(memory, 2.0) == inf  # all are resumed
    assert holder.flushes == 1
    assert _resume(memory, 2.0) == inf
    assert holder.flushes == 1


def test_a_promise_is_kept_from_others_and_counts_once() -> None:
    memory = held(LIMIT)
    holders = [Holder() for _ in range(2)]
    for holder in holders:
        memory.room(holder, 1)
    memory.held = LIMIT - 2 * MIN_ROOM
    memory.resume(1.0)
    memory.held = LIMIT - 10_000
    assert memory.room(Holder(), 64_000) == 10_000 - 2 * MIN_ROOM
    assert memory.room(holders[0], 64_000) == 10_000 - MIN_ROOM


def test_a_connection_that_is_over_leaves_nothing() -> None:
    memory = held(LIMIT)
    holder, other = Holder(2), Holder()
    memory.room(holder, 1)
    assert list(memory.waiting) == [holder]
    memory.promised[holder] = None
    memory.beyond = 5000
    memory.keep(holder, 2000, 2000)
    memory.forget(holder, 7000, 2000)
    memory.forget(other, 0, 0)
    assert (memory.held, memory.beyond) == (LIMIT - 7000, 5000)
    assert not memory.waiting
    assert not memory.promised
    memory.held = 2 * LIMIT
    memory.make_room()
    assert holder.pieces == 2


def test_a_stream_that_is_read_late_gets_room_once() -> None:
    """Otherwise two streams could pass the room on to each other for ever, if the driver is slow."""
    memory = held(LIMIT)
    late, others = Holder(), [Holder() for _ in range(2)]
    for holder in (late, *others):
        memory.room(holder, 1)
    memory.held = LIMIT - MIN_ROOM
    memory.resume(0.0)
    memory.resume(PROMISE)
    assert list(memory.promised) == others[:1]
    assert memory.room(late, 10_000) == MIN_ROOM
    assert memory.room(late, 10_000) == 0
    assert list(memory.waiting) == [others[1], late]


def test_a_stream_that_is_over_is_not_late() -> None:
    memory = held(LIMIT)
    gone, other, new = Holder(), Holder(), Holder()
    for holder in (gone, other):
        memory.room(holder, 1)
    memory.held = LIMIT - MIN_ROOM
    memory.resume(0.0)
    memory.resume(PROMISE)
    memory.forget(gone, 0, 0)
    assert memory.room(gone, 1) == 0
    memory.forget(gone, 0, 0)
    memory.resume(2 * PROMISE)
    assert memory.room(new, 1) == 1
    memory.recount(memory.held, {new: 0})
    memory.promised[new] = None
    assert memory.room(other, 1) == 0
