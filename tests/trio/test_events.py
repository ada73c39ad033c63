"""Events: subscribers of a driver, and the callback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import pytest
import trio
import trio.testing

from sansnet_core import Notice
from sansnet_core.notices import LeaseGiven, NameAsked
from sansnet_trio import DriverStatistics, Event, Lost, Subscription
from sansnet_trio.events import EventPublisher
from tests.trio.fake import FakeNetwork
from tests.trio.test_driver import PairLink, running, until

LEASE: Final = LeaseGiven(b"\x0a\x00\x02\x0f", bytes(6), 1.0)


def asked(number: int) -> NameAsked:
    return NameAsked(f"name{number}.example", True, float(number))


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(5):
            await body()

    trio.run(main)


def publisher(callback: Callable[[Sequence[Notice]], None] | None = None) -> tuple[EventPublisher, list[bool]]:
    """A publisher, and what it has switched."""
    switched: list[bool] = []
    return EventPublisher(switched.append, callback), switched


async def everything(subscription: Subscription) -> list[Event]:
    """The events until the end."""
    return [event async for event in subscription]


def test_a_subscriber_gets_the_notices_of_a_driver() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        async with running(network, link) as driver, driver.subscribe() as events:
            assert network.wanted
            network.notices = [LEASE, asked(1)]
            link.guest.send(b"wake up")
            assert [await anext(events), await anext(events)] == [LEASE, asked(1)]
        assert not network.wanted

    run(body)


def test_the_iteration_ends_with_the_network_after_the_events_that_are_left() -> None:
    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        async with running(network, link) as driver:
            subscribed = driver.subscribe()
            events = await subscribed.__aenter__()
            network.notices = [LEASE, asked(1)]
            link.guest.send(b"wake up")
            await until(lambda: not network.notices)
        assert await everything(events) == [LEASE, asked(1)]
        await subscribed.__aexit__(None, None, None)
        async with driver.subscribe() as late:
            assert await everything(late) == []

    run(body)


def test_a_task_that_waits_when_the_network_ends_goes_on() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(10) as events, trio.open_nursery() as nursery:
            nursery.start_soon(everything, events)
            nursery.start_soon(everything, events)
            await trio.testing.wait_all_tasks_blocked()
            made.close()

    run(body)


def test_a_fact_of_another_task_reaches_subscribers_and_callback_at_once() -> None:
    """Neither waits for the guest's next frame."""

    async def body() -> None:
        network, link = FakeNetwork(), PairLink()
        called: list[Notice] = []
        async with running(network, link, called.extend) as driver, driver.subscribe() as events:
            await trio.testing.wait_all_tasks_blocked(0.01)
            driver.tell(lambda now: network.notices.append(LEASE))
            assert called == []  # it is called in the driver's task
            assert await anext(events) == LEASE
            await until(lambda: called == [LEASE])

    run(body)


def test_an_exception_of_the_callback_leaves_the_driver_and_not_the_task_that_told_a_fact() -> None:
    def fail(notices: Sequence[Notice]) -> None:
        raise KeyError("mine")

    link = PairLink()

    async def body() -> None:
        network = FakeNetwork()
        async with running(network, link, fail) as driver:
            driver.tell(lambda now: network.notices.append(LEASE))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        run(body)
    assert caught.group_contains(KeyError, match="mine", depth=1)
    link.guest.close()


def test_each_subscriber_has_its_own_buffer() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(1) as small, made.subscribe(10) as large:
            made.publish([asked(1)], 1.0)
            assert await anext(small) == asked(1)
            made.publish([asked(2), asked(3)], 3.0)
            assert [await anext(small) for _ in range(2)] == [Lost(1, 3.0), asked(3)]
            assert [await anext(large) for _ in range(3)] == [asked(1), asked(2), asked(3)]

    run(body)


def test_a_slow_subscriber_loses_the_oldest_events_and_is_told_how_many() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(3) as events:
            made.publish([asked(number) for number in range(5)], 5.0)
            made.publish([asked(5)], 6.0)
            assert await anext(events) == Lost(3, 6.0)
            made.publish([asked(6)], 7.0)
            assert await anext(events) == Lost(1, 7.0)
            assert [(await anext(events)) for _ in range(3)] == [asked(4), asked(5), asked(6)]
            made.publish([asked(number) for number in range(7, 100)], 8.0)
            made.close()
            assert await everything(events) == [Lost(90, 8.0), asked(97), asked(98), asked(99)]

    run(body)


def test_a_cancelled_wait_loses_no_event() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(10) as events:
            for wait in (0.0, 0.001):
                with trio.move_on_after(wait) as scope:
                    await anext(events)
                assert scope.cancelled_caught
            made.publish([asked(1)], 1.0)
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(events)
            assert scope.cancelled_caught
            assert await anext(events) == asked(1)

    run(body)


def test_each_step_of_the_iteration_is_a_checkpoint() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(1) as events:
            made.publish([asked(0), asked(1)], 1.0)
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    await anext(events)
            made.close()
            with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
                await anext(events)

    run(body)


def test_two_tasks_share_the_events_of_one_subscription() -> None:
    async def body() -> None:
        made, _ = publisher()
        seen: list[Event] = []

        async def collect(events: Subscription) -> None:
            seen.extend(await everything(events))

        async with made.subscribe(10) as events, trio.open_nursery() as nursery:
            nursery.start_soon(collect, events)
            nursery.start_soon(collect, events)
            await trio.testing.wait_all_tasks_blocked()
            made.publish([asked(1)], 1.0)
            await trio.testing.wait_all_tasks_blocked()
            made.publish([asked(2), asked(3)], 3.0)
            await trio.testing.wait_all_tasks_blocked()
            made.close()
        assert sorted(map(str, seen)) == sorted(map(str, [asked(1), asked(2), asked(3)]))

    run(body)


def test_the_iteration_ends_with_its_block() -> None:
    async def body() -> None:
        made, _ = publisher()
        async with made.subscribe(10) as events:
            made.publish([asked(1)], 1.0)
        made.publish([asked(2)], 2.0)
        assert await everything(events) == [asked(1)]

    run(body)


def test_the_network_makes_notices_while_there_are_subscribers() -> None:
    async def body() -> None:
        made, switched = publisher()
        assert switched == []
        async with made.subscribe(10):
            assert switched == [True]
            async with made.subscribe(10):
                pass
            assert switched == [True]
        assert switched == [True, False]
        async with made.subscribe(10):
            pass
        assert switched == [True, False] * 2

    run(body)


def test_the_network_makes_notices_for_a_callback_without_end() -> None:
    async def body() -> None:
        made, switched = publisher(print)
        assert switched == [True]
        async with made.subscribe(10):
            pass
        assert switched == [True]

    run(body)


@pytest.mark.parametrize("buffer", [0, -1, 1.5, None, "10"])
def test_a_buffer_holds_at_least_one_event(buffer: int) -> None:
    with pytest.raises(ValueError, match=r"^buffer: .* is not a number of events; give 1 or more$"):
        publisher()[0].subscribe(buffer)


def test_what_was_lost_reads_well() -> None:
    assert (str(Lost(1, 0.0)), str(Lost(7, 0.0))) == ("lost 1 event", "lost 7 events")


def test_the_counters_of_a_driver_read_well() -> None:
    assert str(DriverStatistics(5, 4, 3, 2, 1, 6, 7)).splitlines() == [
        "frames: 5 from the guest, 4 to the guest, 3 pending, 2 dropped",
        "datagrams dropped: 1",
        "sockets: 6",
        "wakeups: 7",
    ]
