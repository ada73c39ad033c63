"""The ways to install a checkout that the README names, each in a clean one and with the real installers.

They need a package index, as `tests/run` does, and share the user's caches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

import sansnet_cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parent.parent
SAID: Final = f"sansnet {sansnet_cli.__version__}\n"
PROGRAMS: Final = Path(sys.executable).parent
"""Where uv and pipx are."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with all that a clone of this one would have, if everything here was committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    made = tmp_path / "a checkout"  # a path with a space is a URL with an escape
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # not deleted since
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made / name)
    return made


@contextmanager
def unchanged(checkout: Path) -> Iterator[None]:
    """Nothing that git would see is left behind by the block."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-C", str(checkout)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    yield
    assert subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout == ""


def run(checkout: Path, *words: str | Path, **more: str) -> str:
    """What a command says that runs in a checkout, outside of our own environment."""
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment |= {
        "PATH": os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"]),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        **more,
    }
    done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_uv_runs_it_and_keeps_it(checkout: Path) -> None:
    uv = PROGRAMS / "uv"
    with unchanged(checkout):
        assert run(checkout, uv, "run", "sansnet", "--version") == SAID
        run(checkout, uv, "sync")
        assert run(checkout, checkout / ".venv/bin/sansnet", "--version") == SAID
        # what runs is the checkout itself, so that a change of it is seen
        found = run(checkout, checkout / ".venv/bin/python", "-c", "import sansnet_core; print(sansnet_core.__file__)")
        assert found.startswith(str(checkout))


def test_uv_installs_the_tool(checkout: Path, tmp_path: Path) -> None:
    tools, commands = tmp_path / "tools", tmp_path / "commands"
    places = {"UV_TOOL_DIR": str(tools), "UV_TOOL_BIN_DIR": str(commands)}

    def install() -> None:
        run(checkout, PROGRAMS / "uv", "tool", "install", "--force", ".", **places)

    with unchanged(checkout):
        install()
        assert run(tmp_path, commands / "sansnet", "--version") == SAID
    # again after a change of the code, as by git pull
    changed = checkout / "packages/sansnet-cli/src/sansnet_cli/__init__.py"
    changed.write_text(changed.read_text().replace(sansnet_cli.__version__, "7.8.9"))
    install()
    assert run(tmp_path, commands / "sansnet", "--version") == "sansnet 7.8.9\n"


@pytest.mark.parametrize("backend", ["pip", "uv"])
def test_pipx_installs_it(checkout: Path, tmp_path: Path, backend: str) -> None:
    if backend == "pip" and find_spec("ensurepip") is None:
        pytest.skip("pipx makes its own pip, which this Python cannot without ensurepip")
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "commands")}
    with unchanged(checkout):
        run(checkout, PROGRAMS / "pipx", "install", ".", **places, PIPX_DEFAULT_BACKEND=backend)
        assert run(tmp_path, tmp_path / "commands/sansnet", "--version") == SAID


def test_pip_installs_it(checkout: Path, tmp_path: Path) -> None:
    python = tmp_path / "environment/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(python.parent.parent)], check=True)
    with unchanged(checkout):
        pip = [*outer_pip(), "--python", str(python)]
        run(checkout, *pip, "install", ".")
        assert run(tmp_path, python.parent / "sansnet", "--version") == SAID
        run(checkout, *pip, "check")
        # the packages are distributions of their own: who depends on one of them gets the same
        listed = run(checkout, *pip, "list", "--format", "freeze")
        assert {"sansnet", "sansnet-cli", "sansnet-core", "sansnet-trio"} <= {
            line.partition("=")[0].partition(" ")[0] for line in listed.splitlines()
        }


def outer_pip() -> list[str]:
    """The pip that installed this environment, which may have none of its own."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return [str(base), "-m", "pip", "--disable-pip-version-check"]
