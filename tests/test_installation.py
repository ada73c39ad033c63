"""The ways to install a checkout, each in a clean one and with the real installers.

They need a package index, as `tests/run` does, and share the user's caches.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

import sansnet_cli
from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, ROOT, copied_checkout, run_outside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAID: Final = f"sansnet {sansnet_cli.__version__} (pure Python)\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copied_checkout(tmp_path / "a checkout")  # a path with a space is a URL with an escape


@contextmanager
def unchanged(checkout: Path) -> Iterator[None]:
    """Check that the block leaves nothing that git would see."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-C", str(checkout)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    yield
    assert subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True, text=True).stdout == ""


def run(directory: Path, *words: str | Path, **more: str) -> str:
    """The output of a command."""
    return run_outside(directory, *words, variables=more).stdout


def check_isolated(command: Path, directory: Path, option: str = "-I", **more: str) -> None:
    """Check that the command of docs/privileges.md runs no file of the caller's environment, and works."""
    line = next(line for line in (ROOT / "docs/privileges.md").read_text().splitlines() if line.startswith("sed -E "))
    made, evil = directory / "passt", directory / "evil"
    evil.mkdir()
    for name in ("sitecustomize", "usercustomize", "encodings", "re", "sansnet_cli"):
        (evil / f"{name}.py").write_text("import os\nos.write(2, b'evil')\nos._exit(99)\n")
    line = line.replace(" -I/", f" {option}/").replace("~/.local/bin/pasta", shlex.quote(str(made)))
    run_outside(directory, "sh", "-c", line, path=command.parent)
    made.chmod(0o755)
    for variable, value in (("PYTHONPATH", ""), ("PYTHONPATH", str(evil)), ("PYTHONHOME", str(evil))):
        done = run_outside(evil, made, "--help", variables={**more, variable: value})
        assert done.stdout.startswith("usage: passt")
        assert "evil" not in done.stderr
    if " -E" not in command.read_text().splitlines()[0]:  # the script of pipx
        assert "evil" in run_outside(evil, command, "--help", variables={**more, "PYTHONPATH": "."}, check=False).stderr


def test_uv_runs_it_and_keeps_it(checkout: Path) -> None:
    uv = PROGRAMS / "uv"
    with unchanged(checkout):
        assert run(checkout, uv, "run", "sansnet", "--version") == SAID
        run(checkout, uv, "sync")
        assert run(checkout, checkout / ".venv/bin/sansnet", "--version") == SAID
        # the code that runs is that of the checkout, so a change there takes effect
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
    check_isolated(commands / "sansnet", tmp_path)
    # again after a change of the code, as by git pull
    changed = checkout / "packages/sansnet-core/src/sansnet_core/_version.py"
    changed.write_text(changed.read_text().replace(sansnet_cli.__version__, "7.8.9"))
    install()
    assert run(tmp_path, commands / "sansnet", "--version") == "sansnet 7.8.9 (pure Python)\n"


@pytest.mark.parametrize("backend", ["pip", "uv"])
def test_pipx_installs_it(checkout: Path, tmp_path: Path, backend: str) -> None:
    if backend == "pip" and find_spec("ensurepip") is None:
        pytest.skip("pipx makes its own pip, which this Python cannot without ensurepip")
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "commands")}
    with unchanged(checkout):
        run(checkout, PROGRAMS / "pipx", "install", ".", **places, PIPX_DEFAULT_BACKEND=backend)
        assert run(tmp_path, tmp_path / "commands/sansnet", "--version") == SAID
    check_isolated(tmp_path / "commands/sansnet", tmp_path)


def test_pip_installs_it(checkout: Path, tmp_path: Path) -> None:
    python = tmp_path / "environment/bin/python"
    run(tmp_path, PROGRAMS / "uv", "venv", "--seed", "--python", BASE_PYTHON, python.parent.parent)  # it has pip
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    with unchanged(checkout):
        run(checkout, *pip, "install", ".")
        assert run(tmp_path, python.parent / "sansnet", "--version") == SAID
        run(checkout, *pip, "check")
        # the packages are distributions of their own, which other programs may depend on
        listed = run(checkout, *pip, "list", "--format", "json")
        assert all(f'"{name}"' in listed for name in ("sansnet", "sansnet-cli", "sansnet-core", "sansnet-trio"))
    check_isolated(python.parent / "sansnet", tmp_path)


def test_pip_installs_it_for_one_user(checkout: Path, tmp_path: Path) -> None:
    """In the user's own directory, which isolated mode hides."""
    home = {"PYTHONUSERBASE": "", "HOME": str(tmp_path / "home"), "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    run(checkout, BASE_PYTHON, "-m", "pip", "install", "-q", "--user", ".", **home)
    command = tmp_path / "home/.local/bin/sansnet"
    assert run(tmp_path, command, "--version", **home) == SAID
    check_isolated(command, tmp_path, "-EP", **home)
