"""A Sphinx extension: makes the pages about conformance from the tables of requirements, `docs/conformance/rfc*.toml`.

A page with the line `<!-- requirements: NUMBER -->` shows the table of that RFC in its place, and one with the line
`<!-- conformance -->` the sums of all tables.

A table is a TOML file with `rfc`, `title`, `role` (the part of sansnet that the RFC is about), `left_out` (classes of
requirements that the table does not list, each with the reason), and a list `requirement` of tables with:

- `id`: the RFC's own label, or a name for the requirement, unique in the file;
- `section`: of the RFC;
- `level`: one of `LEVELS`; the RFC's own word, or the nearest one for an RFC that does not use these words;
- `text`: the requirement in our own words;
- `state`: `held`, `different` (the behaviour is deliberately another one) or `not applicable`;
- `tests`: the tests that fail if the behaviour changes; a held requirement has at least one. A test is given by its
  name, or if several files have that name, as `core/wire/test_ipv4.py::NAME`, relative to `tests`;
- `reason`: why it is different or not applicable; a held requirement has none.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from sphinx.application import Sphinx

__all__ = ["LEVELS", "STATES", "Requirement", "Table", "markdown", "parse", "places", "setup", "summary", "tables"]

FOLDER: Final = Path(__file__).parent / "conformance"
TESTS: Final = Path(__file__).parents[1] / "tests"

LEVELS: Final = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY")
STATES: Final = ("held", "different", "not applicable")

_TABLE: Final = re.compile(r"^<!-- requirements: (\d+) -->$", re.MULTILINE)
_SUMMARY: Final = re.compile(r"^<!-- conformance -->$", re.MULTILINE)
_TEST: Final = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


class Requirement(NamedTuple):
    """One requirement; see the module."""

    id: str
    section: str
    level: str
    text: str
    state: str
    tests: tuple[str, ...]
    reason: str


class Table(NamedTuple):
    """The requirements of one RFC; see the module."""

    rfc: int
    title: str
    role: str
    left_out: tuple[str, ...]
    requirements: tuple[Requirement, ...]

    def count(self, state: str) -> int:
        """How many requirements are in a state."""
        return sum(one.state == state for one in self.requirements)


def parse(text: str) -> Table:
    """Read a table.

    Raises:
        ValueError: it does not have the form that the module describes; the message names the requirement.
    """
    data = tomllib.loads(text)
    keys = {"rfc", "title", "role", "left_out", "requirement"}
    if set(data) != keys:
        raise ValueError(f"keys of the table: {sorted(set(data) ^ keys)}")
    requirements = tuple(map(_requirement, data["requirement"]))
    repeated = [name for name, count in Counter(one.id for one in requirements).items() if count > 1]
    if repeated:
        raise ValueError(f"identifiers that occur twice: {repeated}")
    return Table(data["rfc"], data["title"], data["role"], tuple(data["left_out"]), requirements)


def _requirement(row: Mapping[str, Any]) -> Requirement:
    one = Requirement(**{"tests": (), "reason": "", **row})
    one = one._replace(tests=tuple(one.tests))
    if one.level not in LEVELS or one.state not in STATES:
        raise ValueError(f"{one.id}: level {one.level!r}, state {one.state!r}")
    if not (one.section and one.text):
        raise ValueError(f"{one.id}: the section or the text is empty")
    if one.state == "held" and (one.reason or not one.tests):
        raise ValueError(f"{one.id}: it is held, so it has tests and no reason")
    if one.state != "held" and not one.reason:
        raise ValueError(f"{one.id}: it is {one.state}, so it has a reason")
    return one


@cache
def tables() -> tuple[Table, ...]:
    """All tables, in the order of the RFCs' numbers."""
    files = sorted(FOLDER.glob("rfc*.toml"), key=lambda file: int(file.stem[3:]))
    return tuple(parse(file.read_text()) for file in files)


@cache
def places() -> Mapping[str, str]:
    """Each test as a table gives it -> its file, relative to `tests`."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        file = str(path.relative_to(TESTS))
        for name in _TEST.findall(path.read_text()):
            found.setdefault(name, set()).add(file)
    return {name if len(files) == 1 else f"{file}::{name}": file for name, files in found.items() for file in files}


def summary() -> str:
    """The sums of all tables, as Markdown."""
    lines = ["| RFC | requirements | held | different | not applicable |", "|---|---|---|---|---|"]
    for table in tables():
        sums = " | ".join(str(table.count(state)) for state in STATES)
        link = f"[{table.rfc}](rfc{table.rfc}.md): {table.title}"
        lines.append(f"| {link} | {len(table.requirements)} | {sums} |")
    sums = " | ".join(str(sum(table.count(state) for table in tables())) for state in STATES)
    lines.append(f"| all | {sum(len(table.requirements) for table in tables())} | {sums} |")
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """The page about one RFC, without its title."""
    parts = [table.role]
    parts.append(
        f"Of {len(table.requirements)} requirements, {table.count('held')} are held and have a test, "
        f"{table.count('different')} are deliberately different, and {table.count('not applicable')} do not apply."
    )
    if table.left_out:
        parts.append("Not in the table:\n\n" + "\n".join(f"- {text}" for text in table.left_out))
    rows = ["| requirement | level | section | text | tests, or reason |", "|---|---|---|---|---|"]
    for one in table.requirements:
        tests = ", ".join(f"`{_name(test)}`" for test in one.tests)
        evidence = tests if one.state == "held" else f"*{one.state}*: {one.reason}" + (f" {tests}" if tests else "")
        cells = (one.id, one.level, one.section, one.text, evidence)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    parts.append("## Requirements\n\n" + "\n".join(rows))
    parts.append("## Where the tests are\n\n" + _files(test for one in table.requirements for test in one.tests))
    return "\n\n".join(parts)


def _name(test: str) -> str:
    return test.rpartition("::")[2]


def _files(tests: Iterable[str]) -> str:
    files: dict[str, set[str]] = {}
    for test in tests:
        files.setdefault(places()[test], set()).add(f"`{_name(test)}`")
    return "\n".join(f"- `tests/{file}`: {', '.join(sorted(files[file]))}" for file in sorted(files))


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    if match := _TABLE.search(source[0]):
        number = int(match[1])
        text = markdown(next(table for table in tables() if table.rfc == number))
        source[0] = source[0][: match.start()] + text + source[0][match.end() :]
        app.env.note_dependency(str(FOLDER / f"rfc{number}.toml"), docname=name)
    elif match := _SUMMARY.search(source[0]):
        source[0] = source[0][: match.start()] + summary() + source[0][match.end() :]
        for table in tables():
            app.env.note_dependency(str(FOLDER / f"rfc{table.rfc}.toml"), docname=name)


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
