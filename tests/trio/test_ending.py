"""The end of a command: the wait for its last data, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from sansnet_trio.forward.splice_tcp import Spliced
from sansnet_trio.front.ending import LastData

LOST = "the command has ended, and the host did not take at least {} bytes that it had sent"


class Flow:
    """A connection with 100 bytes, of which the host takes nothing unless a test says so."""

    def __init__(self, state: str, undelivered: int = 0, *, ended: bool = True) -> None:
        self.state, self.undelivered, self.ended = state, undelivered, ended
        self.sent = 100


class Network:
    """A network with flows, and with events at some times."""

    def __init__(self, *flows: Flow, impaired: bool = False) -> None:
        self.open = list(flows)
        self.frames = self.lost = self.undelivered = self.waiting = 0
        self.splices = self.lost_splices = 0
        self.driver = SimpleNamespace(cables=object() if impaired else None)
        self.events: dict[float, Callable[[], None]] = {}
        self.noise = False

    def at(self, time: float, event: Callable[[], None]) -> None:
        self.events[time] = event

    def _look(self) -> None:
        for time in [time for time in self.events if time <= trio.current_time()]:
            self.events.pop(time)()

    def statistics(self) -> Any:
        self._look()
        return SimpleNamespace(tcp_lost=self.lost, ignored=0, drops={})

    def driver_statistics(self) -> Any:
        self.frames += self.noise
        return SimpleNamespace(frames_received=self.frames, impaired_up=SimpleNamespace(waiting=self.waiting))

    def flows(self) -> list[Any]:
        return list(self.open)

    def spliced(self) -> Spliced:
        return Spliced(self.splices, self.undelivered, self.lost_splices)


def wait(
    made: Network, *, briefly: bool = False, clock: trio.testing.MockClock | None = None
) -> tuple[str | None, float]:
    """The loss, and the time at which the wait ends."""
    network: Any = made

    async def main() -> tuple[str | None, float]:
        last = LastData(network)
        await last.wait(briefly=briefly)
        return last.loss(), trio.current_time()

    return trio.run(main, clock=clock or trio.testing.MockClock(autojump_threshold=0))


def sets(owner: Any, **values: Any) -> Callable[[], None]:
    return lambda: owner.__dict__.update(values)


def test_without_data_it_ends_as_soon_as_all_is_quiet() -> None:
    loss, end = wait(Network())
    assert loss is None
    assert end == pytest.approx(0.005)


@pytest.mark.parametrize(
    "state", ["SYN_RECEIVED", "SYN_SENT", "UNDECIDED", "OPEN"], ids=["connecting", "inbound", "undecided", "udp"]
)
def test_flows_without_data_are_no_reason_to_wait(state: str) -> None:
    assert wait(Network(Flow(state, ended=False)))[1] == pytest.approx(0.005)


@pytest.mark.parametrize("state", ["ESTABLISHED", "TIME_WAIT", "CLOSING"])
def test_connections_that_the_guest_has_ended_are_no_reason_to_wait(state: str) -> None:
    assert wait(Network(Flow(state)))[1] == pytest.approx(0.005)


@pytest.mark.parametrize("state", ["SYN_ACK_SENT", "ESTABLISHED", "CLOSING"])
def test_it_waits_for_the_end_of_a_connection_that_the_guest_has_to_repeat(state: str) -> None:
    flow = Flow(state, ended=False)
    network = Network(flow)
    network.at(1.6, sets(flow, ended=True))
    loss, end = wait(network)
    assert loss is None
    assert 1.6 <= end < 1.7


def test_connections_that_do_not_end_are_given_up() -> None:
    loss, end = wait(Network(*(Flow("ESTABLISHED", ended=False) for _ in range(3))))
    assert loss is not None
    assert "(3 left)" in loss
    assert 10.0 <= end < 10.1


def test_each_connection_that_ends_is_progress() -> None:
    flows = [Flow("ESTABLISHED", ended=False) for _ in range(5)]
    network = Network(*flows)
    for number, flow in enumerate(flows, 1):
        network.at(9.0 * number, sets(flow, ended=True))
    loss, end = wait(network)
    assert loss is None
    assert 45.0 <= end < 45.1


def test_it_waits_as_long_as_the_host_takes_something() -> None:
    flow = Flow("CLOSING", 100)
    network = Network(flow)
    for number in range(1, 6):
        network.at(9.0 * number, sets(flow, undelivered=100 - 20 * number))
    loss, end = wait(network)
    assert loss is None
    assert 45.0 <= end < 45.1


def test_data_of_splices_are_waited_for() -> None:
    network = Network()
    network.undelivered = 50
    network.at(3.0, sets(network, undelivered=0))
    loss, end = wait(network)
    assert loss is None
    assert 3.0 <= end < 3.1


@pytest.mark.parametrize("takes", [{}, {5.0: 40}])
def test_a_host_that_takes_nothing_is_given_up(takes: dict[float, int]) -> None:
    flow = Flow("CLOSING", 100)
    network = Network(flow)
    for time, left in takes.items():
        network.at(time, sets(flow, undelivered=left))
    loss, end = wait(network)
    assert loss == LOST.format(min(takes.values(), default=100))
    assert 10.0 <= end - max(takes, default=0.0) < 10.1


def test_frames_are_no_progress() -> None:
    network = Network(Flow("ESTABLISHED", ended=False))
    network.noise = True  # as of a guest that sends the same again
    assert 10.0 <= wait(network)[1] < 10.1


def test_frames_alone_delay_the_end_for_a_moment_only() -> None:
    network = Network()
    network.noise = True
    assert 0.5 <= wait(network)[1] < 0.6


def test_frames_on_their_way_are_waited_for() -> None:
    network = Network(impaired=True)
    network.waiting = 1
    network.at(2.0, sets(network, waiting=0))
    assert 2.0 <= wait(network)[1] < 2.1


def test_data_that_are_lost_during_the_wait_are_told() -> None:
    flow = Flow("CLOSING", 100)
    network = Network(flow)
    network.lost = 7  # before the wait
    network.at(4.0, sets(network, lost=107, open=[]))
    loss, end = wait(network)
    assert loss == LOST.format(100)
    assert 4.0 <= end < 4.1


@pytest.mark.parametrize(("impaired", "limit"), [(False, 0.5), (True, 10.0)])
def test_a_brief_wait_has_a_limit(impaired: bool, limit: float) -> None:
    flow = Flow("CLOSING", 100)
    network = Network(flow, impaired=impaired)
    for number in range(100):
        network.at(0.2 * number, sets(flow, undelivered=100 - number))
    assert wait(network, briefly=True)[1] == pytest.approx(limit)


def test_connections_on_the_loopback_path_are_waited_for_until_the_guests_kernel_has_ended_them() -> None:
    network = Network()
    network.splices = 2
    network.at(3.0, sets(network, splices=0))
    loss, end = wait(network)
    assert loss is None
    assert 3.0 <= end < 3.1

    network = Network()
    network.splices = 2
    loss, end = wait(network)
    assert loss == "the command has ended, but not all of its connections (2 left); data may be lost"
    assert 10.0 <= end < 10.1


def test_bytes_of_reset_connections_on_the_loopback_path_are_lost() -> None:
    network = Network()
    network.splices = network.undelivered = 1
    network.lost_splices = 40
    network.at(3.0, sets(network, splices=0, undelivered=0, lost_splices=140))
    assert wait(network)[0] == LOST.format(100)


def test_time_in_which_sansnet_was_stopped_does_not_count() -> None:
    network = Network(Flow("CLOSING", 100))
    clock = trio.testing.MockClock(autojump_threshold=0)
    network.at(3.0, lambda: clock.jump(20.0))
    network.at(30.0, network.open.clear)
    loss, end = wait(network, clock=clock)
    assert loss is None
    assert 30.0 <= end < 30.1
