"""What all tests share: a test that is skipped without being expected to is a failure of the run."""

from __future__ import annotations

import signal
from collections.abc import Generator
from typing import Final

import pytest

EXPECTED_SKIPS: Final[dict[str, str]] = {}
"""Start of a test's node id -> why it may be skipped."""

_skipped: Final = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="fail when a test is skipped that is not on the list")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = []
    # A shell starts what is to run in the background with these ignored, and programs under test would inherit that
    for number, action in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.nodeid.startswith(tuple(EXPECTED_SKIPS)):
        item.config.stash[_skipped].append(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--fail-on-skip") and session.config.stash[_skipped] and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--fail-on-skip"):
        for node in config.stash[_skipped]:
            terminalreporter.write_line(f"skipped without being expected to: {node}", red=True)
