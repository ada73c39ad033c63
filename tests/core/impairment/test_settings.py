"""Impairments as records."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sansnet_core import ConfigError
from sansnet_core.impairment import Impairment
from sansnet_core.records import replace


@pytest.mark.parametrize("name", ["loss", "duplicate", "reorder", "corrupt"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "1%", True])
def test_a_probability_is_between_0_and_1(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Impairment(**{name: value})


@pytest.mark.parametrize("name", ["delay", "jitter", "rate", "hold"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_an_amount_is_0_or_more(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Impairment(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("queue", 0), ("longest_loss", -1), ("burst", 0.5), ("burst", math.inf)])
def test_other_fields_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Impairment(**{name: value})


def test_bursts_leave_room_for_a_frame_between_two_of_them() -> None:
    assert Impairment(loss=0.5, burst=1).burst == 1
    assert Impairment(loss=0.8, burst=4).burst == 4
    with pytest.raises(ConfigError, match="burst: at least one frame passes between two bursts, so with bursts of 4"):
        Impairment(loss=0.81, burst=4)


def test_a_perfect_network_is_the_default() -> None:
    assert Impairment().is_perfect
    assert replace(Impairment(), queue=5, burst=3, hold=1.0, longest_loss=2).is_perfect
    for name in ("delay", "jitter", "rate", "loss", "duplicate", "reorder", "corrupt"):
        bad: dict[str, Any] = {name: 0.5}
        assert not Impairment(**bad).is_perfect


def test_the_default_queue_holds_full_frames_for_100_ms() -> None:
    assert Impairment(rate=100e6).queue_frames == round(100e6 / 10 / 8 / 1514)
    assert Impairment(rate=1e3).queue_frames == 20
    assert Impairment(rate=1e3, queue=3).queue_frames == 3
