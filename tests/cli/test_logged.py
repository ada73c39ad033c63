"""Warnings that the packages log reach the user of the command."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent

OF_PYROUTE2: Final = ("packages/sansnet-trio/src/sansnet_trio/linux/netlink_messages.py", "self._name")
"""The place where pyroute2's modules get their own loggers, which have pyroute2's names."""

WARNING: Final = """
import logging, sys
from sansnet_cli.compat.log import Level, Log, LogFile
from sansnet_cli.output import report
from sansnet_cli.process.readiness import report_logged

log = Log("passt", Level.WARNING)
if sys.argv[1:]:
    log.write_to(LogFile(sys.argv[1], 4096))
report.send_to(log)
report_logged()
report_logged()
logging.getLogger("sansnet").warning("guest memory is not sealed")
logging.getLogger("sansnet.links").warning("a child of that logger")
"""


def warned(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", WARNING, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr


def test_a_logged_warning_is_a_message_on_stderr() -> None:
    assert warned() == "passt: guest memory is not sealed\npasst: a child of that logger\n"


def test_a_logged_warning_is_in_the_log_file(tmp_path: Path) -> None:
    warned(str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "passt: guest memory is not sealed",
        "passt: a child of that logger",
    ]


def _loggers() -> Iterator[tuple[str, str]]:
    for file in sorted(ROOT.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "getLogger":
                yield str(file.relative_to(ROOT)), ast.unparse(node.args[0]) if node.args else ""


@pytest.mark.parametrize(("file", "name"), [logger for logger in _loggers() if logger != OF_PYROUTE2])
def test_every_logger_is_of_the_family_that_the_command_reports(file: str, name: str) -> None:
    assert name == "'sansnet'" or name.startswith("'sansnet."), file
