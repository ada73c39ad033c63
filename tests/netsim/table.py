"""The snapshot: one line of text for each cell, with as many digits as a reader needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.netsim.matrix import Cell, Outcome

__all__ = ["HEAD", "SNAPSHOT", "line"]

SNAPSHOT: Final = Path(__file__).with_name("snapshot.txt")

_COLUMNS: Final = (4, 22, 8, 7, 5, 4, 9, 9, 9, 8, 10, 12, 12)


def _row(values: Iterable[str]) -> str:
    first, second, *others = (
        value.ljust(width) if index < 2 else value.rjust(width)
        for index, (value, width) in enumerate(zip(values, _COLUMNS, strict=True))
    )
    return " ".join((first, second, *others)).rstrip()


HEAD: Final = _row(
    (
        "way",
        "path",
        "delay",
        "buffers",
        "flows",
        "loss",
        "seconds",
        "slowest",
        "bound",
        "of bound",
        "sent again",
        "data frames",
        "other frames",
    )
)


def line(cell: Cell, outcome: Outcome) -> str:
    """The line of a cell."""
    return _row(
        (
            cell.direction,
            cell.path.name,
            f"{cell.delay * 1000:.0f} ms",
            f"{cell.buffer >> 10} K",
            str(cell.flows),
            f"{cell.loss:.0%}",
            f"{outcome.seconds:.3f}",
            f"{outcome.slowest:.3f}",
            f"{cell.bound:.3f}",
            f"{outcome.seconds / cell.bound:.2f}",
            f"{outcome.sent_again:.1%}",
            str(outcome.frames[0]),
            str(outcome.frames[1]),
        )
    )
