#!/usr/bin/env python3
"""Where the time of a program goes: in its own code or in the kernel, and by which system calls.

Each cell of `compare.py` is measured twice for each program: once for the processor time, and once with strace, which
counts system calls and makes the program slower meanwhile. Needs what `compare.py` needs, and strace.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from cells import CELLS, MEGABITS, Cell
from compare import MISTAKES, allow_descriptors, at_most, keep_bytecode
from laboratory import CellFailed, Laboratory, missing
from meter import busy_processors
from programs import PROGRAMS, Guest, Program, sansnet
from results import aligned, describe_host, digits, report

__all__ = ["main"]

DEFAULT_CELLS: Final = (
    "tcp-rr-*-pinned", "tcp-crr-*-pinned", "tcp-down-65520*", "udp-*-64", "udp-*-1400", "tap-*rr-1-pinned",
    "splice-*rr-1-pinned",
)  # fmt: skip
DEFAULT_PROGRAMS: Final = ("pasta-13", "sansnet")
ATTACHING: Final = 5.0
"""Seconds that strace may take to begin or to end."""
SHOWN: Final = 5
"""System calls that are named, the most frequent first."""

HEAD: Final = ("cell", "program", "unit", "all", "own code", "kernel", "system calls", "the most frequent")
CALL: Final = re.compile(rb"^\d+ +(\w+)\(", re.MULTILINE)


class Split:
    """Processor time, in the program's own code and in the kernel: `utime` and `stime` of proc(5)."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._before = self._now()
        self.shares: dict[str, float] = {}

    def used(self) -> float:
        """Seconds of both."""
        now = self._now()
        own, kernel = (sum(now[pid][each] - self._before.get(pid, (0, 0))[each] for pid in now) for each in (0, 1))
        self.shares = {"own": own / (own + kernel or 1), "kernel": kernel / (own + kernel or 1)}
        return (own + kernel) / os.sysconf("SC_CLK_TCK")

    def _now(self) -> dict[int, tuple[int, int]]:
        found = {}
        for pid in self._guest.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found[pid] = int(fields[11]), int(fields[12])
        return found


class Calls:
    """System calls, from the output of a strace that runs."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._begin = output.stat().st_size
        self.shares: dict[str, float] = {}

    def used(self) -> float:
        """Their number."""
        names = Counter(name.decode() for name in CALL.findall(self._output.read_bytes()[self._begin :]))
        self.shares = {name: number / names.total() for name, number in names.most_common()}
        return names.total()


class WatchedGuest(Guest):
    """A guest with another meter.

    Attributes:
        watch: the meter, once it has begun.
    """

    def __init__(self, guest: Guest, make: Callable[[], Split | Calls]) -> None:
        super().__init__(guest.namespace, guest.program)
        self._make = make
        self.watch: Split | Calls | None = None

    def meter(self) -> Split | Calls:
        self.watch = self._make()
        return self.watch


class Watched:
    """A program with guests that are watched."""

    def __init__(self, program: Program, guest: Callable[..., AbstractContextManager[Guest]]) -> None:
        self.name = program.name
        self.guest = guest
        self.missing, self.version = program.missing, program.version
        self.run_true, self.compatible = program.run_true, program.compatible


@contextlib.contextmanager
def traced(guest: Guest) -> Iterator[WatchedGuest]:
    """A guest whose program's system calls are counted."""
    pids = [word for pid in guest.processes() for word in ("-p", str(pid))]
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "calls"
        line = ["strace", "-f", "-s", "0", "-e", "signal=none", "-o", str(output), *pids]
        with subprocess.Popen(line, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            for _ in pids[::2]:
                strace.stderr.readline()  # it is attached
            try:
                yield WatchedGuest(guest, lambda: Calls(output))
            finally:
                strace.terminate()  # it lets the program go


@contextlib.contextmanager
def split(guest: Guest) -> Iterator[WatchedGuest]:
    """A guest whose program's processor time is split."""
    yield WatchedGuest(guest, lambda: Split(guest))


def observe(
    cell: Cell,
    program: Program,
    laboratory: Laboratory,
    seconds: float,
    watching: Callable[[Guest], AbstractContextManager[WatchedGuest]],
) -> tuple[float, dict[str, float]]:
    """The use of each unit, and its shares by name."""
    guests: list[WatchedGuest] = []

    @contextlib.contextmanager
    def guest(laboratory: Laboratory, mtu: int, *, forwards: bool = False) -> Iterator[Guest]:
        with program.guest(laboratory, mtu, forwards=forwards) as plain, watching(plain) as watched:
            guests.append(watched)
            yield watched

    with at_most(seconds + cell.limit):
        sample, *_ = cell.measure(Watched(program, guest), laboratory, seconds)
    watch = guests[-1].watch
    if sample.cpu is None or watch is None:
        raise CellFailed("nothing was counted")
    return sample.cpu, watch.shares


def describe(cell: Cell, program: Program, laboratory: Laboratory, seconds: float) -> list[str]:
    """A line of the table."""
    used, shares = observe(cell, program, laboratory, seconds, split)
    number, calls = observe(cell, program, laboratory, seconds, traced)
    [row, *_] = cell.rows
    if row.unit == MEGABITS:
        number *= 1e6  # bytes
    named = ", ".join(f"{name} {number * share:.2f}" for name, share in [*calls.items()][:SHOWN])
    times = (used, used * shares["own"], used * shares["kernel"])
    return [
        cell.name,
        program.name,
        row.cpu_unit,
        *(digits(each / row.cpu_scale) for each in times),
        digits(number),
        named,
    ]


def main() -> int:
    options = parse_arguments()
    if reason := missing("gcc", "strace"):
        report(f"where.py: {reason}")
        return 1
    allow_descriptors()
    keep_bytecode([sys.executable])
    lines = [list(HEAD)]
    host = describe_host({"processors that were busy before": f"{busy_processors(1):.2f}"})
    with Laboratory.build() as laboratory:
        for cell in options.cells:
            for program in options.programs:
                if reason := program.missing():
                    report(f"{reason}; {program.name} is left out")
                    continue
                report(f"{cell.name} {program.name}")
                try:
                    lines.append(describe(cell, program, laboratory, options.seconds))
                except MISTAKES as failure:
                    report(f"  {failure}")
    print(aligned(lines))
    if options.json:
        options.json.write_text(json.dumps({"kind": "where", "host": host, "lines": lines}, indent=1) + "\n")
    return 0


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    known = {program.name: program for program in PROGRAMS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of traffic, twice; default: 1")
    parser.add_argument("--only", metavar="PATTERN", nargs="+", default=DEFAULT_CELLS, help="cells of traffic")
    parser.add_argument("--programs", metavar="NAME", nargs="+", choices=known, default=DEFAULT_PROGRAMS)
    parser.add_argument("--sansnet", metavar="NAME=PYTHON", action="append", default=[], help="as of compare.py")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the table to FILE, for publish.py")
    options = parser.parse_args(words)
    options.cells = [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in options.only)]
    builds = [each.partition("=") for each in options.sansnet]
    builds_by_name = {name: sansnet(name, words) for name, _, words in builds}
    # A build takes the place of the program with its name: two rows of one name would say nothing
    options.programs = [*({name: known[name] for name in options.programs} | builds_by_name).values()]
    return options


if __name__ == "__main__":
    sys.exit(main())
