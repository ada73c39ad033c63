"""Clean checkouts of this repository, and commands that run there as a user's do, outside of the tests' environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["BASE_PYTHON", "PROGRAMS", "ROOT", "copied_checkout", "run_outside"]

ROOT: Final = Path(__file__).parent.parent.parent
PROGRAMS: Final = Path(sys.executable).parent
"""Where uv and pipx are."""
BASE_PYTHON: Final = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
"""The Python that this environment was made with, which has pip."""


def copied_checkout(into: Path) -> Path:
    """Make a directory with the files that a clone would have if everything here was committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # it is not deleted
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name, follow_symlinks=False)
    return into


def run_outside(
    directory: Path,
    *words: str | Path,
    path: Path | None = None,
    check: bool = True,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory.

    Args:
        directory: where.
        words: of the command line.
        path: a directory that comes first in PATH.
        check: whether the command must succeed.
        variables: of its environment, besides ours.

    Raises:
        AssertionError: it failed, and `check` was not turned off. The message has its output.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment |= {
        "PATH": os.pathsep.join([*([str(path)] if path else []), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PIPX_DEFAULT_PYTHON": str(BASE_PYTHON),
        "UV_PYTHON": str(BASE_PYTHON),
        "UV_PYTHON_DOWNLOADS": "never",
        **(variables or {}),
    }
    done = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
