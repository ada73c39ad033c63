#!/usr/bin/env python3
"""The cost of recordings, as ratios to a network that keeps nothing: 1.03 means that 3 % more processor time is needed.

It runs the cases of `core.py` with four kinds of networks in turn: a plain one; one that keeps its last inputs in
memory, as every driver's network does; and one that also records, to nowhere and to a file. With `--guests`, which
needs root, it runs cells of `compare.py` instead, with guests of `sansnet run`: there the kernel has its part.

Each round measures all kinds one after the other, so a busy machine slows them alike; the table has the medians of the
rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

import cells
import core
from laboratory import Laboratory
from programs import Installed, Wrapper

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

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""

KINDS: Final = ("plain", "ring", "nowhere", "file")
ROUNDS: Final = 25
LARGE: Final = 1 << 30
"""Bytes of a recording: large enough that no case fills it."""

GUEST_CELLS: Final = (
    "tcp-up-1500",
    "tcp-down-1500",
    "tcp-up-65520",
    "tcp-down-65520",
    "tcp-rr-1",
    "tcp-crr-1",
    "udp-up-1400",
    "udp-down-1400",
)
"""The cells of `compare.py` with `--guests`."""
START: Final = "import sys; sys.argv[0] = 'sansnet'; from sansnet_cli.main import main; main()"
PLAIN: Final = (
    "import sansnet_core.recording as recording; from sansnet_core import Network; recording.RecordedNetwork = "
    "lambda config, *, now, secret, epoch, failed: Network(config, now=now, secret=secret)"
)
"""Python that lets the driver have a network that keeps nothing."""


kept: list[object] = []


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
        """Get a function that makes networks of a kind."""

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


def keep_memory() -> None:
    """Let the process keep the memory that it frees, as after some time of service.

    Otherwise the first use of each page of new memory is measured, which a network that has run for a while does not
    have, and which takes long in some virtual machines.
    """
    mallopt = ctypes.CDLL(None).mallopt
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        mallopt(parameter, LARGE)
    large = [bytes(1 << 16) for _ in range(1024)]
    small = [(number,) * size for size in range(1, 16) for number in range(20000)]
    kept.extend(small[::32])  # one object in each piece of memory: so none is given back
    del large, small


def seconds(prepare: Callable[[], core.Work]) -> tuple[float, int]:
    """The processor time of a case, without its preparation, and its units."""
    work = prepare()
    gc.collect()
    gc.disable()
    begin = time.process_time()
    units = work()
    taken = time.process_time() - begin
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


def command(name: str, before: str, options: Sequence[str]) -> Wrapper:
    """`sansnet run` with some options, by a line of Python; `before` is Python that comes before the start."""
    source = Installed(sys.executable, "-c", f"{before}; {START}")
    return Wrapper(name, source, ["run", "--mtu", "{mtu}", *options])


def measure_guests(rounds: int, seconds: float) -> None:
    """Print ratios of the processor time of `sansnet run` for a byte, a datagram or a transaction."""
    print(f"{'cell':18} {'ring':>7} {'file':>7}")
    with tempfile.TemporaryDirectory() as directory, Laboratory.build() as laboratory:
        programs = [
            command("plain", PLAIN, []),
            command("ring", "pass", []),
            command("file", "pass", ["--record", os.path.join(directory, "recording")]),
        ]
        for cell in cells.CELLS:
            if cell.name not in GUEST_CELLS:
                continue
            ratios: dict[str, list[float]] = {program.name: [] for program in programs[1:]}
            for _ in range(rounds):
                costs = {}
                for program in programs:
                    [sample] = cell.measure(program, laboratory, seconds)
                    costs[program.name] = sample.cpu or math.inf
                for name, values in ratios.items():
                    values.append(costs[name] / costs["plain"])
            medians = {name: statistics.median(values) for name, values in ratios.items()}
            print(f"{cell.name:18} {medians['ring']:7.3f} {medians['file']:7.3f}", flush=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--only", choices=CASES, nargs="+", default=CASES, metavar="CASE")
    parser.add_argument("--guests", action="store_true", help="with guests of `sansnet run`; needs root")
    parser.add_argument("--seconds", type=float, default=1.0, help="of traffic in each cell of --guests; default: 1")
    options = parser.parse_args()
    if options.guests:
        measure_guests(options.rounds, options.seconds)
        return 0
    print(f"{'case':18} {'ring':>7} {'nowhere':>9} {'file':>7}   bytes per unit")
    keep_memory()
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
