"""The end of a command: the wait for a host that takes the last data slowly, in virtual time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from sansnet_trio.front.ending import deliver


class Network:
    """A network whose host takes a part of the data at each of some times."""

    def __init__(self, held: int, takes: dict[float, int]) -> None:
        self._held = held
        self._sent = held
        self._takes = takes

    def _look(self) -> None:
        for time in [time for time in self._takes if time <= trio.current_time()]:
            self._held -= self._takes.pop(time)

    def statistics(self) -> Any:
        self._look()
        return SimpleNamespace(tcp_held=self._held)

    def flows(self) -> list[Any]:
        return [SimpleNamespace(sent=self._sent)]


def wait(network: Any) -> tuple[int, float]:
    """The bytes that are lost, and the time at which the wait ends."""

    async def main() -> tuple[int, float]:
        return await deliver(network), trio.current_time()

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_without_data_it_does_not_wait() -> None:
    assert wait(Network(0, {})) == (0, 0.0)


def test_it_waits_as_long_as_the_host_takes_something() -> None:
    lost, end = wait(Network(100, {9.0 * number: 20 for number in range(1, 6)}))
    assert lost == 0
    assert 45.0 <= end < 46.0


@pytest.mark.parametrize("takes", [{}, {5.0: 60}])
def test_a_host_that_takes_nothing_is_given_up(takes: dict[float, int]) -> None:
    lost, end = wait(Network(100, dict(takes)))
    assert lost == 100 - sum(takes.values())
    assert max(takes, default=0.0) + 10.0 <= end < max(takes, default=0.0) + 11.0
