"""The table of options in the help and in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.options import render
from sansnet_cli.compat import PROGRAMS, program_named
from sansnet_cli.compat.options import OPTIONS, usage

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"


def test_the_documentation_has_the_table() -> None:
    shown = PAGE.read_text().partition("<!-- options -->\n")[2].partition("<!-- /options -->")[0]
    assert shown == render()


def test_no_name_means_two_things() -> None:
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    letters = [option.short for option in OPTIONS if option.short]
    assert len(set(names)) == len(names)
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_has_every_option_of_the_program_and_no_other(program: str) -> None:
    words = set(usage(program).replace(",", " ").split())
    for option in OPTIONS:
        assert (f"--{option.name}" in words) == (option.only in ("", program))
        assert option.text or option.ignored


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_fits_a_terminal(program: str) -> None:
    assert max(map(len, usage(program).splitlines())) <= 80


@pytest.mark.parametrize("program", ["pasta", "passt"])
def test_no_heading_of_the_help_is_alone(program: str) -> None:
    lines = usage(program).splitlines()
    headings = [n for n, line in enumerate(lines) if line.endswith(":") and not line.startswith(" ")]
    assert headings
    assert all(lines[n + 1] for n in headings)


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/usr/bin/pasta", "pasta"),
        ("passt.avx2", "passt"),
        ("/usr/libexec/podman/pesto", "pesto"),
        ("/opt/pasta/bin/sansnet", None),
        ("sansnet", None),
        ("", None),
    ],
)
def test_the_program_is_known_by_its_name(path: str, program: str | None) -> None:
    assert program_named(path) == program
