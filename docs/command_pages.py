"""A Sphinx extension: makes the pages about commands, and the manual pages, from what `--help` prints.

A page has the line `<!-- command: sansnet NAME -->`. Before Sphinx reads the page, the rest of it from there on is
replaced by Markdown that is made from the help which the parser of the command prints. Sphinx's builder `man` makes the
manual pages from the same pages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from sphinx.application import Sphinx

from sansnet_cli.dispatch import COMMANDS

__all__ = ["Help", "help_of", "manual_pages", "markdown", "setup"]

_MARK: Final = re.compile(r"^<!-- command: sansnet ?(\w*) -->$.*", re.MULTILINE | re.DOTALL)
_WIDE: Final = {"COLUMNS": "10000", "NO_COLOR": "1"}
"""So that argparse wraps and colours nothing."""


class Entry(NamedTuple):
    """An option, an argument or a command, with what the help says of it."""

    names: str
    text: str


class Group(NamedTuple):
    """The entries under one heading, and a paragraph about all of them."""

    heading: str
    text: str
    entries: list[Entry]


class Help(NamedTuple):
    """The parts of a help.

    Attributes:
        usage: its lines, without the word `usage`.
        text: paragraphs and indented blocks.
        groups: the entries, by heading.
        examples: command lines.
    """

    usage: str
    text: list[str]
    groups: list[Group]
    examples: str


@cache
def help_of(command: str = "") -> Help:
    """The help that `sansnet COMMAND --help` prints; without a command, that of `sansnet`."""
    words = [sys.executable, "-m", "sansnet_cli", *command.split(), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **_WIDE})
    return _parts(done.stdout)


def _parts(text: str) -> Help:
    usage, examples = "", ""
    paragraphs: list[str] = []
    groups: list[Group] = []
    blocks = iter(re.split(r"\n{2,}", text.rstrip()))
    for block in blocks:
        heading, _, rest = block.partition("\n")
        if block.startswith("usage: "):
            usage = textwrap.dedent(f"       {block.removeprefix('usage: ')}")
        elif heading == "examples:":
            examples = textwrap.dedent(rest or next(blocks))
        elif block.startswith("  -") and (not groups or groups[-1].text):  # without a heading, or after its paragraph
            last = groups.pop() if groups else Group("options", "", [])
            groups.append(last._replace(entries=[*_entries(block.splitlines())]))
        elif heading.endswith(":") and rest.startswith("  "):
            lines = rest.splitlines()
            entries = lines[0].startswith("  -") or "  " in lines[0].strip() or len(lines) > 1
            group = Group(heading.removesuffix(":"), "" if entries else rest.strip(), [])
            groups.append(group._replace(entries=[*_entries(lines)]) if entries else group)
        else:
            paragraphs.append(block)
    return Help(usage, paragraphs, groups, examples)


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    names, text = "", ""
    for line in lines:
        if re.match(r"  (?=\S)| {6}(?=--)", line) is None:
            text = f"{text} {line.strip()}".strip()
            continue
        if names:
            yield Entry(names, text)
        names, _, text = line.strip().partition("  ")
        text = text.strip()
    yield Entry(names, text)


def markdown(command: str = "") -> str:
    """The page of a command, without its first heading."""
    shown = help_of(command)
    text = shown.text or [f"{_summaries()[command].capitalize()}."]
    parts = ["## Synopsis", _fenced("text", shown.usage), "## Description", *map(_paragraph, text)]
    parts += ["## Options", _fenced("{program}", "", f"sansnet {command}".strip())]
    for group in shown.groups:
        title, _, remark = group.heading.partition("; ")
        parts += [f"### {title[0].upper()}{title[1:]}"]
        parts += [_escaped(text[0].upper() + text[1:]) for text in (f"{remark}." * bool(remark), group.text) if text]
        parts += map(_command if title == "commands" else _option, group.entries)
    if shown.examples:
        parts += ["## Examples", _fenced("sh", shown.examples)]
    parts += ["## See also", ", ".join(_see(name) for name in ("", *COMMANDS) if name != command)]
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    return _fenced("text", textwrap.dedent(text)) if text.startswith(" ") else _escaped(" ".join(text.split()))


def _option(entry: Entry) -> str:
    return _fenced("{option}", _escaped(entry.text), entry.names)


def _command(entry: Entry) -> str:
    names = ", ".join(f"[`sansnet {name}`]({name}.md)" for name in entry.names.split(", "))
    return f"{names}\n: {_escaped(entry.text)}"


def _fenced(language: str, text: str, argument: str = "") -> str:
    return f"````{language} {argument}".rstrip() + f"\n{text}\n````"


def _see(command: str) -> str:
    """A link to the page of a command, under the name of its manual page."""
    name = f"sansnet-{command}".removesuffix("-")
    return f"[`{name}(1)`]({command or 'sansnet'}.md)"


def _escaped(text: str) -> str:
    """Text as Markdown; what stands between backticks is code already."""
    return "`".join(
        re.sub(r"([\\*_\[\]<>$#])", r"\\\1", part) if n % 2 == 0 else part for n, part in enumerate(text.split("`"))
    )


def _summaries() -> dict[str, str]:
    """What the help of `sansnet` says of each command."""
    [commands] = (group.entries for group in help_of().groups if group.heading == "commands")
    return {name: entry.text for entry in commands for name in entry.names.split(", ")}


def manual_pages() -> list[tuple[str, str, str, list[str], int]]:
    """Sphinx's `man_pages`: the page of each command, its name, its line of description, no authors, its section."""
    return [
        ("reference/commands/sansnet", "sansnet", "a network for guests, without privileges", [], 1),
        *((f"reference/commands/{name}", f"sansnet-{name}", _summaries()[name], [], 1) for name in COMMANDS),
    ]


def _fill(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = _MARK.sub(lambda match: markdown(match[1]), source[0])


def _unlink(app: Sphinx, tree: Any, _name: str) -> None:
    """In a manual page, replace links to other pages by their text; Sphinx would print `<>` after each."""
    if app.builder.name == "man":
        for link in [node for node in tree.findall() if node.tagname == "reference"]:
            link.replace_self(link.children)


def setup(app: Sphinx) -> Mapping[str, bool]:
    """Register the extension."""
    app.connect("source-read", _fill)
    app.connect("doctree-resolved", _unlink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
