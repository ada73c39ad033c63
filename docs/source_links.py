"""A Sphinx extension: shows Markdown files of the repository as pages of the site, and keeps the links between files.

A page with the line `<!-- file: README.md -->` shows that file in place of its own text. A link in a page or in such a
file is relative to where it stands, as GitHub reads it; in the site it leads to the page that shows the file. A link to
a file that is no page, such as a program, becomes a download.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sphinx.application import Sphinx

__all__ = ["setup"]

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
_FILE: Final = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def _shown_files() -> dict[Path, Path]:
    """The page that shows each file."""
    pages = ((page, _FILE.search(page.read_text())) for page in DOCS.rglob("*.md"))
    return {ROOT / match[1]: page for page, match in pages if match}


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    match = _FILE.search(source[0])
    origin = ROOT / match[1] if match else page
    shown = _shown_files()

    def link(target: re.Match[str]) -> str:
        path = Path(os.path.normpath(origin.parent / target[1]))
        leads_to = shown.get(path, path)
        relative = os.path.relpath(leads_to, page.parent)
        is_page = app.env.path2doc(str(leads_to)) in app.env.found_docs
        return relative if is_page or leads_to.suffix != ".md" else f"path:{relative}"

    source[0] = _LINK.sub(link, origin.read_text() if match else source[0])
    if match:
        app.env.note_dependency(str(origin), docname=name)


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
