"""The command of the control socket about the impairments."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core.impairment import Distribution, Impairment, NetemStatistics
from sansnet_trio import ControlCommands, DriverStatistics
from sansnet_trio.control.commands import RequestError
from tests.trio.test_control_commands import answer_or_error, documented


class Impaired:
    """Impairments, with counters of one direction."""

    def __init__(self) -> None:
        self.impairments = (Impairment(), Impairment(delay=1.0))

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None) -> None:
        self.impairments = (up or self.impairments[0], down or self.impairments[1])

    def driver_statistics(self) -> DriverStatistics:
        return DriverStatistics(1, 2, 3, 4, 5, 6, 7, NetemStatistics(frames=10, lost=1, waiting=2))


def make() -> tuple[ControlCommands, Impaired]:
    commands, impaired = ControlCommands(), Impaired()
    commands.impairments.set_impaired(impaired)
    return commands, impaired


def test_the_documented_conversation() -> None:
    commands, _ = make()
    for request, answer in documented("impair"):
        assert answer_or_error(commands, request) == answer


def test_a_request_changes_some_fields_and_leaves_the_others() -> None:
    commands, impaired = make()
    commands.answer({"command": "impair", "up": {"loss": 0.5, "distribution": "normal"}, "down": {"rate": 1000}})
    assert impaired.impairments == (
        Impairment(loss=0.5, distribution=Distribution.NORMAL),
        Impairment(delay=1.0, rate=1000),
    )
    commands.answer({"command": "impair", "down": {"delay": 0}})
    assert impaired.impairments[1] == Impairment(delay=0, rate=1000)
    commands.answer({"command": "impair", "down": None})
    assert impaired.impairments[1] == Impairment()


@pytest.mark.parametrize(
    "wrong",
    [3, "bad", [], {"speed": 1}, {"distribution": "gauss"}, {"distribution": 1}, {"distribution": []}, {"loss": None}],
)
def test_wrong_requests_change_nothing(wrong: Any) -> None:
    commands, impaired = make()
    before = impaired.impairments
    with pytest.raises(RequestError, match="up"):
        commands.answer({"command": "impair", "down": {"delay": 5.0}, "up": wrong})
    assert impaired.impairments == before


def test_without_a_guest_it_says_so() -> None:
    with pytest.raises(RequestError, match="not ready"):
        ControlCommands().answer({"command": "impair"})
