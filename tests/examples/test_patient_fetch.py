"""The example application, installed from built wheels as a user's project is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from sansnet_trio.testing import guest_obstacle
from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, ROOT, run_outside
from tests.lab.wheels import built

EXAMPLE: Final = ROOT / "examples/patient_fetch"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_application_uses_the_published_kit(tmp_path: Path) -> None:
    """Its own tests pass, in virtual time and in a real guest, and the types of the kit are known to mypy."""
    project = tmp_path / "project"
    left_out = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(EXAMPLE, project, ignore=left_out)
    wheels = []
    for name in ("sansnet-core", "sansnet-trio", "sansnet-cli"):
        (tmp_path / name).mkdir()
        wheels.append(built(ROOT / "packages" / name, "wheel", tmp_path / name))
    python = tmp_path / "environment/bin/python"
    uv = PROGRAMS / "uv"
    run_outside(tmp_path, uv, "venv", "--python", BASE_PYTHON, python.parent.parent)
    run_outside(project, uv, "pip", "install", "--python", python, *wheels, ".[test]")

    output = run_outside(project, python, "-m", "pytest", "-q").stdout
    assert ("8 passed" if guest_obstacle() is None else "7 passed, 1 skipped") in output, output
    assert "Success: no issues found" in run_outside(project, python, "-m", "mypy", "--strict", "src", "tests").stdout
