"""Docstrings and names of the driver and the command: rules that a machine can hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("sansnet-trio", "sansnet-cli")
FILES: Final = sorted(file for name in PACKAGES for file in ROOT.glob(f"packages/{name}/src/**/*.py"))
IDS: Final = [str(file.relative_to(ROOT / "packages")) for file in FILES]

FRAGMENT: Final = re.compile(
    r"^ +[\w, ]+: (?:(?:of|those|for|being|has|are|does) |(?:the user's|the guest's|the host's)[.;])", re.MULTILINE
)
"""A description of an argument or attribute that begins without its noun."""
PERSON: Final = re.compile(r"\b(hears?|heard|speaks?|spoken|told|said)\b", re.IGNORECASE)
UNUSED: Final = re.compile(
    r"(?:^|_)(doors?|spots?|outset|leftovers?|occupied|template|company|crossing|hears?|told|patience|parting|respite|deaf)"
    r"(?:_|$)|^given$",
    re.IGNORECASE,
)
"""Words that docs/glossary.md has no meaning for."""


def _docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node, clean=False) or ""


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        for field in ("id", "attr", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_descriptions_begin_with_a_noun(file: Path) -> None:
    assert [found for text in _docstrings(file) for found in FRAGMENT.findall(text)] == []


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_programs_and_sockets_are_no_persons(file: Path) -> None:
    strings = (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))
    assert [text for text in strings if isinstance(text, str) and " " in text and PERSON.search(text)] == []


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_names_use_the_words_of_the_glossary(file: Path) -> None:
    assert {name for name in _names(file) if UNUSED.search(name)} == set()


@pytest.mark.parametrize("file", [file for file in FILES if "sansnet_cli" in file.parts], ids=lambda file: file.stem)
def test_the_command_imports_exported_names_alone(file: Path) -> None:
    """Each name comes from a package or module that has it in `__all__`."""
    for node in ast.walk(ast.parse(file.read_text())):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and module.startswith(("sansnet_core", "sansnet_trio")):
            exported = set(import_module(module).__all__) if hasattr(import_module(module), "__all__") else set()
            for name in (alias.name for alias in node.names):
                is_module = (ROOT / "packages").glob(f"*/src/{module.replace('.', '/')}/{name}*")
                assert name in exported or any(is_module), f"{module}.{name}"


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_public_functions_have_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert [
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ] == []
