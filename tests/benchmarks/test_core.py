"""The benchmarks of the core: their counts repeat, their data is random."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final

import counts
import pytest
from core import CASES, Guest, random_bytes

from sansnet_core import Network

REPEATING: Final = ("tcp-rr", "tcp-crr", "udp-up-64", "tcp-down-64k")


@pytest.mark.parametrize("name", REPEATING)
def test_calls_repeat(name: str) -> None:
    _, prepare = CASES[name]
    first, second = counts.calls(prepare), counts.calls(prepare)
    assert first == second > 1


def test_one_more_call_is_counted() -> None:
    def work() -> int:
        for _ in range(100):
            len("")
        return 100

    def longer() -> int:
        for _ in range(100):
            len("")
            len("")
        return 100

    assert counts.calls(lambda: longer) - counts.calls(lambda: work) == 1


def test_instructions_repeat_where_the_processor_counts_them() -> None:
    _, prepare = CASES["tcp-rr"]
    first, second = counts.instructions(prepare), counts.instructions(prepare)
    assert (first is None) == (second is None)
    assert first is None or first == pytest.approx(second, rel=0.1)


def test_the_kept_counts_are_of_the_cases() -> None:
    kept = json.loads(counts.KEPT.read_text())
    assert all(set(cases) <= set(CASES) for cases in kept.values())
    assert all("calls" in each for cases in kept.values() for each in cases.values())


def test_data_is_random_and_the_same_each_time() -> None:
    data = random_bytes(1 << 16)
    assert data == random_bytes(1 << 16)
    assert len(zlib.compress(data)) > len(data)


class Watched:
    """A network that notes all bytes that it gets."""

    def __init__(self, network: Network, seen: list[bytes]) -> None:
        self._network = network
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._network, name)
        if not callable(member):
            return member

        def call(*arguments: Any) -> Any:
            self._seen += arguments[0] if name == "receive_frames" else [a for a in arguments if isinstance(a, bytes)]
            return member(*arguments)

        return call


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("tcp-up", "tcp-down", "udp-"))])
def test_no_case_carries_zeros(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(Guest, "make_network", lambda *values, **more: Watched(Network(*values, **more), seen))
    CASES[name][1]()()
    assert max(map(len, seen)) > 64
    assert [piece for piece in seen if bytes(32) in piece] == []
