"""The compiled variant: which modules, what they must not do, and the wheels. tests/compiled runs all tests with it."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

import pytest

from sansnet_core import COMPILED, __version__
from tests.lab.checkouts import BASE_PYTHON, PROGRAMS, copied_checkout, run_outside

ROOT: Final = Path(__file__).parent.parent
PROJECTS: Final = [ROOT / "packages/sansnet-core", ROOT / "packages/sansnet-trio"]


def _hook() -> Any:
    """The module packages/compiled.py, which is in no package."""
    spec = spec_from_file_location("compiled", ROOT / "packages/compiled.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compiled: Final = _hook()
STATELESS: Final = ("sansnet_core/link/", "sansnet_core/recording/", "sansnet_core/vhost/", "sansnet_core/wire/")
"""Folders of the core with no part of a network's state."""
PYTHON_BASES: Final = ("NamedTuple", "Protocol", "Enum", "IntEnum", "Flag", "IntFlag", "StrEnum", "TypedDict")
"""Bases of classes that mypyc leaves to Python."""


def settings(project: Path) -> dict[str, Any]:
    targets: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    table: dict[str, Any] = targets["targets"]["wheel"]["hooks"]["custom"]
    return table


def files(project: Path) -> list[str]:
    found: list[str] = compiled.modules(project / "src", settings(project))
    return found


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_each_pattern_names_modules(project: Path) -> None:
    (package,) = (path.parent for path in project.glob("src/*/__init__.py"))
    for key in ("compiled", "interpreted"):
        for pattern in settings(project)[key]:
            assert list(package.glob(pattern)), pattern


@pytest.mark.parametrize("file", files(PROJECTS[0]))
def test_classes_of_a_networks_state_can_be_copied(file: str) -> None:
    """`pickle` makes an object by `__new__` without arguments, and a compiled class needs the decorator for that."""
    if file.startswith(STATELESS):
        return
    for node in ast.parse((PROJECTS[0] / "src" / file).read_text()).body:
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
            decorators = [ast.unparse(each) for each in node.decorator_list]
            assert bases & set(PYTHON_BASES) or "mypyc_attr(allow_interpreted_subclasses=True)" in decorators, (
                f"{file}: put @mypyc_attr(allow_interpreted_subclasses=True) before class {node.name}"
            )


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_constants_are_no_slices(project: Path) -> None:
    """In mypyc 2.4, compiled code takes `data[SLICE]` for an index if `data` is bytes and SLICE a constant."""
    for file in files(project):
        for node in ast.walk(ast.parse((project / "src" / file).read_text())):
            made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "slice"
            assert not made, f"{file}:{getattr(node, 'lineno', 0)}: write data[START:END]"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_mypyc_accepts_the_modules(project: Path) -> None:
    compiled.check(project, settings(project))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_module_that_cannot_be_compiled_is_named_with_the_remedy(tmp_path: Path) -> None:
    package = tmp_path / "src/wrong"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "one.py").write_text("class Text(bytes):\n    pass\n")
    with pytest.raises(RuntimeError) as caught:
        compiled.check(tmp_path, {"compiled": ["*.py"], "interpreted": []})
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("mypyc cannot compile these lines; CONTRIBUTING.md says what compiled code may not do")
    assert [line.partition(": error")[0] for line in lines] == ["wrong/one.py:1"]


@pytest.mark.parametrize(
    "line",
    [
        "error: [Errno 2] No such file or directory: 'gcc'",
        "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
        "/tmp/c/__native.h:4:10: fatal error: Python.h: No such file or directory",
    ],
)
def test_a_missing_compiler_is_named_with_the_remedy(line: str) -> None:
    """The first line is of setuptools, the second of its earlier versions, the third of gcc."""
    message = compiled._failure(f"running build_ext\nx.c:1: warning: unused\n{line}\n")
    needed = "a C compiler and the header files of Python; Debian's packages gcc and python3-dev have them"
    assert message == f"SANSNET_COMPILED=1 needs {needed}:\n{line}"


