"""The pictures of docs/theory: SVG, made of text alone, so that no library is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Final

from tests.netsim.matrix import BUFFERS, DELAYS, DIRECTIONS, FLOWS, LOSSES, PATHS, SIZE, Cell, Outcome

__all__ = ["pictures"]

FOLDER: Final = Path(__file__).parents[2] / "docs" / "theory"

_WIDTH, _HEIGHT = 92, 26
"""Pixels of one cell of a table."""
_LEFT, _TOP = 330, 84
_INK: Final = "#222222"
_SHADES: Final = (
    (1.1, "#d9f0d3"),
    (1.5, "#eef7c9"),
    (2.5, "#fee8a4"),
    (5.0, "#fdbe70"),
    (20.0, "#f58a5a"),
    (float("inf"), "#e0604c"),
)
"""The background of a cell, by the largest multiple of the bound."""
_LINES: Final = ("#1b7837", "#2166ac", "#b2182b")

_CHART_WIDTH, _CHART_HEIGHT = 360, 200


def pictures(outcomes: Mapping[Cell, Outcome]) -> dict[Path, str]:
    """The files and what they contain.

    Args:
        outcomes: those of all cells.
    """
    return {
        FOLDER / f"netsim-{kind}-{direction}.svg": draw(direction, outcomes)
        for kind, draw in (("table", _table), ("progress", _progress))
        for direction in DIRECTIONS
    }


def _text(x: float, y: float, words: str, anchor: str = "middle", color: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{words}</text>'


def _document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A picture with a background of its own, since pages may be dark."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="sans-serif" font-size="12" role="img">'
    )
    return "\n".join(
        (
            head,
            f"<title>{title}</title>",
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        )
    )


def _table(direction: str, outcomes: Mapping[Cell, Outcome]) -> str:
    """A row for each path, buffer and number of flows, a column for each delay and loss: multiples of the bound."""
    rows = list(product(PATHS, BUFFERS, FLOWS))
    columns = list(product(DELAYS, LOSSES))
    parts = [
        _text(
            _LEFT + _WIDTH * len(columns) / 2,
            22,
            f"time of {SIZE >> 10} KiB {_to(direction)}, as a multiple of the bound",
        )
    ]
    for index, delay in enumerate(DELAYS):
        middle = _LEFT + _WIDTH * len(LOSSES) * (index + 0.5)
        parts.append(_text(middle, 48, f"round trip {2000 * delay:.0f} ms"))
    for column, (_, loss) in enumerate(columns):
        parts.append(_text(_LEFT + _WIDTH * (column + 0.5), 70, f"loss {loss:.0%}"))
    for row, (path, buffer, flows) in enumerate(rows):
        top = _TOP + _HEIGHT * row
        label = f"{path.name}; {_amount(buffer)}; {flows} flow{'s' * (flows > 1)}"
        parts.append(_text(_LEFT - 10, top + 17, label, "end"))
        for column, (delay, loss) in enumerate(columns):
            cell = Cell(direction, path, delay, buffer, flows, loss)
            times = outcomes[cell].seconds / cell.bound
            shade = next(color for most, color in _SHADES if times <= most)
            left = _LEFT + _WIDTH * column
            parts.append(
                f'<rect x="{left}" y="{top}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" fill="{shade}"/>'
                + _text(left + _WIDTH / 2, top + 17, f"{times:.3g}")
            )
    return _document(_LEFT + _WIDTH * len(columns) + 10, _TOP + _HEIGHT * len(rows) + 10, f"netsim, {direction}", parts)


def _progress(direction: str, outcomes: Mapping[Cell, Outcome]) -> str:
    """The bytes that have arrived over time: a chart for each path and round trip, a line for each loss."""
    parts = [
        _text(20 + 240 * index, 24, f"loss {loss:.0%}", "start", color)
        for index, (loss, color) in enumerate(zip(LOSSES, _LINES, strict=True))
    ]
    charts = list(product(PATHS, DELAYS))
    for index, (path, delay) in enumerate(charts):
        left = 60 + (index % 2) * (_CHART_WIDTH + 60)
        top = 60 + (index // 2) * (_CHART_HEIGHT + 70)
        cells = [Cell(direction, path, delay, BUFFERS[-1], FLOWS[0], loss) for loss in LOSSES]
        longest = max(outcomes[cell].progress[-1][0] for cell in cells)
        parts += [
            _text(left + _CHART_WIDTH / 2, top - 8, f"{path.name}, round trip {2000 * delay:.0f} ms"),
            f'<path d="M{left},{top}v{_CHART_HEIGHT}h{_CHART_WIDTH}" fill="none" stroke="{_INK}"/>',
            _text(left - 6, top + 8, f"{SIZE >> 10}", "end"),
            _text(left - 6, top + _CHART_HEIGHT, "KiB 0", "end"),
            _text(left + _CHART_WIDTH, top + _CHART_HEIGHT + 18, f"{longest:.3f} s", "end"),
        ]
        for cell, color in zip(cells, _LINES, strict=True):
            steps = _steps(outcomes[cell].progress, longest)
            points = "".join(f"H{left + x:.1f}V{top + _CHART_HEIGHT - y:.1f}" for x, y in steps)
            start = f"M{left},{top + _CHART_HEIGHT}"
            parts.append(f'<path d="{start}{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    height = 60 + (len(charts) // 2) * (_CHART_HEIGHT + 70)
    return _document(2 * (_CHART_WIDTH + 60) + 30, height, f"netsim, {direction}: bytes over time", parts)


def _steps(progress: Iterable[tuple[float, int]], longest: float) -> list[tuple[float, float]]:
    """Pixels from the chart's corner; steps of less than two pixels are left out."""
    points: list[tuple[float, float]] = []
    x = y = 0.0
    for time, count in progress:
        x, y = time / longest * _CHART_WIDTH, count / SIZE * _CHART_HEIGHT
        if not points or x - points[-1][0] >= 2 or y - points[-1][1] >= 2:
            points.append((x, y))
    return [*points, (x, y)]


def _amount(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _to(direction: str) -> str:
    return "to the guest" if direction == "down" else "from the guest"
