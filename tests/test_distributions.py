"""The metadata of the four distributions: versions, dependencies, URLs and licence."""

from __future__ import annotations

import json
import re
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any, Final

import pytest

import sansnet_cli
import sansnet_core
import sansnet_trio
from sansnet_core import __version__
from tests.lab.checkouts import copied_checkout
from tests.lab.wheels import built, hatchling

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = sorted(ROOT.glob("packages/*/pyproject.toml"))
PROJECTS: Final = [ROOT / "pyproject.toml", *PACKAGES]
LICENCES: Final = ["LICENSE-APACHE", "LICENSE-MIT"]
REQUIRED: Final = {
    "sansnet": ["cli"],
    "sansnet-cli": ["core", "trio"],
    "sansnet-trio": ["core"],
    "sansnet-core": [],
}
"""Distribution -> the packages of ours that it requires."""


def project(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return table


def wheel_of_sdist(directory: Path, into: Path, *, by_pip: bool = False) -> Path:
    """The wheel that is made of an sdist, without the checkout around it."""
    with tarfile.open(built(directory, "sdist", into)) as archive:  # pip makes no sdist
        archive.extractall(into, filter="data")
    (unpacked,) = (path for path in into.iterdir() if path.is_dir())
    return built(unpacked, "wheel", into, by_pip=by_pip)


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def requirements(wheel: Path) -> list[str]:
    return metadata(wheel).get_all("Requires-Dist", [])


def test_one_file_holds_the_version() -> None:
    files = {path.resolve() for path in ROOT.glob("packages/*/src/*/_version.py")}
    assert len(files) == 1, "the others are symbolic links to it"
    assert f'"{__version__}"' in files.pop().read_text()
    assert sansnet_core.__version__ == sansnet_trio.__version__ == sansnet_cli.__version__
    for path in PROJECTS:
        assert not re.search(rf'["=]{re.escape(__version__)}"', path.read_text()), path
        assert "version" in project(path)["dynamic"]


def test_all_agree_on_what_does_not_depend_on_the_package() -> None:
    for key in ("license", "license-files", "requires-python", "readme"):
        assert len({str(project(path)[key]) for path in PROJECTS}) == 1, key
    for licence in LICENCES:
        assert len({(path.parent / licence).read_bytes() for path in PROJECTS}) == 1


def test_two_distributions_install_the_command() -> None:
    scripts = {project(path)["name"]: project(path).get("scripts", {}) for path in PROJECTS}
    commands = {"sansnet": "sansnet_cli.main:main"}
    assert scripts == {"sansnet": commands, "sansnet-cli": commands, "sansnet-core": {}, "sansnet-trio": {}}


@pytest.mark.slow
def test_one_place_holds_the_urls(tmp_path: Path) -> None:
    checkout = copied_checkout(tmp_path / "checkout")
    hook = checkout / "packages/metadata.py"
    text, count = re.subn(r"^(URLS: .*?) = \{.*?\}$", r'\1 = {"Source": "x:y"}', hook.read_text(), flags=re.M | re.S)
    assert count == 1
    hook.write_text(text)
    for path in PROJECTS:
        said = hatchling(checkout / path.parent.relative_to(ROOT), "metadata", "urls")
        assert json.loads(said) == {"Source": "x:y"}, path


@pytest.mark.slow
@pytest.mark.parametrize("from_sdist", [False, True], ids=["checkout", "sdist"])
@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_a_wheel(path: Path, tmp_path: Path, from_sdist: bool) -> None:
    """It is the same whether it is made in the checkout or of an sdist."""
    wheel = wheel_of_sdist(path.parent, tmp_path) if from_sdist else built(path.parent, "wheel", tmp_path)
    said = metadata(wheel)
    assert said["Version"] == __version__
    assert said["License-Expression"] == "MIT OR Apache-2.0"
    assert said.get_all("License-File") == LICENCES
    assert said["Description-Content-Type"] == "text/markdown"
    assert said["Summary"]
    ours = {text for text in requirements(wheel) if text.startswith("sansnet")}
    assert ours == {f"sansnet-{name}=={__version__}" for name in REQUIRED[said["Name"]]}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert all(any(name.endswith(f"licenses/{licence}") for name in names) for licence in LICENCES)
        if path != PROJECTS[0]:
            assert any(name.endswith("/py.typed") for name in names)
            (version,) = (name for name in names if name.endswith("/_version.py"))
            assert f'"{__version__}"' in archive.read(version).decode()
        else:  # its code is that of the packages, which other distributions may depend on as well
            assert not any(name.endswith(".py") for name in names)


@pytest.mark.slow
def test_pip_finds_the_packages_beside_a_checkout(tmp_path: Path) -> None:
    wheel = built(ROOT, "wheel", tmp_path, by_pip=True)
    wanted = {f"{project(path)['name']} @ {path.parent.as_uri()}" for path in PACKAGES}
    assert {text.replace("@", " @ ").replace("  ", " ") for text in requirements(wheel)} == wanted


@pytest.mark.slow
def test_pip_finds_the_packages_of_an_sdist_by_name(tmp_path: Path) -> None:
    assert requirements(wheel_of_sdist(ROOT, tmp_path, by_pip=True)) == [f"sansnet-cli=={__version__}"]
