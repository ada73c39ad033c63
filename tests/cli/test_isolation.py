"""Modules in directories of the caller's environment are not imported; the guest's command inherits the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(sys.prefix) / "bin" / "sansnet")
MODULE = [sys.executable, "-m", "sansnet_cli"]
SHADOWED = ("trio", "argparse", "json", "logging", "struct", "sansnet_core", "sansnet_trio", "pyroute2", "contextlib")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A directory with modules that must not be imported."""
    directory = tmp_path / "evil"
    directory.mkdir()
    for name in SHADOWED:
        (directory / f"{name}.py").write_text(f"import os\nos.write(2, b'evil {name}\\n')\nos._exit(99)\n")
    return directory


@pytest.mark.parametrize("command", [[SCRIPT], MODULE], ids=["script", "module"])
@pytest.mark.parametrize("words", [["run", "--help"], ["ctl", "/nonexistent", "list"], ["serve", "--fd", "77"]])
@pytest.mark.parametrize("way", ["PYTHONPATH", "relative", "user", "directory"])
def test_nothing_is_imported_from_where_the_caller_says(
    evil: Path, tmp_path: Path, command: list[str], words: list[str], way: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    directory = tmp_path
    if command is MODULE:  # `python -m` itself imports these, before anything of ours runs
        for name in ("struct", "contextlib"):
            (evil / f"{name}.py").unlink()
    match way:
        case "PYTHONPATH":
            environment["PYTHONPATH"] = f"/nonexistent:{evil}"
        case "relative":
            environment["PYTHONPATH"] = "evil"
        case "user":
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            place = tmp_path / "lib" / version / "site-packages"
            place.parent.mkdir(parents=True)
            evil.rename(place)
            environment["PYTHONUSERBASE"] = str(tmp_path)
        case _:
            directory = evil
    done = subprocess.run(
        [*command, *words], env=environment, cwd=directory, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode in (0, 1)
    assert "evil" not in done.stderr


@pytest.mark.parametrize("entry", ["installation", "library", "site-packages"])
def test_the_installation_is_not_lost_by_being_named(entry: str) -> None:
    """As after `pip install --target`."""
    import site

    import sansnet_cli

    paths = {
        "installation": str(Path(sansnet_cli.__file__).parents[1]),
        "library": str(Path(os.__file__).parent),
        "site-packages": site.getsitepackages()[0],
    }
    environment = {**os.environ, "PYTHONPATH": paths[entry]}
    done = subprocess.run([SCRIPT, "run", "--help"], env=environment, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0


def test_a_directory_that_has_been_deleted_is_no_matter(tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    line = ["sh", "-c", script, "sh", SCRIPT, "run", "--help"]
    assert subprocess.run(line, cwd=tmp_path, capture_output=True, timeout=20, check=False).returncode == 0


def test_compiled_code_of_the_callers_is_not_used() -> None:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": "/tmp/elsewhere"}
    script = "import sys; from sansnet_cli.process.isolation import isolate; isolate(); print(sys.pycache_prefix)"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
