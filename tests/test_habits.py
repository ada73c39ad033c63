"""Rules for the texts and the settings that people who work on the project rely on."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
TEXTS: Final = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "tests/README.md", "docs/news/README.md")]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(text: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", text.read_text())
    assert [link for link in links if not (text.parent / link).exists()] == []


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = set(re.findall(r"`?((?:packages|tests|docs|benchmarks|\.ci)/[\w./-]+\w)", text)) - {"docs/news/+slug"}
    assert len(names) > 15
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
    core = set(re.findall(r"`(?:sansnet_core/)?((?:wire|proto)(?:/\w+\.py)?|\w+\.py)`", text))
    assert {"wire", "proto", "network.py", "config.py"} <= core
    packages = ROOT / "packages/sansnet-core/src/sansnet_core"
    assert [name for name in sorted(core) if not (packages / name).exists()] == []


def test_readme_leads_to_both() -> None:
    text = (ROOT / "README.md").read_text()
    assert "](CONTRIBUTING.md)" in text
    assert "](SECURITY.md)" in text


def test_the_map_of_the_tests_names_every_folder() -> None:
    text = (ROOT / "tests/README.md").read_text()
    tracked = subprocess.run(["git", "ls-files", "tests"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folders = {name.split("/")[1] for name in tracked.splitlines() if name.count("/") > 1}
    assert {folder for folder in folders if f"| `{folder}` |" not in text} == set()
    for folder in (path.name for path in (ROOT / "tests/core").iterdir() if path.is_dir() and path.name[0] != "_"):
        assert f"`{folder}`" in text, folder


def test_ci_runs_the_tests() -> None:
    assert "tests/run" in (ROOT / ".ci/run").read_text()


def test_types_are_ignored_only_with_a_reason() -> None:
    """Behind the mark, but for files whose docstrings say that what checkers refuse is tried there."""
    pattern = re.compile(r"# type: ignore(\[[a-z, -]*\])?$", re.MULTILINE)
    files = [path for folder in ("packages", "tests", "benchmarks", "examples", "docs", "fuzz")
             for path in (ROOT / folder).rglob("*.py")]  # fmt: skip
    wrong = [path for path in files if pattern.search(path.read_text())]
    told = {"test_wrong_arguments.py", "test_records.py"}
    assert [str(path.relative_to(ROOT)) for path in wrong if path.name not in told] == []


def test_no_property_has_a_deadline() -> None:
    """One that has fails on a busy machine."""
    assert hypothesis.settings.default is not None
    assert hypothesis.settings.default.deadline is None
    pattern = re.compile(r"settings\([^)]*\b(deadline|derandomize)=")
    files = [path for path in ROOT.glob("tests/**/*.py") if path.name != "conftest.py"]
    assert [path for path in files if pattern.search(path.read_text())] == []


def test_the_metadata_bounds_pyroute2_and_the_lock_is_within() -> None:
    """Its minor versions change what is imported here."""
    lock = (ROOT / "requirements.lock").read_text()
    (needed,) = (
        requirement for text in requires("sansnet-trio") or [] if (requirement := Requirement(text)).name == "pyroute2"
    )
    locked = re.search(r"(?m)^pyroute2==(\S+)", lock)
    assert locked
    assert needed.specifier.contains(locked[1])
    assert {specifier.operator for specifier in needed.specifier} == {">=", "<"}
