"""The metadata of the four distributions: their version, dependencies and licence."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any, Final

import pytest

import sansnet_cli

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = sorted(ROOT.glob("packages/*/pyproject.toml"))
PROJECTS: Final = [ROOT / "pyproject.toml", *PACKAGES]
LICENCES: Final = ["LICENSE-APACHE", "LICENSE-MIT"]


def project(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return table


def built(directory: Path, kind: str, into: Path, *, by_pip: bool) -> Path:
    """The `wheel` or the `sdist` that hatchling makes of a directory."""
    environment = {key: value for key, value in os.environ.items() if key != "PIP_BUILD_TRACKER"}
    if by_pip:
        environment["PIP_BUILD_TRACKER"] = str(into)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)],
        cwd=directory,
        env=environment,
        check=True,
        capture_output=True,
    )
    (file,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def requirements(wheel: Path) -> list[str]:
    return metadata(wheel).get_all("Requires-Dist", [])


def test_all_are_of_one_version_and_depend_on_that() -> None:
    versions = {project(path)["version"] for path in PROJECTS}
    assert versions == {sansnet_cli.__version__}
    (version,) = versions
    pins = [pin for path in PACKAGES for pin in project(path)["dependencies"] if pin.startswith("sansnet-")]
    assert len(pins) == 3
    assert {pin.partition("==")[2] for pin in pins} == {version}


def test_all_agree_on_what_does_not_depend_on_the_package() -> None:
    for key in ("license", "license-files", "requires-python", "readme"):
        assert len({str(project(path)[key]) for path in PROJECTS}) == 1, key
    for licence in LICENCES:
        assert len({(path.parent / licence).read_bytes() for path in PROJECTS}) == 1


def test_the_command_is_of_the_two_that_people_install() -> None:
    scripts = {project(path)["name"]: project(path).get("scripts", {}) for path in PROJECTS}
    commands = {"sansnet": "sansnet_cli.main:main"}
    assert scripts == {"sansnet": commands, "sansnet-cli": commands, "sansnet-core": {}, "sansnet-trio": {}}


@pytest.mark.slow
@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_wheel_names_its_licence_and_has_its_text(path: Path, tmp_path: Path) -> None:
    said = metadata(built(path.parent, "wheel", tmp_path, by_pip=False))
    assert said["License-Expression"] == "MIT OR Apache-2.0"
    assert said.get_all("License-File") == LICENCES
    assert said["Description-Content-Type"] == "text/markdown"
    assert said["Summary"]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        names = archive.namelist()
    assert all(any(name.endswith(f"licenses/{licence}") for name in names) for licence in LICENCES)
    if path != PROJECTS[0]:
        assert any(name.endswith("/py.typed") for name in names)
    else:  # its code is that of the packages, which other distributions may depend on as well
        assert not any(name.endswith(".py") for name in names)


@pytest.mark.slow
def test_pip_finds_the_packages_beside_a_checkout(tmp_path: Path) -> None:
    wheel = built(ROOT, "wheel", tmp_path, by_pip=True)
    wanted = {f"{project(path)['name']} @ {path.parent.as_uri()}" for path in PACKAGES}
    assert {text.replace("@", " @ ").replace("  ", " ") for text in requirements(wheel)} == wanted


@pytest.mark.slow
@pytest.mark.parametrize("by_pip", [False, True])
def test_a_release_depends_on_a_name_and_a_version(tmp_path: Path, by_pip: bool) -> None:
    sdist = built(ROOT, "sdist", tmp_path, by_pip=False)  # pip makes none
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / "wheels").mkdir()
    wheel = built(unpacked, "wheel", tmp_path / "wheels", by_pip=by_pip)
    assert requirements(wheel) == [f"sansnet-cli=={sansnet_cli.__version__}"]


@pytest.mark.slow
def test_what_is_built_outside_of_pip_depends_on_a_name_and_a_version(tmp_path: Path) -> None:
    wheel = built(ROOT, "wheel", tmp_path, by_pip=False)
    assert requirements(wheel) == [f"sansnet-cli=={sansnet_cli.__version__}"]
