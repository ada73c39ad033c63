"""The size of the heap of deadlines is bounded by the number of owners."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.timers import Timers


class Owner:
    def __init__(self) -> None:
        self.deadline = self.queued = inf
        self.ticket = 0
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


def test_one_deadline_armed_again_and_again_leaves_no_duplicates() -> None:
    """A delayed ACK before a distant persist timer: each ACK pops its own entry and queues the distant time again."""
    timers, owner = Timers(), Owner()
    for step in range(10_000):
        timers.arm(owner, 0.001 * step)
        timers.expire(0.001 * step)
        timers.arm(owner, 60.0)
        assert len(timers._heap) < 150
    assert owner.expired == 10_000
    timers.expire(60.0)

    assert owner.expired == 10_001
    timers.expire(1e9)
    assert owner.expired == 10_001
    assert timers.next_deadline() is None


@pytest.mark.parametrize("forgotten", [False, True])
def test_an_owner_that_fails_is_the_first_of_the_next_call(forgotten: bool) -> None:
    class Failing(Owner):
        def expire(self) -> None:
            super().expire()
            if self.expired == 1:
                raise ZeroDivisionError
            order.append(self)

    class Other(Owner):
        def expire(self) -> None:
            order.append(self)

    order: list[Owner] = []
    timers, failing, other = Timers(), Failing(), Other()
    timers.arm(failing, 1.0)
    timers.arm(other, 2.0)
    with pytest.raises(ZeroDivisionError):
        timers.expire(3.0)
    assert order == []
    if forgotten:
        timers.forget(failing)
    timers.expire(3.0)
    assert order == ([other] if forgotten else [failing, other])


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["arm", "forget", "expire"]), st.integers(0, 8)), max_size=200
    )
)
def test_owners_are_called_in_time_and_once(steps: list[tuple[int, str, int]]) -> None:
    timers, owners, now = Timers(), [Owner() for _ in range(4)], 0
    armed: dict[int, int] = {}
    expected = [0] * 4
    for which, what, ahead in steps:
        if what == "arm":
            timers.arm(owners[which], now + ahead)
            armed[which] = now + ahead
        elif what == "forget":
            timers.forget(owners[which])
            armed.pop(which, None)
        else:
            now += ahead
            timers.expire(now)
            for due in [one for one, deadline in armed.items() if deadline <= now]:
                expected[due] += 1
                del armed[due]
        assert [owner.expired for owner in owners] == expected
        following = timers.next_deadline()
        assert following is not None or not armed
        assert following is None or not armed or following <= min(armed.values())
        assert len(timers._heap) <= 2 * len(owners) + 65


@given(
    cycle=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["arm", "arm at", "forget", "expire"]),
            st.sampled_from([0, 1, 2, 1000, 100_000]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_no_cycle_of_steps_makes_the_heap_grow(cycle: list[tuple[int, str, int]]) -> None:
    """A deadline is some time ahead, or a certain time, which is the same in each turn."""
    timers, owners, now = Timers(), [Owner() for _ in range(3)], 0
    for _ in range(300):
        for which, what, time in cycle:
            if what == "arm":
                timers.arm(owners[which], now + time)
            elif what == "arm at":
                timers.arm(owners[which], max(time, now))
            elif what == "forget":
                timers.forget(owners[which])
            else:
                now += min(time, 2)
                timers.expire(now)
            assert len(timers._heap) <= 2 * len(owners) + 130
