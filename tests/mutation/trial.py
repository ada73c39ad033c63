"""Makes mutants and tries them; mutmut's environment runs this file, in the directory that `__main__.prepare` made.

mutmut makes the mutants, and records which tests call which functions. Then pytest collects all tests once, and each
mutant is tried in a fork of that process: that takes milliseconds if a quick test fails.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import resource
import signal
from collections import Counter, defaultdict
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, Final

import pytest

QUICK: Final = 3.0
"""Seconds for the tests of one mutant together."""
UNITS: Final = ("tests/core/proto/tcp/", "tests/core/wire/", "tests/core/test_summary.py")
"""Tests of single modules. They are tried first."""
PATIENCE: Final = 5.0
"""Seconds of processor time beyond those of the tests, after which a mutant is taken to run for ever."""
MEMORY: Final = 3 << 30
"""Bytes of address space that a mutant may use."""

KILLED, SURVIVED, NO_TESTS, TIMEOUT = 1, 0, 33, 36
"""mutmut's numbers for these results."""

mutmut: Any = import_module("mutmut.__main__")  # .venv has no mutmut, so a checker of types cannot know it
state: Any = import_module("mutmut.state").state
select: Any = import_module("mutmut.mutation.trampoline").set_mutant_under_test


def make() -> None:
    """Make the mutants of all functions that have changed, and run all tests that are new once, without a mutant."""
    select("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.store_lines_covered_by_tests()
    mutmut.create_mutants(1)
    mutmut.collect_or_load_stats(mutmut.get_mutant_runner(1), apply_config_invalidation=True)


class Trials:
    """Tries mutants in place of the tests that pytest has collected.

    Args:
        names: of the mutants; all that no test has killed if there are none.
        seconds: for the tests of one mutant.
        jobs: mutants that are tried at a time.
    """

    def __init__(self, names: list[str], seconds: float, jobs: int) -> None:
        self.seconds = seconds
        self.jobs = jobs
        self.top = Path.cwd()
        self.files, _ = mutmut.collect_source_file_mutation_data(mutant_names=())
        self.files = {data.path: data for data, _, _ in self.files}.values()
        self.waiting = [
            (data, name)
            for data in self.files
            for name, code in data.exit_code_by_key.items()
            if (name in names if names else code in (None, SURVIVED, NO_TESTS))
        ]
        self.running: dict[int, tuple[Any, str, list[pytest.Item], mmap.mmap]] = {}
        self.killers: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Have Hypothesis end with the first example that fails."""
        import hypothesis  # after pytest, which changes how it is imported

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        usual = hypothesis.settings.get_profile("sansnet")
        hypothesis.settings.register_profile("mutation", usual, phases=phases)
        hypothesis.settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all mutants."""
        items = {item.nodeid: item for item in session.items}
        gc.collect()
        gc.freeze()
        saved = monotonic()
        for number, (data, name) in enumerate(self.waiting, 1):
            tests = [items[test] for test in self._tests(name) if test in items]
            if not tests:
                data.exit_code_by_key[name] = NO_TESTS
                continue
            progress = mmap.mmap(-1, mmap.PAGESIZE)
            if pid := os.fork():
                self.running[pid] = data, name, tests, progress
            else:
                self._try(name, tests, progress)
            if len(self.running) >= self.jobs:
                self._reap()
            if monotonic() - saved > 10:
                self._save()
                saved = monotonic()
                print(f"{number} of {len(self.waiting)} mutants", flush=True)
        while self.running:
            self._reap()
        self._save()
        return True

    def _tests(self, name: str) -> list[str]:
        """The tests of a mutant, for as many seconds as there are.

        First come those that have killed other mutants of the function or its module, and then the quickest ones.
        """
        durations = state().duration_by_test
        total = 0.0
        function = mutmut.mangled_name_from_mutant_name(name)
        killers, others = self.killers[function], self.killers[function.rpartition(".")[0]]
        chosen: list[str] = []
        for test in sorted(
            state().tests_by_mangled_function_name.get(function, ()),
            key=lambda one: (-killers[one], -others[one], not one.startswith(UNITS), durations.get(one, 0.0)),
        ):
            duration = durations.get(test, 0.0)
            if total + duration <= self.seconds:
                total += duration
                chosen.append(test)
        return chosen

    def _try(self, name: str, tests: list[pytest.Item], progress: mmap.mmap) -> None:
        """Run tests until one fails, and end this process."""
        code = KILLED
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            estimate = sum(state().duration_by_test.get(test.nodeid, 0.0) for test in tests)
            signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE + 2 * estimate)
            select(name)
            for number, (test, following) in enumerate(pairwise([*tests, None])):
                assert test is not None
                progress[:4] = number.to_bytes(4, "big")
                test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            code = SURVIVED
        finally:
            os._exit(code)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """End this process if a test fails, since a report on it would take longer than the test."""
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
            os._exit(KILLED)

    def _reap(self) -> None:
        pid, status = os.wait()
        data, name, tests, progress = self.running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if code == KILLED:
            function = mutmut.mangled_name_from_mutant_name(name)
            killer = tests[int.from_bytes(progress[:4], "big")].nodeid
            if state().duration_by_test.get(killer, 0.0) < self.seconds / 10:
                self.killers[function][killer] += 1
                self.killers[function.rpartition(".")[0]][killer] += 1
        data.exit_code_by_key[name] = code if code >= 0 else TIMEOUT if code == -signal.SIGVTALRM else KILLED

    def _save(self) -> None:
        here = Path.cwd()
        os.chdir(self.top)
        for data in self.files:
            data.save()
        os.chdir(here)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--all", action="store_true", help="with all tests, not the quick ones only")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    make()
    trials = Trials(arguments.names, float("inf") if arguments.all else QUICK, arguments.jobs)
    select("")
    config = mutmut.config()
    tests = config.pytest_add_cli_args_test_selection
    os.chdir("mutants")
    raise SystemExit(
        pytest.main(
            ["--rootdir=.", "-q", "--capture=no", "--assert=plain", *config.pytest_add_cli_args, *tests],
            plugins=[trials],
        )
    )


if __name__ == "__main__":
    main()
