"""The script that counts rooms, arrows and circles, with packages made up for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure import Package, circles

SOURCES = {
    "__init__": "from whole.first import one",
    "first": "from whole.low.second import two",
    "top": "import whole.first\nimport whole.low",
    "low/__init__": "",
    "low/second": "def f():\n    from whole.low import third",
    "low/third": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from whole.first import one",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package in a checkout."""
    folder = tmp_path / "packages/some/src/whole"
    for name, text in SOURCES.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_arrows_between_modules(folder: Path) -> None:
    package = Package(folder)
    arrows = package.module_arrows()
    assert arrows == {
        "whole": {"whole.first"},
        "whole.first": {"whole.low.second"},
        "whole.top": {"whole.first", "whole.low"},
        "whole.low": set(),
        "whole.low.second": {"whole.low.third"},
        "whole.low.third": set(),
    }
    assert package.module_arrows(typing_only=True) == arrows | {"whole.low.third": {"whole.first"}}


def test_arrows_between_rooms(folder: Path) -> None:
    package = Package(folder)
    assert package.folders == ["whole", "whole.low"]
    assert package.room_arrows("whole") == {
        "whole.first": {"whole.low"},
        "whole.top": {"whole.first", "whole.low"},
        "whole.low": set(),
    }
    assert package.room_arrows("whole.low") == {"whole.low.second": {"whole.low.third"}, "whole.low.third": set()}


def test_circles(folder: Path) -> None:
    package = Package(folder)
    assert circles(package.module_arrows()) == []
    assert circles(package.module_arrows(typing_only=True)) == [["whole.first", "whole.low.second", "whole.low.third"]]
    assert circles(package.room_arrows("whole", typing_only=True)) == [["whole.first", "whole.low"]]


def test_a_circle_is_counted_once() -> None:
    assert circles({"a": "b", "b": "ac", "c": "ad", "d": "e", "e": "d", "f": "a"}) == [["d", "e"], ["a", "b", "c"]]


def test_a_relative_import_is_an_error(folder: Path) -> None:
    (folder / "low/third.py").write_text("from . import second")
    with pytest.raises(ValueError, match=r"third\.py:1: a relative import"):
        Package(folder)


def test_its_report(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.structure", str(folder.parents[3])]
    root = Path(__file__).parent.parent
    lines = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "count arrows typing circles",
        "rooms of whole 3 3 1 1",
        "rooms of low 2 1 0 0",
        "modules of whole 6 5 1 1",
        "9 lines; the longest module is whole.low.third with 3",
        "circle: whole.first, whole.low",
        "circle: whole.first, whole.low.second, whole.low.third",
        "",
    ]
