"""Rules of language that a machine can hold, for comments, docstrings, messages and documentation.

The text is for engineers whose first language may be another: no rare words, no personified things, no sentences that
begin with a free relative clause ("What the guest sent is ...", "Who connects ...").
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
RARE: Final = re.compile(
    r"\b(lest|likewise|nobody's|nobody is|for want of|the want of|whoever|whomever|thereof|thereby|herein|whence|"
    r"hither|thither|betwixt|aforesaid|hence|henceforth|he|she|him|his|hers|doors?|outset|leftovers|occupied)\b",
    re.IGNORECASE,
)
HEAD: Final = re.compile(r"(?:^|[.!:;]\s+)((?:Who|What|Whom|Whose|Whichever|Whatever)\b[^.?!]*)([.?!]|$)")
"""A sentence with its end; a question is not meant."""
CORE: Final = re.compile(r"\b(hears?|heard|told|said|hosts? outside|of ours|so many|as given)\b|^Of ", re.IGNORECASE)
"""For the core and its pages: nothing there has ears, and no fragment begins in the middle of a sentence."""
CORE_PAGES: Final = ("tcp", "udp-and-echo", "errors", "dhcp-and-ndp", "vhost-user")


def _files() -> list[Path]:
    code = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("tests/*.md")]
    return sorted({*code, *pages, *ROOT.glob("tests/**/*.py")} - {Path(__file__)})


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and texts: the paragraphs of a page, or the comments and strings of a module."""
    source = file.read_text()
    if file.suffix == ".md":
        line = 1
        for block in re.split(r"(```.*?```)", source, flags=re.DOTALL):
            if not block.startswith("```"):
                for part in re.split(r"\n\s*\n|\n(?=[-*#|>])", block):
                    yield line, re.sub(r"`[^`]*`", "x", part).lstrip("-*#|> \n")
            line += block.count("\n")
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for paragraph in node.value.split("\n\n"):
                yield node.lineno, re.sub(r"`[^`]*`", "x", re.sub(r"\n\s+\w+: ", ". ", paragraph)).strip()


def _core_files() -> list[Path]:
    pages = [ROOT / "docs" / f"{name}.md" for name in CORE_PAGES]
    return [*sorted(ROOT.glob("packages/sansnet-core/src/**/*.py")), *pages, *sorted(ROOT.glob("docs/theory/*.md"))]


@pytest.mark.parametrize("file", _files(), ids=[str(file.relative_to(ROOT)) for file in _files()])
def test_sentences_are_plain(file: Path) -> None:
    found = []
    for line, text in _texts(file):
        found += [f"{line}: {match[0]}" for match in RARE.finditer(text)]
        found += [f"{line}: {match[1][:60]}" for match in HEAD.finditer(text) if match[2] != "?"]
    assert not found


@pytest.mark.parametrize("file", _core_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_sentences_about_the_core_have_a_head(file: Path) -> None:
    found = [f"{line}: {text[:80]}" for line, text in _texts(file) if CORE.search(text)]
    assert not found


@pytest.mark.parametrize("file", _files(), ids=[str(file.relative_to(ROOT)) for file in _files()])
def test_a_docstring_does_not_begin_with_a_name_of_the_code(file: Path) -> None:
    """Unless it is marked as one, in backticks: renaming a class must not rename a verb ("GuestChange the guest")."""
    if file.suffix == ".py":
        places = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, places)]
        docs = [ast.get_docstring(node) or "" for node in nodes]
        assert [doc for doc in docs if re.match(r"[A-Z][a-z]+[A-Z]\w* ", doc)] == []
