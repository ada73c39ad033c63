"""Builds what a release publishes: `.venv/bin/python packages/distributions.py dist`, with the `.venv` of tests/run.

The directory gets

- the wheel and the sdist of each distribution, with the same bytes on every machine that has the `.venv`;
- `sansnet-VERSION-requirements.txt`: all that `pip install --require-hashes` needs to install the command;
- `sansnet-VERSION.cdx.json`: the bill of materials of that installation (CycloneDX 1.6).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import bill_of_materials

__all__ = ["BuildError", "PROJECTS", "build", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements-runtime.lock"
PROJECTS: Final = ("packages/sansnet-core", "packages/sansnet-trio", "packages/sansnet-cli", ".")

_CHANGING: Final = ("PIP_BUILD_TRACKER", "SOURCE_DATE_EPOCH")
"""Variables that change what hatchling builds."""


class BuildError(Exception):
    """The distributions cannot be built; the text says why, and has the output of a command that failed."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Build the distributions, their lock and their bill of materials.")
    parser.add_argument("directory", type=Path, help="an empty or missing directory, such as dist")
    directory = parser.parse_args().directory.absolute()
    if directory.exists() and any(directory.iterdir()):
        parser.error(f"{directory} is not empty; give another directory")
    try:
        for path in build(directory):
            print(path)
    except BuildError as error:
        sys.exit(f"distributions: {error}")


def build(directory: Path) -> list[Path]:
    """Build everything into a directory that has no other file; returns the wheels and sdists.

    Raises:
        BuildError: that failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _CHANGING}
    for project in PROJECTS:
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
        done = subprocess.run(command, cwd=ROOT / project, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    files = sorted(directory.iterdir())
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    version = _version(hashes)
    (directory / f"sansnet-{version}-requirements.txt").write_text(_requirements(version, hashes))
    try:
        bill = bill_of_materials.bill(version, hashes, bill_of_materials.read_lock(LOCK.read_text()))
    except ValueError as error:
        raise BuildError(str(error)) from error
    (directory / f"sansnet-{version}.cdx.json").write_text(bill)
    return files


def _version(names: Mapping[str, str]) -> str:
    (sdist,) = (name for name in names if name.startswith("sansnet-") and name.endswith(".tar.gz"))
    return sdist.removeprefix("sansnet-").removesuffix(".tar.gz")


def _requirements(version: str, hashes: Mapping[str, str]) -> str:
    """A requirements file of pip: our distributions and those that they need, each in one version and with its hashes.

    Only wheels, because to build an sdist executes it, with a builder that is in no lock.
    """
    text = (
        f"# sansnet {version} and all that it needs:\n"
        f"#   pip install --require-hashes -r sansnet-{version}-requirements.txt\n\n--only-binary :all:\n\n"
    )
    for name in ("sansnet", "sansnet-cli", "sansnet-core", "sansnet-trio"):
        begin = f"{name.replace('-', '_')}-{version}"
        found = [hashes[file] for file in sorted(hashes) if file.startswith((f"{begin}-", f"{begin}.tar"))]
        text += " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{each}" for each in found)]) + "\n"
    return text + LOCK.read_text()


if __name__ == "__main__":
    main()
