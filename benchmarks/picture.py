"""A picture of the ratios of a comparison, as SVG: one row for each cell, one mark for each program.

The left half has the values, the right half the processor time. The axis is logarithmic, so that half and double have
the same distance from the line of the reference. The picture draws its own background, and has a light and a dark
style, of which the browser takes the one that the reader prefers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from xml.sax.saxutils import escape

from results import Results, Row, grouped

__all__ = ["draw"]

NAMES: Final = 190
"""Width of the names of the rows; all lengths are in pixels."""
HALF: Final = 300
GAP: Final = 36
MARGIN: Final = 20
TOP: Final = 92
STEP: Final = 19
TITLE: Final = 30
"""Height of a title between rows."""

TICKS: Final = (0.125, 0.25, 0.5, 1, 2, 4, 8)
"""Ratios with a line; those beyond the outer ones are drawn as arrows there."""

STYLE: Final = """
  .ground { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e }
  .line { stroke: #d8dde3 } .one { stroke: #59636e }
  .c0 { --c: #0b62c4 } .c1 { --c: #c2410c } .c2 { --c: #6b7280 } .c3 { --c: #0f766e } .c4 { --c: #7e22ce }
  .mark { fill: var(--c); stroke: var(--c); stroke-width: 1.6 } .hollow { fill: none }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14181d } .text { fill: #e6edf3 } .faint { fill: #9aa4af }
    .line { stroke: #30363d } .one { stroke: #9aa4af }
    .c0 { --c: #5aa9ff } .c1 { --c: #ff9a57 } .c2 { --c: #a3acb8 } .c3 { --c: #4fd1c5 } .c4 { --c: #d0a2ff }
  }
"""


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"'


def _polygon(*corners: tuple[float, float]) -> Callable[[float, float], str]:
    def shape(x: float, y: float) -> str:
        points = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in corners)
        return f'<polygon points="{points}"'

    return shape


SHAPES: Final = (
    (_circle, False),
    (_polygon((0, -6), (6, 0), (0, 6), (-6, 0)), False),
    (_circle, True),
    (_polygon((-4, -4), (4, -4), (4, 4), (-4, 4)), True),
    (_polygon((0, -5), (5, 4), (-5, 4)), True),
)
"""The mark of each program, and whether it is hollow."""
RIGHT: Final = _polygon((-4, -5), (5, 0), (-4, 5))
LEFT: Final = _polygon((4, -5), (-5, 0), (4, 5))


def draw(results: Results) -> str:
    """The picture, as a document of SVG."""
    programs = sorted(
        (program for program in results.programs if program != results.reference),
        key=lambda program: not program.startswith("sansnet"),
    )
    styles = {program: number % len(SHAPES) for number, program in enumerate(programs)}
    width = MARGIN + NAMES + 2 * HALF + GAP + MARGIN
    lines: list[str] = []
    y = TOP
    for title, rows in grouped([row for row in results.rows if results.ratios(row).keys() - {results.reference}]):
        y += TITLE
        lines.append(_text(MARGIN, y - 7, title, "text", weight="bold"))
        for row in rows:
            y += STEP
            lines += _row(results, row, styles, y - STEP / 2)
    lines[:0] = _axes(results.reference, y)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + MARGIN}" width="{width}" '
            f'height="{y + MARGIN}" font-family="system-ui, sans-serif" font-size="12" role="img">',
            f"<title>Ratios to {escape(results.reference)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{width}" height="{y + MARGIN}" rx="6"/>',
            *_legend(styles),
            *lines,
            "</svg>\n",
        ]
    )


def _legend(styles: Mapping[str, int]) -> Iterator[str]:
    x = MARGIN + 8
    for program, style in styles.items():
        yield _mark(style, x, MARGIN + 6)
        yield _text(x + 12, MARGIN + 10, program, "text")
        x += 44 + 7 * len(program)


def _axes(reference: str, bottom: float) -> Iterator[str]:
    for start, title in ((_start(cpu=False), "rate, time or memory"), (_start(cpu=True), "processor time of each")):
        yield _text(start + HALF / 2, TOP - 36, f"{title}: times better than {reference}", "text", anchor="middle")
        for tick in TICKS:
            x = start + _place(tick)
            yield f'<line class="{"one" if tick == 1 else "line"}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
            yield _text(x, TOP - 8, f"{tick:g}", "faint", anchor="middle")


def _row(results: Results, row: Row, styles: Mapping[str, int], y: float) -> Iterator[str]:
    yield _text(MARGIN + 12, y + 4, row.name, "text")
    for cpu in (False, True):
        ratios = results.ratios(row, cpu=cpu)
        for program, style in reversed(tuple(styles.items())):  # the first is drawn last, above the others
            if program in ratios:
                ratio = ratios[program]
                beyond = LEFT if ratio < TICKS[0] else RIGHT if ratio > TICKS[-1] else None
                title = f"{row.name}, {program}: {ratio:.2f}"
                yield _mark(style, _start(cpu=cpu) + _place(ratio), y, shape=beyond, title=title)


def _start(*, cpu: bool) -> float:
    return MARGIN + NAMES + (HALF + GAP if cpu else 0)


def _place(ratio: float) -> float:
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])
    return min(max((math.log(ratio) - low) / (high - low), 0), 1) * HALF


def _mark(
    style: int, x: float, y: float, *, shape: Callable[[float, float], str] | None = None, title: str = ""
) -> str:
    own, hollow = SHAPES[style]
    told = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'{(shape or own)(x, y)} class="mark c{style}{" hollow" if hollow else ""}">{told}</{_element(shape or own)}>'
    )


def _element(shape: Callable[[float, float], str]) -> str:
    return "circle" if shape is _circle else "polygon"


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
