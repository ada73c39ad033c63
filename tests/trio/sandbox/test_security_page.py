"""The table of attacks in docs/security.md is the one that the tests of the kernel hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.kernel.sandbox.expected import table

PAGE: Final = Path(__file__).parents[3] / "docs/security.md"


def test_the_page_has_the_table_of_attacks() -> None:
    text = PAGE.read_text().partition("<!-- attacks -->\n")[2].partition("\n<!-- /attacks -->")[0]
    assert text == table()
