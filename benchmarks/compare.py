#!/usr/bin/env python3
"""Run sansnet, pasta and slirp4netns in turns, and print medians, ratios and processor time.

Needs root, since it makes network namespaces, gcc, and a Debian for x86-64. README.md in this folder explains the
numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NoReturn

from cells import CELLS, Cell
from laboratory import CellFailed, Laboratory, missing
from meter import adopt_orphans, busy_processors
from programs import PROGRAMS, Program, sansnet
from results import Results, describe_host, report

__all__ = ["MISTAKES", "allow_descriptors", "at_most", "keep_bytecode", "main"]

REFERENCE: Final = "pasta-13"
"""Ratios are relative to this program."""

DEFAULT: Final = ("pasta-12", "pasta-13", "slirp4netns-13", "sansnet")
ONLY: Final = {"slirp4netns-13": ("tcp-up-*", "tcp-down-*")}
"""Patterns of the cells in which a program takes part, unless it is asked for: there pasta may stall."""

MISTAKES: Final = (CellFailed, OSError, ValueError, subprocess.SubprocessError)
"""Errors of a measurement, after which the next one goes on."""

QUIET: Final = 1.0
"""Seconds before each round in which the load of the machine is measured."""


def main() -> int:
    options = parse_arguments()
    if reason := missing("gcc"):
        report(f"compare.py: {reason}")
        return 1
    present = []
    for program in options.programs:
        if reason := program.missing():
            report(f"{reason}; {program.name} is left out")
        else:
            present.append(program)
    allow_descriptors()
    adopt_orphans()
    keep_bytecode(options.interpreters)
    signal.signal(signal.SIGTERM, terminate)
    turns = [
        (cell, [each for each in present if options.all_cells or takes_part(each, cell)]) for cell in options.cells
    ]
    taken = f"{options.rounds} of {options.seconds:g} s of traffic per cell"
    results = Results(
        kind="programs",
        reference=REFERENCE,
        host=describe_host({"rounds": taken}),
        programs={program.name: program.version() for program in present},
        rows=[row for cell in options.cells for row in cell.rows],
    )
    begin, quiet = time.monotonic(), []
    with Laboratory.build() as laboratory:
        try:
            for number in range(options.rounds):
                quiet.append(f"{busy_processors(QUIET):.2f}")
                results.host["processors that were busy before each round"] = ", ".join(quiet)
                run_round(turns, laboratory, options.seconds, results, f"round {number + 1}/{options.rounds}")
                results.host["duration"] = f"{time.monotonic() - begin:.0f} s"
                if options.json:
                    results.save(options.json)
        except KeyboardInterrupt:
            report("interrupted; the table shows the rounds so far")
    print("\n".join(results.description()), end="\n\n")
    print(results.table())
    for failure in results.failures:
        print(f"failed: {failure}")
    return 0


def takes_part(program: Program, cell: Cell) -> bool:
    return any(fnmatchcase(cell.name, pattern) for pattern in ONLY.get(program.name, ("*",)))


def run_round(
    turns: Sequence[tuple[Cell, Sequence[Program]]],
    laboratory: Laboratory,
    seconds: float,
    results: Results,
    title: str,
) -> None:
    """Each cell once with each program in turn, so that all programs run under the same conditions."""
    for cell, programs in turns:
        for program in programs:
            report(f"{title}: {cell.name} {program.name}")
            try:
                with at_most(seconds + cell.limit):
                    for sample in cell.measure(program, laboratory, seconds):
                        results.add(program.name, sample)
            except MISTAKES as failure:
                results.fail(f"{cell.name} of {program.name} in {title}: {failure}")


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Give up after these seconds.

    Raises:
        CellFailed: they have passed.
    """

    def give_up(number: int, frame: object) -> NoReturn:
        raise CellFailed(f"took more than {seconds:.0f} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def allow_descriptors() -> None:
    """Raise the soft limit to the hard one, for all programs: thousands of connections need it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_bytecode(interpreters: Sequence[str]) -> None:
    """Compile the packages of these interpreters, as an installation does: a confined process cannot."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.pop("PYTHONPYCACHEPREFIX", None)
    for interpreter in interpreters:
        subprocess.run([interpreter, "-c", COMPILE], check=False)


COMPILE: Final = """
import compileall, os, sansnet_cli, sansnet_core, sansnet_trio, sysconfig
places = [os.path.dirname(each.__file__) for each in (sansnet_core, sansnet_trio, sansnet_cli)]
for place in [*places, sysconfig.get_path("purelib")]:
    compileall.compile_dir(place, quiet=2)
"""


def terminate(number: int, frame: object) -> NoReturn:
    """Exit, so that the context managers end all processes."""
    sys.exit(128 + number)


def parse_arguments() -> argparse.Namespace:
    known = {program.name: program for program in PROGRAMS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=0.6, help="of counted traffic per cell; default: 0.6")
    parser.add_argument(
        "--only", metavar="PATTERN", nargs="+", default=["*"], help="cells, such as 'tcp-rr-*' or '*-64'"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cells, and end")
    parser.add_argument("--programs", metavar="NAME", nargs="+", choices=known, help=f"of: {', '.join(known)}")
    parser.add_argument(
        "--sansnet",
        metavar="NAME=PYTHON",
        action="append",
        default=[],
        help="a column for a sansnet that is installed for this interpreter, or its command line; `sansnet=...` "
        "replaces that of the checkout",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every value to FILE, for publish.py")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    options.cells = [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in options.only)]
    if not options.cells:
        parser.error(f"no cell is called {' or '.join(options.only)}; --list prints the names")
    if options.list:
        print("\n".join(cell.name for cell in options.cells))
        sys.exit()
    options.all_cells = options.programs is not None
    options.programs = [known[name] for name in options.programs or DEFAULT]
    options.interpreters = [sys.executable]
    for each in options.sansnet:
        name, _, words = each.partition("=")
        if not name or not words or name in known.keys() - {"sansnet"}:
            parser.error(f"--sansnet {each}: expected NAME=PYTHON with a new name")
        if shutil.which(words.split()[0]) is None:
            parser.error(f"--sansnet {each}: there is no program {words.split()[0]}")
        options.programs = [one for one in options.programs if one.name != name] + [sansnet(name, words)]
        if " " not in words:
            options.interpreters.append(words)
    return options


if __name__ == "__main__":
    sys.exit(main())
