"""The policies of `examples/policies` and of the documentation: each is right, and its cases pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sansnet_cli.policy.command import policy
from sansnet_core.policy import load_policy, run_cases

FILES: Final = sorted(Path("examples/policies").glob("*.toml"))
PAGES: Final = [Path("README.md"), *(page for page in sorted(Path("docs").rglob("*.md")) if page.parent.name != "news")]
KEYS: Final = re.compile(r"^(default|preset|rules) =|^\[\[(rule|case)\]\]", re.MULTILINE)
"""The beginning of a line by which a block is known as a policy, or a part of one."""


def blocks(page: Path) -> Iterator[str]:
    """The policies of a page."""
    for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        if KEYS.search(text):
            yield text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_cases_of_an_example_pass(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert policy(["check", str(file)]) == 0
    assert policy(["test", str(file)]) == 0
    assert f"examples/policies/{file.name}" in file.read_text() or "sansnet run" not in file.read_text()
    assert capsys.readouterr().out.splitlines()[-1].endswith("cases passed")


def test_there_are_examples() -> None:
    assert len(FILES) >= 5
    named = "\n".join(page.read_text() for page in PAGES)
    assert [file.name for file in FILES if f"examples/policies/{file.name}" not in named] == []


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=str)
def test_a_policy_in_the_documentation_is_right(page: Path) -> None:
    for text in blocks(page):
        text = text.replace('"FILE"', '"credentials"')
        found = load_policy(text, file=str(page), read=lambda name: "user:password\n")
        if found.policy.rules:
            assert [str(result) for result in run_cases(found) if not result.passed] == []


def test_pages_with_policies_are_found() -> None:
    assert any(blocks(Path("docs/how-to/run-pip-under-a-policy.md")))
