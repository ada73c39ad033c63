#!/usr/bin/env python3
"""Run sansnet beside pasta and slirp4netns, interleaved, and print medians, ranges and ratios.

Needs root: it makes network namespaces. README.md beside this file tells how to read the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NoReturn

from cells import CELLS, Cell, Row
from laboratory import CellFailed, Laboratory
from programs import PROGRAMS, Program

__all__ = ["main"]

REFERENCE: Final = "pasta"
"""The program that ratios are taken to."""

Results = dict[str, dict[str, list[float]]]
"""Row name, program name, one value per round that gave one."""


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
    description = describe_machine(present)
    with tempfile.TemporaryDirectory() as bytecode, Laboratory.build() as laboratory:
        keep_bytecode(bytecode)
        try:
            for number in range(options.rounds):
                run_round(present, cells, laboratory, options.seconds, results, f"round {number + 1}/{options.rounds}")
                if options.json:
                    write_json(options.json, description, cells, results)
        except KeyboardInterrupt:
            report("interrupted; the table shows the rounds so far")
    for name, text in description.items():
        print(f"{name}: {text}")
    print(f"rounds: {options.rounds}, seconds of traffic per cell: {options.seconds:g}\n")
    print(table([program.name for program in wanted], [row for cell in cells for row in cell.rows], results))
    return 0


def run_round(
    programs: Sequence[Program],
    cells: Sequence[Cell],
    laboratory: Laboratory,
    seconds: float,
    results: Results,
    title: str,
) -> None:
    """Each cell once with each program in turn, so that all of them meet the same moods of the machine."""
    for cell in cells:
        for program in programs:
            report(f"{title}: {cell.name} {program.name}")
            try:
                for name, value in cell.measure(program, laboratory, seconds):
                    results[name][program.name].append(value)
            except CellFailed as failure:
                report(f"  {failure}")


def table(programs: Sequence[str], rows: Iterable[Row], results: Results) -> str:
    """Median, range and ratio to the reference, in fixed-width columns that are also Markdown."""
    lines = [["cell", "unit", *programs]]
    for row in rows:
        values = results[row.name]
        reference = median(values[REFERENCE]) if values.get(REFERENCE) else None
        lines.append([row.name, row.unit, *(show(row, values[program], reference) for program in programs)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def show(row: Row, values: Sequence[float], reference: float | None) -> str:
    if not values:
        return "-"
    middle = median(values)
    text = f"{digits(middle / row.scale)} ({digits(min(values) / row.scale)}..{digits(max(values) / row.scale)})"
    ratio = times_better(row, middle, reference)
    return text if ratio is None else f"{text} x{ratio:.2f}"


def times_better(row: Row, value: float, reference: float | None) -> float | None:
    """How many times as good as the reference; None if there is nothing to compare."""
    if reference is None or min(value, reference) <= 0:
        return None
    return value / reference if row.more_is_better else reference / value


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_json(path: Path, description: Mapping[str, str], cells: Iterable[Cell], results: Results) -> None:
    rows = {row.name: row for cell in cells for row in cell.rows}
    document = {
        "machine": dict(description),
        "rows": {
            name: {
                "unit": row.unit,
                "more_is_better": row.more_is_better,
                "values": {
                    program: [value / row.scale for value in values] for program, values in results[name].items()
                },
            }
            for name, row in rows.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def describe_machine(programs: Iterable[Program]) -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        **{program.name: program.version() for program in programs},
    }


def allow_descriptors() -> None:
    """Raise the soft limit to the hard one, for every program alike: 10,000 connections need it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_bytecode(directory: str) -> None:
    """Let programs in Python find their modules compiled, as an installation does, whatever is set here."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = directory


def terminate(number: int, frame: object) -> NoReturn:
    """Let the context managers end what was started."""
    sys.exit(128 + number)


def report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
