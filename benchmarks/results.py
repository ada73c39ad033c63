"""The results, and their presentation: medians, ranges and ratios."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = ["Results", "Row", "describe_host", "report", "table", "write_json"]

Results = dict[str, dict[str, list[float]]]
"""Row name, program name, one value per round that has one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: unique.
        unit: unit of the shown value, which is the value divided by `scale`.
        scale: number of base units in one shown unit.
        more_is_better: the direction of the ratio.
    """

    name: str
    unit: str
    scale: float = 1
    more_is_better: bool = True


def table(programs: Sequence[str], rows: Iterable[Row], results: Results, reference: str) -> str:
    """Median, range and ratio to one of the programs, in fixed-width columns that are also Markdown."""
    lines = [["cell", "unit", *programs]]
    for row in rows:
        values = results[row.name]
        middle = median(values[reference]) if values.get(reference) else None
        lines.append([row.name, row.unit, *(show(row, values[program], middle) for program in programs)])
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
    """The ratio to the reference, more being better; None if there is nothing to compare."""
    if reference is None or min(value, reference) <= 0:
        return None
    return value / reference if row.more_is_better else reference / value


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_json(path: Path, description: Mapping[str, str], rows: Iterable[Row], results: Results) -> None:
    document = {
        "host": dict(description),
        "rows": {
            row.name: {
                "unit": row.unit,
                "more_is_better": row.more_is_better,
                "values": {
                    program: [value / row.scale for value in values] for program, values in results[row.name].items()
                },
            }
            for row in rows
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def describe_host() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "host": f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def report(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)
