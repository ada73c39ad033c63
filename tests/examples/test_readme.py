"""What the README shows, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path("README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one code block of a language that contains something."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return found


@pytest.mark.kernel
def test_the_embedding_program_gives_a_command_a_network(tmp_path: Path) -> None:
    program = tmp_path / "embed.py"
    program.write_text(block("python", "Guest.fork"))
    command = [sys.executable, str(program), "sh", "-c", "ip -4 -o address show tap0 && ip route && exit 7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    assert "10.0.2.15/24" in done.stdout
    assert "default via 10.0.2.2 dev tap0" in done.stdout


@pytest.mark.parametrize("page", [Path("README.md"), Path("benchmarks/README.md"), *sorted(Path("docs").glob("*.md"))])
def test_every_place_that_a_page_leads_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), link
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]


def test_ci_runs_the_command_that_it_gives_for_the_tests() -> None:
    assert block("sh", "tests/run").strip() == "sh tests/run"
    assert "tests/run" in Path(".ci/run").read_text()
