"""The results, and their presentation: medians, ranges, ratios and processor time."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

__all__ = ["Results", "Row", "Sample", "aligned", "describe_host", "digits", "grouped", "ratio", "report"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: unique.
        unit: unit of the shown value, which is the value divided by `scale`.
        scale: number of base units in one shown unit.
        more_is_better: the direction of the ratio.
        cpu_unit: unit of the shown processor time; empty if none is measured.
        cpu_scale: seconds, divided by the row's base units, in one `cpu_unit`.
    """

    name: str
    unit: str
    scale: float = 1
    more_is_better: bool = True
    cpu_unit: str = ""
    cpu_scale: float = 1


class Sample(NamedTuple):
    """A measured value of a row in base units, and the seconds of processor time per base unit or run, if measured."""

    row: str
    value: float
    cpu: float | None = None


GROUPS: Final = (
    ("Requests and connections", ("tcp-rr-*", "tcp-crr-*")),
    ("Bulk transfers", ("tcp-up-*", "tcp-down-*", "up-*", "down-*")),
    ("UDP", ("udp-*",)),
    ("Forwards to the tap", ("tap-*", "burst", "burst-*")),
    ("Forwards over loopback", ("splice-*",)),
    ("Memory", ("memory", "idle-*")),
    ("Starts", ("start-up", "attach", "version")),
)
"""Titles, and patterns of the names of rows."""


def grouped(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows by subject, without those subjects that have none."""
    for title, patterns in GROUPS:
        if found := [row for row in rows if any(fnmatchcase(row.name, pattern) for pattern in patterns)]:
            yield title, found


@dataclass
class Results:
    """All values of a comparison.

    Attributes:
        kind: of the comparison; names its tables in the documentation.
        reference: ratios are relative to this program.
        host: describes the machine, by title.
        programs: the version of each program, in the order of the columns.
        rows: the rows, in their order.
        values: of each row, by program: one for each measurement that succeeded.
        cpu: the same for the processor time.
        failures: a sentence for each measurement that failed.
    """

    kind: str
    reference: str
    host: dict[str, str]
    programs: dict[str, str]
    rows: list[Row]
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    cpu: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, program: str, sample: Sample) -> None:
        """Note a value, in shown units."""
        row = next(row for row in self.rows if row.name == sample.row)
        self.values.setdefault(row.name, {}).setdefault(program, []).append(sample.value / row.scale)
        if sample.cpu is not None:
            self.cpu.setdefault(row.name, {}).setdefault(program, []).append(sample.cpu / row.cpu_scale)

    def fail(self, sentence: str) -> None:
        """Note a measurement that failed."""
        report(f"  {sentence}")
        self.failures.append(sentence)

    def save(self, path: Path) -> None:
        """Write all as JSON."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["rows"] = [{name: getattr(row, name) for name in Row.__slots__} for row in self.rows]
        path.write_text(json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        document: dict[str, Any] = json.loads(path.read_text())
        document["rows"] = [Row(**row) for row in document["rows"]]
        return cls(**document)

    def medians(self, row: Row, *, cpu: bool = False) -> dict[str, float]:
        """The median of each program that has a value."""
        found = (self.cpu if cpu else self.values).get(row.name, {})
        return {program: median(values) for program, values in found.items() if values}

    def ratios(self, row: Row, *, cpu: bool = False) -> dict[str, float]:
        """How many times better each program's median is than the reference's; empty if that has none."""
        middles = self.medians(row, cpu=cpu)
        reference = middles.get(self.reference)
        better = row.more_is_better and not cpu
        ratios = {program: ratio(middle, reference, better) for program, middle in middles.items()}
        return {program: each for program, each in ratios.items() if each is not None}

    def table(self, rows: Sequence[Row] | None = None, *, ranges: bool = True) -> str:
        """Values and ratios of all programs, then the processor time and its ratios, as aligned Markdown."""
        lines = [["cell", "unit", *self.programs, "cpu", *(f"{program} cpu" for program in self.programs)]]
        for row in self.rows if rows is None else rows:
            line = [row.name, row.unit, *self._cells(row, ranges=ranges), row.cpu_unit]
            lines.append([*line, *(self._cells(row, cpu=True) if row.cpu_unit else [""] * len(self.programs))])
        return aligned(lines)

    def _cells(self, row: Row, *, cpu: bool = False, ranges: bool = False) -> list[str]:
        middles, ratios = self.medians(row, cpu=cpu), self.ratios(row, cpu=cpu)
        cells = []
        for program in self.programs:
            text = digits(middles[program]) if program in middles else "-"
            if ranges and program in middles:
                values = self.values[row.name][program]
                text += f" ({digits(min(values))}..{digits(max(values))})"
            cells.append(f"{text} x{ratios[program]:.2f}" if program in ratios else text)
        return cells

    def description(self) -> list[str]:
        """Lines about the machine and the programs."""
        return [f"{name}: {text}" for name, text in (self.host | self.programs).items()]


def ratio(value: float, reference: float | None, more_is_better: bool) -> float | None:
    """How many times better the value is than the reference; None if there is nothing to compare."""
    if reference is None or min(value, reference) <= 0:
        return None
    return value / reference if more_is_better else reference / value


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns have fixed widths; the first line is its head."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in ruled
    )


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def describe_host(more: Mapping[str, str]) -> dict[str, str]:
    """The date, the processors, the versions of the kernel and of Python, and more."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "host": f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        **more,
    }


def report(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)
