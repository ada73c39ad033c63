"""Transfers over bad links take as long as the snapshot says; see docs/theory/bad-links.md."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Final

import pytest

from tests.netsim.matrix import CELLS, Cell, Outcome, measure
from tests.netsim.pictures import pictures
from tests.netsim.table import HEAD, SNAPSHOT, line

pytestmark = pytest.mark.slow

RENEW: Final = "`python -m tests.netsim` writes the snapshot and the pictures again; look at each line that changes"


def _group(cell: Cell) -> str:
    return f"{cell.direction}, {cell.path.name}, {cell.delay * 1000:.0f} ms"


GROUPS: Final = [pytest.param(tuple(cells), id=name) for name, cells in groupby(CELLS, _group)]


@cache
def outcome_of(cell: Cell) -> Outcome:
    return measure(cell)


@pytest.mark.parametrize("cells", GROUPS)
def test_transfers_take_as_long_as_before(cells: tuple[Cell, ...]) -> None:
    known = SNAPSHOT.read_text().splitlines()
    first = 1 + CELLS.index(cells[0])
    assert [line(cell, outcome_of(cell)) for cell in cells] == known[first : first + len(cells)], RENEW


def test_the_snapshot_has_all_cells() -> None:
    known = SNAPSHOT.read_text().splitlines()
    assert known[0] == HEAD
    assert len(known) == 1 + len(CELLS)


@pytest.mark.timeout(300)  # alone, it measures all cells
def test_the_pictures_show_the_same() -> None:
    outcomes = {cell: outcome_of(cell) for cell in CELLS}
    assert {path: path.read_text() for path in pictures(outcomes)} == pictures(outcomes), RENEW