@pytest.mark.parametrize("value", ["yes", "2"])
def test_another_value_of_the_variable_is_one_sentence(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANSNET_COMPILED", value)
    with pytest.raises(
        ValueError, match=f"SANSNET_COMPILED={value}: give 1 for compiled modules, or 0 for pure Python"
    ):
        compiled.wanted()


def test_this_environment_has_one_variant() -> None:
    """The core says which variant it is, and each module of the list is of that variant."""
    for name in (file.removesuffix(".py").replace("/", ".") for file in files(PROJECTS[0]) + files(PROJECTS[1])):
        found = importlib.import_module(name).__file__
        assert found is not None
        assert found.endswith(tuple(EXTENSION_SUFFIXES)) == COMPILED, name


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout in which few modules are compiled, since all of them take minutes."""
    checkout = copied_checkout(tmp_path / "checkout")
    for project, chosen in (("sansnet-core", '"egress.py", "outbox.py"'), ("sansnet-trio", '"host/sockaddr.py"')):
        path = checkout / "packages" / project / "pyproject.toml"
        begin, _, rest = path.read_text().partition("\ncompiled = [")
        end = rest.partition("\ninterpreted = [")[2].partition("]\n")[2]
        path.write_text(f"{begin}\ncompiled = [{chosen}]\ninterpreted = []\n{end}")
    return checkout


def wheel_of(project: Path, into: Path, **variables: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    environment = {**os.environ, "SANSNET_COMPILED": "1", **variables}
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    (found,) = into.glob(f"{project.name.replace('-', '_')}-*.whl")
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheels_with_compiled_modules(small: Path, tmp_path: Path) -> None:
    """They have the tag of this platform and the sources, are the same again, and work in a fresh environment."""
    packages, wheels = small / "packages", tmp_path / "wheels"
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for name in ("sansnet-core", "sansnet-trio"):
        wheel = wheel_of(packages / name, wheels)
        assert wheel.name.startswith(f"{name.replace('-', '_')}-{__version__}-{tag}-{tag}-linux_")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (text,) = (archive.read(each).decode() for each in names if each.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in text
        assert any(each.endswith(".so") for each in names)
        sources = packages / name / "src"
        assert {str(path.relative_to(sources)) for path in sources.rglob("*.py")} < set(names)
    again = wheel_of(packages / "sansnet-core", tmp_path / "again", TMPDIR=str(small), LC_ALL="C", PYTHONHASHSEED="7")
    assert again.read_bytes() == (wheels / again.name).read_bytes()
    wheel_of(packages / "sansnet-cli", wheels)
    environment = tmp_path / "environment"
    run_outside(tmp_path, PROGRAMS / "uv", "venv", "--python", BASE_PYTHON, environment)
    install: list[str | Path] = [PROGRAMS / "uv", "pip", "install", "--python", environment / "bin/python"]
    run_outside(tmp_path, *install, "-r", ROOT / "requirements-runtime.lock")
    run_outside(tmp_path, *install, "--no-deps", *wheels.glob("*.whl"))
    said = run_outside(tmp_path, environment / "bin/sansnet", "--version").stdout
    assert said == f"sansnet {__version__} (compiled)\n"
    said = run_outside(tmp_path, environment / "bin/sansnet", "pasta", "--version").stdout
    assert said.startswith(f"pasta {__version__} (sansnet, compiled)\n")
    program = "import sansnet_core.egress, sansnet_trio.host.sockaddr; print(sansnet_core.egress.__file__)"
    assert run_outside(tmp_path, environment / "bin/python", "-c", program).stdout.endswith(".so\n")


@pytest.mark.slow
def test_a_wheel_is_pure_by_default(tmp_path: Path) -> None:
    for project in PROJECTS:
        wheel = wheel_of(project, tmp_path, SANSNET_COMPILED="")
        assert wheel.name.endswith("-py3-none-any.whl")
        with zipfile.ZipFile(wheel) as archive:
            assert not any(name.endswith(".so") for name in archive.namelist())
