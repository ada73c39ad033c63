"""Compiles hot modules of a package with mypyc when its wheel is built with SANSNET_COMPILED=1: a hook of hatchling.

Without that variable the wheel is pure, and nothing here runs. With it, the wheel has the same files and, beside some
of them, the shared objects that Python loads in their place; its tag is that of this Python and platform.
docs/design/packaging.md has the reasons. Each package that has such modules has a symbolic link to this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["Compiled", "check", "modules", "wanted"]

_VARIABLE: Final = "SANSNET_COMPILED"
_TOOLS: Final = ("mypy>=2.4,<2.5", "setuptools>=80")
"""mypyc is a part of mypy. Its versions make different code, so only one series is used: the one that the tests run."""

_BUILD: Final = """
import sys
from mypyc.build import mypycify
from setuptools import setup

group, level, *words = sys.argv[1:]
extensions = mypycify(words, opt_level=level, debug_level="0", group_name=group, target_dir="c")
if level == "0":
    sys.exit()
setup(
    name=group,
    packages=[],
    ext_modules=extensions,
    script_args=["--quiet", "build_ext", "--build-lib", "lib", "--build-temp", "o", "--parallel", "2"],
)
"""
"""The program that compiles, or with the level 0 makes the C code alone. It is a process of its own, because mypycify
ends its process when a type is wrong."""

_MYPY: Final = (
    "--config-file=",
    "--strict",
    "--no-warn-unused-ignores",
    "--ignore-missing-imports",
    "--follow-imports=silent",
    "--explicit-package-bases",
    "--namespace-packages",
    "--no-incremental",
)


def wanted() -> bool:
    """Whether the caller asks for compiled modules.

    Raises:
        ValueError: the variable has another value than 0, 1 and the empty one.
    """
    value = os.environ.get(_VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{_VARIABLE}={value}: give 1 for compiled modules, or 0 for pure Python")
    return value == "1"


def modules(source: Path, config: dict[str, Any]) -> list[str]:
    """The files that are compiled, relative to `source`.

    Args:
        source: the directory with the package.
        config: the table of this hook in pyproject.toml. `compiled` has patterns of files of the package, and
            `interpreted` patterns of those among them that are left out.
    """
    (package,) = (path.parent for path in source.glob("*/__init__.py"))
    left_out = {file for pattern in config["interpreted"] for file in package.glob(pattern)}
    found = {file for pattern in config["compiled"] for file in package.glob(pattern)} - left_out
    return sorted(str(file.relative_to(source)) for file in found if file.name != "__init__.py")


class Compiled(BuildHookInterface[Any]):
    """Adds the shared objects to a wheel. An editable installation has the sources alone, so it is never compiled."""

    _directory: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What an isolated build installs first: mypyc, and the packages whose types it reads."""
        return [*_TOOLS, *self._typed()] if wanted() else []

    def _typed(self) -> list[str]:
        """The dependencies of the project, but for those that are beside it in a checkout."""
        beside = {path.parent.name for path in Path(self.root).parent.glob("*/pyproject.toml")}
        needed: list[str] = self.metadata.core.dependencies
        return [text for text in needed if text.partition("=")[0].strip() not in beside]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add the results to `build_data`."""
        if version != "standard" or not wanted():
            return
        source = Path(self.root, "src")
        (package,) = (path.parent.name for path in source.glob("*/__init__.py"))
        self._directory = tempfile.TemporaryDirectory()
        built = _compile(source, package, modules(source, self.config), Path(self._directory.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in sorted(built.rglob("*.so")):
            build_data["force_include"][str(file)] = str(file.relative_to(built))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files."""
        if self._directory is not None:
            self._directory.cleanup()


def check(project: Path, config: dict[str, Any]) -> None:
    """Make the C code of a project's modules, and no more.

    Args:
        project: the directory with pyproject.toml.
        config: as for `modules`.

    Raises:
        RuntimeError: mypyc cannot compile them; the text has the lines.
    """
    source = project / "src"
    (package,) = (path.parent.name for path in source.glob("*/__init__.py"))
    with tempfile.TemporaryDirectory() as work:
        _compile(source, package, modules(source, config), Path(work), level="0")


def _compile(source: Path, group: str, files: list[str], work: Path, level: str = "2") -> Path:
    """Compile modules; the directory with the shared objects.

    Raises:
        RuntimeError: they cannot be compiled.
    """
    # All paths are relative, and the directories always have the same names: so the results have the same bytes
    for path in source.iterdir():
        (work / path.name).symlink_to(path.resolve())
    beside = [str(path) for path in Path(source.parent.resolve().parent).glob("*/src") if path != source.resolve()]
    environment = {
        **os.environ,
        "MYPYPATH": os.pathsep.join(beside),
        "CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0 -ffile-prefix-map={work}=.".strip(),
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "1580601600"),
        "PYTHONHASHSEED": "0",
    }
    version = ".".join(sysconfig.get_python_version().split(".")[:2])
    words = [group, level, *_MYPY, f"--python-version={version}", *files]
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, *words], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(_failure(done.stdout + done.stderr))
    return work / "lib"


def _failure(output: str) -> str:
    """One sentence about a compilation that failed, and the lines that say why."""
    lines = [line for line in output.splitlines() if ": warning: " not in line]
    if any("No module named 'mypyc'" in line or "No module named 'setuptools'" in line for line in lines):
        return f"{_VARIABLE}=1 needs {' and '.join(_TOOLS)}; install them, or let pip isolate the build"
    missing = [line for line in lines if "error: " in line and "No such file or directory" in line]
    if missing:
        needed = "a C compiler and the header files of Python; Debian's packages gcc and python3-dev have them"
        return f"{_VARIABLE}=1 needs {needed}:\n" + "\n".join(missing)
    errors = [line for line in lines if ": error: " in line] or lines[-20:]
    return (
        "mypyc cannot compile these lines; CONTRIBUTING.md says what compiled code may not do, and `interpreted` in "
        "pyproject.toml leaves modules out:\n" + "\n".join(errors)
    )
