"""The profile of Hypothesis for all tests, and the rule that an unexpected skip fails the run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Generator
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Final
from zlib import crc32

import hypothesis
import pytest

from sansnet_core import COMPILED
from tests.lab import debian, kernel_headers

# How long an example takes depends on what else the machine does, so no property has a limit but its test's.
hypothesis.settings.register_profile(
    "sansnet",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# Other examples in each run: `--hypothesis-profile=explore`
hypothesis.settings.register_profile("explore", hypothesis.settings.get_profile("sansnet"), derandomize=False)
hypothesis.settings.load_profile("sansnet")

EXPECTED_SKIPS: Final[dict[str, str]] = {}
"""Pattern of node ids -> why these tests may be skipped."""

if debian.codename() is None:
    EXPECTED_SKIPS["tests/kernel/machines/*"] = "the machines are made of packages of Debian's for x86-64"
elif debian.codename() != "bookworm":
    EXPECTED_SKIPS["tests/kernel/machines/*7.2-*"] = "only Debian 12 has QEMU 7.2"
    EXPECTED_SKIPS["tests/kernel/machines/*10-*"] = "the QEMU of this Debian may be older"
if find_spec("ensurepip") is None:
    for test in ("test_installation.py::test_pipx_installs_it[[]pip]", "examples/test_readme.py::*"):
        EXPECTED_SKIPS[f"tests/{test}"] = "Debian's Python without python3-venv"
if not kernel_headers.is_installed():
    EXPECTED_SKIPS["tests/trio/sandbox/*"] = "only root installs packages, and other systems have other ones"
if os.geteuid() and shutil.which("mandoc") is None:
    EXPECTED_SKIPS["tests/docs/test_site.py::test_the_manual_pages_are_correct_roff"] = "only root installs packages"

if find_spec("atheris") is None:
    EXPECTED_SKIPS["tests/fuzz/test_targets.py::test_the_command_*"] = "atheris is not there for every Python"

_skipped: Final = pytest.StashKey[list[str]]()


BOTH_HALVES: Final = ("test_bursts.py", "test_errors.py", "test_hostile.py", "test_streams.py", "test_transfer.py")
"""Files of the data path, which are in both halves of the tests of the kernel."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--half", type=int, choices=(0, 1), help="one half of the files, and those of the data path")
    parser.addoption("--fail-on-skip", action="store_true", help="fail when a test is skipped that is not on the list")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    # A shell starts background commands with these ignored, and programs under test would inherit that
    for number, action in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other half; and tests of interpreted code if the core is compiled, which they cannot change."""
    left_out = [item for item in items if COMPILED and item.get_closest_marker("interpreted")]
    half: int | None = config.getoption("--half")
    if half is not None:
        for item in items:
            if item.path.name not in BOTH_HALVES and crc32(item.path.name.encode()) & 1 != half:
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """Let the garbage collections during the tests, of which some tests make many, leave out what was collected."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not _is_expected(item.nodeid):
        item.config.stash[_skipped].append(item.nodeid)
    return report


def _is_expected(skip: str) -> bool:
    return any(fnmatchcase(skip, pattern) for pattern in EXPECTED_SKIPS)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--fail-on-skip") and session.config.stash[_skipped] and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--fail-on-skip"):
        for node in config.stash[_skipped]:
            terminalreporter.write_line(f"skipped without being expected to: {node}", red=True)
