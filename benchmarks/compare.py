#!/usr/bin/env python3
"""Run sansnet, pasta and slirp4netns in turns, and print medians, ranges and ratios.

Needs root: it makes network namespaces. README.md in this folder explains the numbers.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from cells import CELLS, Cell
from laboratory import CellFailed, Laboratory
from programs import PROGRAMS, Program
from results import Results, describe_host, report, table, write_json

__all__ = ["main"]

REFERENCE: Final = "pasta-13"
"""Ratios are relative to this program."""


def main() -> int:
    options = parse_arguments()
    if os.geteuid() != 0:
        print("compare.py makes network namespaces and needs root: run it with sudo.", file=sys.stderr)
        return 1
    wanted = [program for program in PROGRAMS if program.name in options.programs]
    present = []
    for program in wanted:
        if reason := program.missing():
            report(f"{reason}; its column stays empty")
        else:
            present.append(program)
    cells = [cell for cell in CELLS if cell.name in options.only]
    allow_descriptors()
    signal.signal(signal.SIGTERM, terminate)

    results: Results = {row.name: {program.name: [] for program in wanted} for cell in cells for row in cell.rows}
    description = describe_host() | {program.name: program.version() for program in present}
    with tempfile.TemporaryDirectory() as bytecode, Laboratory.build() as laboratory:
        keep_bytecode(bytecode)
        try:
            for number in range(options.rounds):
                run_round(present, cells, laboratory, options.seconds, results, f"round {number + 1}/{options.rounds}")
                if options.json:
                    write_json(options.json, description, [row for cell in cells for row in cell.rows], results)
        except KeyboardInterrupt:
            report("interrupted; the table shows the rounds so far")
    for name, text in description.items():
        print(f"{name}: {text}")
    print(f"rounds: {options.rounds}, seconds of traffic per cell: {options.seconds:g}\n")
    rows = [row for cell in cells for row in cell.rows]
    print(table([program.name for program in wanted], rows, results, REFERENCE))
    return 0


def run_round(
    programs: Sequence[Program],
    cells: Sequence[Cell],
    laboratory: Laboratory,
    seconds: float,
    results: Results,
    title: str,
) -> None:
    """Each cell once with each program in turn, so that all programs run under the same conditions."""
    for cell in cells:
        for program in programs:
            report(f"{title}: {cell.name} {program.name}")
            try:
                for name, value in cell.measure(program, laboratory, seconds):
                    results[name][program.name].append(value)
            except CellFailed as failure:
                report(f"  {failure}")


def allow_descriptors() -> None:
    """Raise the soft limit to the hard one, for all programs: 10,000 connections need it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_bytecode(directory: str) -> None:
    """Let Python programs use compiled modules, as an installation does, regardless of this environment."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = directory


def terminate(number: int, frame: object) -> NoReturn:
    """Exit, so that the context managers end all processes."""
    sys.exit(128 + number)


def parse_arguments() -> argparse.Namespace:
    programs = [program.name for program in PROGRAMS]
    cells = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="of counted traffic per cell; default: 2")
    parser.add_argument(
        "--only", metavar="CELL", action="append", choices=cells, help=f"repeatable; one of: {', '.join(cells)}"
    )
    parser.add_argument(
        "--programs", metavar="NAME", nargs="+", default=programs, choices=programs, help=f"of: {', '.join(programs)}"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every value to FILE")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    options.only = options.only or cells
    return options


if __name__ == "__main__":
    sys.exit(main())
