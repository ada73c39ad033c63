#!/usr/bin/env python3
"""Write the tables and pictures of docs/performance.md from the files that `compare.py --json` and `machines.py` wrote.

`publish.py FILE...` replaces what stands between the marks of each file's kind, and the picture of that kind.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from picture import draw
from results import Results, grouped

__all__ = ["publish", "render"]

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/performance.md"


def render(results: Results) -> str:
    """The text between the marks: the conditions, one table for each subject, and what failed."""
    parts = ["\n".join(f"- {line}" for line in results.description())]
    parts += [f"**{title}**\n\n{results.table(rows, ranges=False)}" for title, rows in grouped(results.rows)]
    if results.failures:
        parts.append("Measurements that failed:\n\n" + "\n".join(f"- {failure}" for failure in results.failures))
    return "\n\n".join(parts)


def publish(results: Results, page: Path) -> None:
    """Change the page, and the picture beside it.

    Raises:
        SystemExit: the page has no marks for this kind.
    """
    begin, end = f"<!-- results: {results.kind} -->", f"<!-- /results: {results.kind} -->"
    text = page.read_text()
    if begin not in text or end not in text:
        sys.exit(f"{page} has no place for the kind {results.kind}: it needs the lines {begin} and {end}")
    picture = page.with_name(f"performance-{results.kind}.svg")
    picture.write_text(draw(results))
    shown = f"{begin}\n\n![Ratios to {results.reference}]({picture.name})\n\n{render(results)}\n\n{end}"
    page.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: shown, text, flags=re.DOTALL))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: publish.py FILE...")
    for name in sys.argv[1:]:
        publish(Results.load(Path(name)), PAGE)
