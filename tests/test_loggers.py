"""All loggers are one family: the command, or a program that uses the library, hears them all by one name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent / "packages"
FILES: Final = sorted(ROOT.glob("*/src/**/*.py"))
FAMILY: Final = "sansnet"
OF_PYROUTE2: Final = (ROOT / "sansnet-trio/src/sansnet_trio/linux/netlink_messages.py", "self._name")
"""The place where pyroute2's modules get their own loggers, which have pyroute2's names."""


def _calls(file: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    """`getLogger` for `logging.getLogger(...)` and `getLogger(...)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_logger_is_of_one_family(file: Path) -> None:
    """By a literal name: `__name__` of a module is `sansnet_trio...`, which is another family."""
    names = [ast.unparse(argument) for call in _calls(file) if _name(call) == "getLogger" for argument in call.args]

    assert all(name == repr(FAMILY) or name.startswith(f"'{FAMILY}.") or (file, name) == OF_PYROUTE2 for name in names)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_nothing_is_logged_without_a_logger_of_the_family(file: Path) -> None:
    direct = [
        ast.unparse(call)
        for call in _calls(file)
        if isinstance(call.func, ast.Attribute)
        and getattr(call.func.value, "id", "") in ("logging", "warnings")
        and not any(ast.unparse(argument) == "ResourceWarning" for argument in call.args)  # Python's own for sockets
        and call.func.attr in ("debug", "info", "warn", "warning", "error", "exception", "critical", "log")
    ]
    unnamed = [call for call in _calls(file) if _name(call) == "getLogger" and len(call.args) != 1]

    assert (direct, unnamed) == ([], [])
