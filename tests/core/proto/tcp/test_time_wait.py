"""The queue of connections in TIME-WAIT."""

from __future__ import annotations

from math import inf

from sansnet_core.config import Limits
from sansnet_core.context import Context
from sansnet_core.proto.tcp.states import TIME_OVER
from sansnet_core.proto.tcp.time_wait import TimeWait
from sansnet_core.testing import SECRET, make_config


class Flow:
    """A connection that notes when it ends."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.deadline = self.queued = inf
        self.ticket = 0
        self.ended: list[float] = []

    def expire(self) -> None:
        raise AssertionError("its own deadline was forgotten")

    def fire(self, event: str) -> None:
        assert event == TIME_OVER
        self.ended.append(self.context.now)


def run(context: Context, until: float) -> None:
    """Let time pass as a driver does: it calls at each deadline."""
    while (due := context.timers.next_deadline()) is not None and due <= until:
        context.now = max(context.now, due)
        context.timers.expire(context.now)
    context.now = until


def test_each_connection_stays_for_the_whole_time_and_a_repeated_fin_begins_it_again() -> None:
    context = Context(make_config(limits=Limits(tcp_linger=2.0)), now=0.0, secret=SECRET)
    time_wait = TimeWait(context)
    first, second, third, gone = flows = [Flow(context) for _ in range(4)]
    for number, flow in enumerate(flows):
        context.timers.arm(flow, 0.1)
        run(context, 0.01 * number)
        time_wait.begin(flow)
    for _ in range(2):
        time_wait.remove(gone)
    run(context, 1.5)
    time_wait.begin(first)
    run(context, 10.0)
    assert (first.ended, second.ended, third.ended, gone.ended) == ([3.5], [2.01], [2.02], [])


def test_the_first_one_ends_to_make_room() -> None:
    context = Context(make_config(limits=Limits(tcp_linger=2.0)), now=0.0, secret=SECRET)
    time_wait = TimeWait(context)
    assert not time_wait.end_first()
    first, second = flows = [Flow(context) for _ in range(2)]
    for flow in flows:
        time_wait.begin(flow)
        run(context, context.now + 0.5)
    assert time_wait.end_first()
    assert (first.ended, second.ended) == ([1.0], [])
    run(context, 10.0)
    assert (first.ended, second.ended) == ([1.0], [2.5])


def test_thousands_of_them_keep_no_timers() -> None:
    context = Context(make_config(), now=0.0, secret=SECRET)
    time_wait = TimeWait(context)
    for _ in range(5000):
        flow = Flow(context)
        context.timers.arm(flow, 0.1)
        time_wait.begin(flow)
    assert len(context.timers._heap) < 200
    run(context, 10.0)
    assert context.timers.next_deadline() is None


def test_after_a_mistake_the_rest_of_the_queue_ends() -> None:
    context = Context(make_config(limits=Limits(tcp_linger=2.0)), now=0.0, secret=SECRET)
    time_wait, flow = TimeWait(context), Flow(context)
    time_wait.arm_again()
    assert time_wait.deadline == inf
    time_wait.begin(flow)
    time_wait.arm_again()
    assert time_wait.deadline == 2.0
    context.timers.forget(time_wait)  # as if `expire` had raised an exception
    time_wait.arm_again()
    run(context, 10.0)
    assert flow.ended == [2.0]
