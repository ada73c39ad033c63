"""A Sphinx extension: makes the list of docs/glossary.md a glossary, so that the role `term` finds its words.

The page is an ordinary list, `- **word**: meaning`, so that it can be read without Sphinx as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sphinx.application import Sphinx

__all__ = ["glossary", "setup"]

_LIST: Final = re.compile(r"(?:^- \*\*.+\n(?:^  .+\n)*)+", re.MULTILINE)
_ENTRY: Final = re.compile(r"^- \*\*(.+?)\*\*: ", re.MULTILINE)


def glossary(text: str) -> str:
    """The page with a directive `glossary` in place of each list of words."""

    def entry(match: re.Match[str]) -> str:
        return "\n".join(["", *match[1].split("**, **")]) + "\n  "

    return _LIST.sub(lambda match: f"```{{glossary}}\n{_ENTRY.sub(entry, match[0]).lstrip()}```\n", text)


def _read(_app: Sphinx, name: str, source: list[str]) -> None:
    if name == "glossary":
        source[0] = glossary(source[0])


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
