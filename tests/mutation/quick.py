"""mutmut, with only some of the tests that call a function: those of its module, and the quickest ones.

mutmut's environment runs this file. A mutant that survives is tried again with all tests.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

SECONDS: Final = 1.0
"""For all tests of one function together."""
UNITS: Final = ("tests/core/proto/tcp/", "tests/core/wire/", "tests/core/test_summary.py")
"""Tests of single modules. A function that they call is tried with them alone."""

mutmut: Any = import_module("mutmut.__main__")  # .venv has no mutmut, so a checker of types cannot know it
state: Any = import_module("mutmut.state").state
collect = mutmut.collect_or_load_stats


def collect_quick(*arguments: Any, **options: Any) -> None:
    """Collect which tests call which functions, and how long they take; forget the slow ones."""
    collect(*arguments, **options)
    durations = state().duration_by_test
    for tests in state().tests_by_mangled_function_name.values():
        if units := {test for test in tests if test.startswith(UNITS)}:
            tests &= units
        total = 0.0
        for test in sorted(tests, key=durations.__getitem__):
            total += durations[test]
            if total > SECONDS and len(tests) > 1:
                tests.discard(test)


if __name__ == "__main__":
    mutmut.collect_or_load_stats = collect_quick
    mutmut.cli()
