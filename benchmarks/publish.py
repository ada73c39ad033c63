#!/usr/bin/env python3
"""Write the tables and pictures of docs/performance.md from files of `compare.py`, `machines.py` and `where.py`.

It replaces the text between the marks of each file's kind, and the picture of that kind.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Final

from picture import draw
from results import Results, aligned, grouped

__all__ = ["publish", "publish_file", "render"]

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
    picture = page.with_name(f"performance-{results.kind}.svg")
    replace(page, results.kind, f"![Ratios to {results.reference}]({picture.name})\n\n{render(results)}")
    picture.write_text(draw(results))


def replace(page: Path, kind: str, text: str) -> None:
    """Replace the text between the marks of a kind.

    Raises:
        SystemExit: the page has no such marks.
    """
    begin, end = f"<!-- results: {kind} -->", f"<!-- /results: {kind} -->"
    before = page.read_text()
    if begin not in before or end not in before:
        sys.exit(f"{page} has no place for the kind {kind}: it needs the lines {begin} and {end}")
    shown = f"{begin}\n\n{text}\n\n{end}"
    page.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: shown, before, flags=re.DOTALL))


def publish_file(file: Path, page: Path) -> None:
    """Change the page for a file of any of the three programs."""
    document = json.loads(file.read_text())
    if document["kind"] == "where":
        conditions = "\n".join(f"- {name}: {text}" for name, text in document["host"].items())
        replace(page, "where", f"{conditions}\n\n{aligned(document['lines'])}")
    else:
        publish(Results.load(file), page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="that `--json` of those programs wrote")
    try:
        for name in parser.parse_args().files:
            publish_file(name, PAGE)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{name} is no such file: {error}")
