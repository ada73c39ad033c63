#!/usr/bin/env python3
"""The cost of recordings, as ratios to a network that keeps nothing: 1.03 means that 3 % more time is needed.

It runs the cases of `core.py` with four kinds of networks in turn: a plain one; one that keeps its last inputs in
memory, as every driver's network does; and one that also records, to nowhere and to a file. Each round measures all
four one after the other, so a busy machine slows them alike; the table has the medians of the rounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any, Final

import core

from sansnet_core import Network
from sansnet_core.recording import RecordedNetwork
from sansnet_trio.recording.file import RecordingFile

__all__: list[str] = []

CASES: Final = (
    "tcp-up-1460",
    "tcp-up-64k",
    "tcp-down-1460",
    "tcp-down-64k",
    "tcp-rr",
    "tcp-crr",
    "udp-up-64",
    "udp-up-1400",
    "udp-down-64",
    "udp-down-64-run",
)
"""The cases of `core.py` with a network."""

KINDS: Final = ("plain", "ring", "nowhere", "file")
ROUNDS: Final = 25
LARGE: Final = 1 << 30
"""Bytes of a recording: large enough that no case fills it."""


class Kinds:
    """The kinds of networks.

    Args:
        directory: for files of recordings.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.recorded = 0
        """Bytes of the last recording."""

    def make(self, kind: str) -> Callable[..., Network]:
        """What makes networks of a kind."""

        def made(*arguments: Any, **named: Any) -> Network:
            if kind == "plain":
                return Network(*arguments, **named)
            network = RecordedNetwork(*arguments, **named)
            self.recorded = 0
            if kind == "nowhere":
                network.record(self._count)
            elif kind == "file":
                path = os.path.join(self._directory, "recording")
                self._stack.enter_context(closing(RecordingFile(path, size=LARGE))).begin(network.record)
            return network

        return made

    def _count(self, data: bytes) -> None:
        self.recorded += len(data)

    def end(self) -> None:
        """Close what the last network had open."""
        self._stack.close()


def seconds(prepare: Callable[[], core.Work]) -> tuple[float, int]:
    """The time of a case, without its preparation, and its units."""
    work = prepare()
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    units = work()
    taken = time.perf_counter() - begin
    gc.enable()
    return taken, units


def measure(name: str, kinds: Kinds, rounds: int) -> dict[str, float]:
    """Ratios to the plain network, by kind; `bytes` is the size of the recording per unit."""
    _, prepare = core.CASES[name]
    ratios: dict[str, list[float]] = {kind: [] for kind in KINDS[1:]}
    size = 0.0
    for number in range(rounds + 1):
        taken = {}
        for kind in KINDS:
            core.Guest.make_network = kinds.make(kind)
            taken[kind], units = seconds(prepare)
            if kind == "nowhere":
                size = kinds.recorded / units
            kinds.end()
        if number:  # the first round fills caches
            for kind, found in ratios.items():
                found.append(taken[kind] / taken["plain"])
    return {**{kind: statistics.median(found) for kind, found in ratios.items()}, "bytes": size}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--only", choices=CASES, nargs="+", default=CASES, metavar="CASE")
    options = parser.parse_args()
    print(f"{'case':18} {'ring':>7} {'nowhere':>9} {'file':>7}   bytes per unit")
    with tempfile.TemporaryDirectory() as directory:
        kinds = Kinds(directory)
        for name in options.only:
            row = measure(name, kinds, options.rounds)
            unit = core.CASES[name][0]
            print(
                f"{name:18} {row['ring']:7.3f} {row['nowhere']:9.3f} {row['file']:7.3f} {row['bytes']:8.0f} per {unit}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
