"""Distributions built by hatchling, without an installer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["built", "hatchling"]


def hatchling(directory: Path, *words: str | Path, by_pip: bool = False) -> str:
    """The output of hatchling in a directory, outside of pip or as if pip had called it."""
    environment = {key: value for key, value in os.environ.items() if key != "PIP_BUILD_TRACKER"}
    if by_pip:
        environment["PIP_BUILD_TRACKER"] = str(directory)
    command = [sys.executable, "-m", "hatchling", *words]
    return subprocess.run(command, cwd=directory, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def built(directory: Path, kind: str, into: Path, *, by_pip: bool = False) -> Path:
    """The `wheel` or the `sdist` that hatchling makes of a directory, in a directory that has no other."""
    hatchling(directory, "build", "-t", kind, "-d", into, by_pip=by_pip)
    (file,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file
