"""The files of a release: the same bytes from every build, a lock that installs the command, a bill of materials."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from sansnet_core import __version__
from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, copied_checkout, run_outside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parent.parent
OURS: Final = ("sansnet", "sansnet-cli", "sansnet-core", "sansnet-trio")
OTHER_PLACE: Final = {
    "LC_ALL": "tr_TR.UTF-8",
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "1",
    "SOURCE_DATE_EPOCH": "1",
    "PIP_BUILD_TRACKER": "/nonexistent",
    "HOME": "/nonexistent",
    "USER": "other",
}


def published(checkout: Path, into: Path, variables: Mapping[str, str], umask: int) -> dict[str, bytes]:
    """The files that packages/distributions.py makes: name -> contents."""
    command = [sys.executable, "packages/distributions.py", str(into)]
    environment = {**os.environ, **variables}
    subprocess.run(command, cwd=checkout, env=environment, check=True, umask=umask, stdout=subprocess.DEVNULL)
    return {path.name: path.read_bytes() for path in into.iterdir()}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release of this checkout."""
    directory = tmp_path_factory.mktemp("release")
    published(copied_checkout(directory / "checkout"), directory / "dist", {}, 0o022)
    return directory / "dist"


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """A lock: name -> requirement without hashes, hashes."""
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        if match := re.match(r"([a-z0-9-]+)==", entry):
            found[match[1]] = entry.partition(" --hash")[0].strip(), re.findall(r"--hash=sha256:(\w+)", entry)
    return found


def test_two_builds_have_the_same_bytes(release: Path, tmp_path: Path) -> None:
    """In another directory, with another umask, time zone, locale and home, and files of other times and modes."""
    checkout = copied_checkout(tmp_path / "another checkout" / "deeper")
    for number, path in enumerate(sorted(checkout.rglob("*"), reverse=True)):
        if not path.is_symlink():
            os.utime(path, (number, 1_700_000_000 + number))
            if path.is_file():
                path.chmod(0o600 | path.stat().st_mode & 0o100)
    again = published(checkout, tmp_path / "dist", OTHER_PLACE, 0o077)
    assert again.keys() == {path.name for path in release.iterdir()}
    assert len(again) == 2 * len(OURS) + 2
    for name, data in again.items():
        assert data == (release / name).read_bytes(), name


def test_a_wheel_is_the_same_from_its_sdist(release: Path, tmp_path: Path) -> None:
    for name in OURS:
        stem = f"{name.replace('-', '_')}-{__version__}"
        with tarfile.open(release / f"{stem}.tar.gz") as archive:
            assert {(member.uid, member.gid, member.uname, member.gname) for member in archive} == {(0, 0, "", "")}
            archive.extractall(tmp_path, filter="data")
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(command, cwd=tmp_path / stem, check=True, stdout=subprocess.DEVNULL)
        wheel = f"{stem}-py3-none-any.whl"
        assert (tmp_path / wheel).read_bytes() == (release / wheel).read_bytes(), wheel


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_lock_installs_the_command(release: Path, tmp_path: Path, installer: str) -> None:
    """With all hashes, and nothing that is in no lock; a wheel with other bytes is refused."""
    environment, uv = tmp_path / "environment", PROGRAMS / "uv"
    run_outside(tmp_path, uv, "venv", "--seed", "--python", BASE_PYTHON, environment)
    python = environment / "bin/python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    install = [*pip, "install"]
    if installer == "uv":
        install = [uv, "pip", "install", "--no-cache", "--python", python]

    def installed() -> set[str]:
        return {each["name"] for each in json.loads(run_outside(tmp_path, *pip, "list", "--format", "json").stdout)}

    seed = installed()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for file in release.glob("*.whl"):
        (wheels / file.name).write_bytes(file.read_bytes())
    requirements = release / f"sansnet-{__version__}-requirements.txt"
    words = [*install, "--require-hashes", "--find-links", wheels, "-r", requirements]
    changed = wheels / f"sansnet_core-{__version__}-py3-none-any.whl"
    changed.write_bytes(changed.read_bytes() + b"\0")
    done = run_outside(tmp_path, *words, check=False)
    assert done.returncode != 0
    assert re.search(r"(?i)hash", done.stderr)
    changed.write_bytes(changed.read_bytes()[:-1])
    run_outside(tmp_path, *words)
    assert (
        run_outside(tmp_path, environment / "bin/sansnet", "--version").stdout
        == f"sansnet {__version__} (pure Python)\n"
    )
    run_outside(tmp_path, environment / "bin/sansnet", "run", "--help")
    run_outside(tmp_path, *pip, "check")
    assert installed() - seed == set(locked(requirements.read_text()))


def test_the_lock_has_the_versions_that_the_tests_run_with() -> None:
    tested = locked((ROOT / "requirements.lock").read_text())
    runtime = locked((ROOT / "requirements-runtime.lock").read_text())
    assert {"trio", "pyroute2", "shtab"} < runtime.keys()
    for name, entry in runtime.items():
        assert entry == tested[name]
        assert entry[1]


def test_the_locks_begin_with_what_the_packages_need() -> None:
    needed = set()
    for path in ROOT.glob("packages/*/pyproject.toml"):
        hooks = tomllib.loads(path.read_text())["tool"]["hatch"]["metadata"]["hooks"]
        needed |= {text for text in hooks["custom"]["dependencies"] if not text.startswith("sansnet")}
    text = (ROOT / "requirements-runtime.in").read_text()
    assert {line for line in text.splitlines() if line and not line.startswith("#")} == needed
    every = {line.partition(" ")[0] for line in (ROOT / "requirements.in").read_text().splitlines()}
    assert {Requirement(text).name for text in needed} < every


def test_the_bill_of_materials(release: Path) -> None:
    text = (release / f"sansnet-{__version__}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    command, components = document["metadata"]["component"], document["components"]
    everything: list[dict[str, Any]] = [command, *components]
    assert "timestamp" not in document["metadata"]
    assert (command["name"], command["type"], command["version"]) == ("sansnet", "application", __version__)
    lock = locked((release / f"sansnet-{__version__}-requirements.txt").read_text())
    assert {each["name"] for each in everything} == lock.keys()
    for each in everything:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
        assert each["licenses"], each["name"]
        requirement, hashes = lock[each["name"]]
        assert requirement == f"{each['name']}=={each['version']}"
        (files,) = each["externalReferences"]
        assert {part["content"] for part in files["hashes"]} == set(hashes)
    needs = {each["ref"].partition("==")[0]: each.get("dependsOn", []) for each in document["dependencies"]}
    assert {name.partition("==")[0] for name in needs["sansnet-cli"]} == {"sansnet-core", "sansnet-trio", "shtab"}
    reached, waiting = set(), ["sansnet"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += [other.partition("==")[0] for other in needs[name]]
    assert reached == lock.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [("trio==0", "trio .* is not in the lock"), ("nosuch==1 \\\n    --hash=sha256:00\ntrio==", "nothing needs nosuch")],
)
def test_a_lock_that_does_not_fit_ends_the_build(tmp_path: Path, change: str, words: str) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    lock = checkout / "requirements-runtime.lock"
    text = lock.read_text()
    lock.write_text(text.replace("trio==", change) if "nosuch" in change else re.sub("trio==[0-9.]+", change, text))
    command = [sys.executable, "packages/distributions.py", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(words, done.stderr)
    assert done.stderr.startswith("distributions: ")
