"""The page about ways around a policy: each of its rows names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path("docs/threats.md").read_text()
ROWS: Final = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)


def test_there_are_eighteen_rows() -> None:
    assert [int(number) for number, *_ in ROWS] == [*range(1, 19)]


def test_each_row_names_tests_that_exist() -> None:
    sources = [file.read_text() for file in Path("tests").rglob("test_*.py")]
    there = {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)}
    for number, _, how, tests in ROWS:
        named = re.findall(r"`(test_\w+)`", tests)
        assert how, number
        assert named, number
        assert set(named) <= there, number


def test_what_remains_is_named() -> None:
    remaining = PAGE.partition("## Remaining possibilities")[2]
    assert all(word in remaining for word in ("fronting", "timing", "Encrypted ClientHello", "Allowed servers"))
