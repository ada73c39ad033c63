"""The mutants of some modules that no test notices; `tests/mutation/run` calls this."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

from tests.mutation.areas import CORE, ROOT, folders_of_tests, modules
from tests.mutation.mutants import Mutant, as_toml, is_explained, known, parse

CACHE: Final = ROOT / ".cache" / "mutation"
MUTMUT: Final = CACHE / "environment" / "bin" / "mutmut"
PYTHON: Final = MUTMUT.with_name("python")

CONFIGURATION: Final = """\
[tool.pytest.ini_options]
pythonpath = ["."]
addopts = ["-W", "error", "--strict-markers", "--import-mode=importlib"]
timeout = 1200  # on a busy machine; a mutant has a limit of processor time
markers = {markers}

[tool.mutmut]
source_paths = ["src/"]
only_mutate = {modules}
also_copy = ["docs"]
pytest_add_cli_args = ["-m", "not slow", "-p", "no:cacheprovider", {left_out}]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
"""

LEFT_OUT: Final = ("tests/core/proto/tcp/test_halves.py", "tests/core/recording/test_faults.py")
"""One reads the source, and the other one makes faults itself and goes on after them."""


def directory(chosen: list[str]) -> Path:
    """A directory for this choice of modules."""
    return CACHE / re.sub(r"\W+", "-", "-".join(chosen))[:100].strip("-")


def prepare(chosen: list[str]) -> Path:
    """The directory in which mutmut works: a copy of the core and the tests. It keeps the results of earlier runs."""
    work = directory(chosen)
    shutil.rmtree(work / "tests", ignore_errors=True)
    for source, copy in ((CORE, work / "src" / "sansnet_core"), (ROOT / "tests", work / "tests")):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy, ignore=ignored, copy_function=_copy_changed, dirs_exist_ok=True)
    (work / "docs").mkdir(exist_ok=True)
    for file in (*(ROOT / "docs").glob("*.py"), *(ROOT / "docs").glob("*.md")):
        shutil.copy2(file, work / "docs")
    mutated = [f"src/sansnet_core/{module}" for module in chosen]
    (work / "pyproject.toml").write_text(
        CONFIGURATION.format(
            modules=_array(mutated),
            tests=_array(folders_of_tests(chosen)),
            markers=_array(
                tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
            ),
            left_out=_array([f"--ignore={test}" for test in LEFT_OUT])[1:-1],
        )
    )
    return work


def _copy_changed(source: str, copy: str) -> str:
    """Copy a file if it differs: mutmut makes new mutants of files that are newer than their mutants."""
    if not (Path(copy).exists() and Path(copy).read_bytes() == Path(source).read_bytes()):
        shutil.copyfile(source, copy)
    return copy


def _array(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _mutmut(work: Path, *arguments: str) -> str:
    return subprocess.run([MUTMUT, *arguments], cwd=work, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """The exit status: 1 if a mutant survived that the list has not, or has in vain."""
    parser = argparse.ArgumentParser(prog="tests/mutation/run", description=__doc__)
    parser.add_argument("modules", metavar="MODULE", nargs="+", help="such as proto/tcp/sending.py, or wire")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are tried at a time (default: 1)")
    parser.add_argument("--show", action="store_true", help="run nothing; report the results of an earlier run")
    arguments = parser.parse_args()
    try:
        chosen = modules(arguments.modules)
    except ValueError as error:
        parser.error(str(error))
    if arguments.show:
        work = directory(chosen)
        if not work.exists():
            parser.error("there are no results of these modules; run it without --show first")
    else:
        work = prepare(chosen)
        try_all(work, arguments.jobs)
    return report(work, chosen)


def try_all(work: Path, jobs: int) -> None:
    """Try each mutant with the quick tests of what it changes, and those that survive unexplained with all."""
    trial = (PYTHON, "-P", ROOT / "tests/mutation/trial.py", "--jobs", str(jobs))
    subprocess.run(trial, cwd=work, check=True)
    if left := [name for name, one in survivors(work).items() if not is_explained(one)]:
        subprocess.run([*trial, "--all", *left], cwd=work, check=True)


def results(work: Path) -> list[tuple[str, str]]:
    """The name and the state of each mutant."""
    return re.findall(r"^ +(\S+): (.+)$", _mutmut(work, "results", "--all", "true"), re.MULTILINE)


def survivors(work: Path) -> dict[str, Mutant]:
    """The mutants that no test has noticed, by their names."""
    names = [name for name, state in results(work) if state in ("survived", "no tests")]
    command = [str(PYTHON), "-P", str(ROOT / "tests/mutation/diffs.py"), *names]
    diffs = json.loads(subprocess.run(command, cwd=work, capture_output=True, check=True).stdout)
    return {name: parse(name, diff) for name, diff in diffs.items()}


def report(work: Path, chosen: list[str]) -> int:
    """Print a line for each module, and an entry for each survivor that is not explained."""
    states = results(work)
    survived = set(survivors(work).values())
    same = {one for one in survived if is_explained(one)}
    left = sorted(survived - same, key=lambda one: (one.module, one.function, one.before, one.after))
    counts: dict[str, Counter[str]] = {module: Counter() for module in chosen}
    for name, state in states:
        counts[parse(name, "").module][state] += 1
    for module, count in counts.items():
        equivalent = len([one for one in same if one.module == module])
        print(f"{module}: {dict(count)}, {equivalent} of them explained")
    print(as_toml(left))
    stale = [one for one in known() if one.module in chosen and one not in survived]
    for one in stale:
        print(f"not needed any more: {one}")
    return 1 if left or stale else 0


sys.exit(main())
