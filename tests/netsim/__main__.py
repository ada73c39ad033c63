"""`python -m tests.netsim [--compare]`: measure all cells, and write the snapshot and the pictures, or compare."""

from __future__ import annotations

import argparse
import sys
from difflib import unified_diff

from tests.netsim.matrix import CELLS, measure
from tests.netsim.pictures import pictures
from tests.netsim.table import HEAD, SNAPSHOT, line


def main() -> int:
    """The exit status: 1 if the snapshot differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.netsim", description=__doc__)
    parser.add_argument("--compare", action="store_true", help="show the lines that differ, and write nothing")
    compare = parser.parse_args().compare
    outcomes = {cell: measure(cell) for cell in CELLS}
    before = SNAPSHOT.read_text().splitlines() if SNAPSHOT.exists() else []
    after = [HEAD, *(line(cell, outcome) for cell, outcome in outcomes.items())]
    for changed in unified_diff(before, after, "before", "after", lineterm="", n=0):
        print(changed)
    if not compare:
        SNAPSHOT.write_text("\n".join(after) + "\n")
        for path, picture in pictures(outcomes).items():
            path.write_text(picture)
    return before != after if compare else 0


sys.exit(main())
