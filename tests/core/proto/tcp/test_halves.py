"""The parts of TCP keep their own state: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.proto import tcp

FILES: Final = sorted(Path(tcp.__path__[0]).glob("*.py"))
RULES: Final = [file for file in FILES if file.stem != "prediction"]
COUNTED: Final = frozenset({"memory", "shared"})
"""The state that all connections share, which each of them may change."""


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    """The targets that a statement or expression assigns to."""
    if isinstance(node, ast.Assign | ast.Delete):
        yield from node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.comprehension):
        yield node.target
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
        yield ast.Attribute(node.args[0], "?", ast.Store())


def _attributes(source: str) -> Iterator[tuple[str, str]]:
    """Every attribute that is assigned to: the name of its owner, and its own."""
    for node in ast.walk(ast.parse(source)):
        for target in _targets(node):
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store | ast.Del):
                    owner = part.value
                    yield (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "?")), part.attr


def _foreign(source: str) -> list[tuple[str, str]]:
    return [(owner, name) for owner, name in _attributes(source) if owner != "self" and owner not in COUNTED]


@pytest.mark.parametrize(
    "statement",
    [
        "self.sender.window = 1",
        "self.receiver.unsent -= count",
        "sender = self.sender\nsender.retries += 1",
        "half = flow.sender\nhalf.wl1, half.wl2 = 1, 2",
        "self.sender.buffer.held: int = 0",
        "for self.receiver.fin in found: pass",
        "with lock as self.sender.lock: pass",
        "del flow.receiver.fin",
        "setattr(self.sender, 'window', 1)",
        "self.halves[0].window = 1",
    ],
)
def test_the_check_sees_every_way_to_assign(statement: str) -> None:
    assert _foreign(statement)


@pytest.mark.parametrize("file", RULES, ids=[file.stem for file in RULES])
def test_every_part_assigns_to_its_own_attributes_only(file: Path) -> None:
    """The window, duplicates and FIN bookkeeping of `Sender` and `Receiver` above all.

    The short cut is left out: it writes down what the parts do together, and a property holds it to that.
    """
    assert _foreign(file.read_text()) == []


def test_the_lifecycle_is_changed_by_its_tables_alone() -> None:
    changed = []
    for file in FILES:
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                names = {name for _, name in _attributes(ast.unparse(function))}
                changed += [(file.stem, function.name)] * ("lifecycle" in names)

    assert changed == [("flow", "__init__"), ("flow", "fire")]


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_name_is_composed_to_be_looked_up(file: Path) -> None:
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]

    assert "getattr" not in calls


def _reached(source: str) -> list[str]:
    """Private attributes that are used through another object."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value.id if isinstance(node.value, ast.Name) else "?"
            if node.attr in ("_make", "_replace"):  # public methods of every NamedTuple
                continue
            if owner not in ("self", "cls", "TcpFlow"):
                found.append(ast.unparse(node))
    return found


def test_the_check_sees_what_is_reached() -> None:
    assert _reached("flow.sender._sacked.clear()")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_part_reaches_into_another(file: Path) -> None:
    """The entries of the table of effects, which are part of `TcpFlow`, call its own methods."""
    found = _reached(file.read_text())
    assert found == (["flow._close_socket"] * 2 if file.stem == "flow" else [])
