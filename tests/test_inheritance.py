"""Private names stay in their module: no class overrides one of a base class that another module defines."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

import sansnet_cli
import sansnet_core
import sansnet_trio

_OPEN = {"argparse"}
"""Modules of the standard library whose classes are made to be adapted by overriding private methods."""


def _classes(package: ModuleType) -> Iterator[tuple[type, set[str]]]:
    """Each class of a package, and the private names that its body defines."""
    names = [package.__name__]
    names += [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    for name in names:
        if name.endswith("__main__"):
            continue
        module = import_module(name)
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                yield getattr(module, node.name), {name for name in _defined(node) if _is_private(name)}


def _defined(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")


@pytest.mark.parametrize("package", [sansnet_core, sansnet_trio, sansnet_cli], ids=lambda package: package.__name__)
def test_no_class_overrides_what_is_private_to_another_module(package: ModuleType) -> None:
    found = {
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for cls, names in _classes(package)
        for base in cls.__mro__[1:]
        if base.__module__ not in {cls.__module__, *_OPEN}
        for name in names & vars(base).keys()
    }

    assert not found
