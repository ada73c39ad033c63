"""The example of a fuzzed network stack, installed from a built wheel as a user's project is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, ROOT, run_outside
from tests.lab.wheels import built

EXAMPLE: Final = ROOT / "examples/tiny_stack"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stack_is_fuzzed_with_the_published_kit(tmp_path: Path) -> None:
    """Its tests pass with what the extra `hypothesis` installs, and the types are known to mypy."""
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (tmp_path / "core").mkdir()
    wheel = built(ROOT / "packages/sansnet-core", "wheel", tmp_path / "core")
    python = tmp_path / "environment/bin/python"
    uv = PROGRAMS / "uv"
    run_outside(tmp_path, uv, "venv", "--python", BASE_PYTHON, python.parent.parent)
    run_outside(
        project, uv, "pip", "install", "--python", python, f"sansnet-core[hypothesis] @ {wheel.as_uri()}", ".[test]"
    )

    assert "4 passed" in run_outside(project, python, "-m", "pytest", "-q").stdout
    assert "Success: no issues found" in run_outside(project, python, "-m", "mypy", "--strict", "src", "tests").stdout
