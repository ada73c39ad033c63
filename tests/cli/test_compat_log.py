"""The messages of a compatible command and their destinations."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sansnet_cli.compat.log import Level, Log, LogFile
from sansnet_cli.output.system_log import SystemLog


@pytest.fixture
def made(tmp_path: Path) -> Iterator[LogFile]:
    """A log file of at most 4096 bytes, at `path`."""
    with closing(LogFile(str(tmp_path / "log"), 4096)) as file:
        yield file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def syslog(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The lines that the system's log gets."""
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(SystemLog, "write", lambda _, level, line: lines.append((level, line)))
    return lines


def say_everything(log: Log) -> None:
    log.error("an error")
    log.warn("a warning")
    log.inform("a line")
    log.trace("a packet")


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (Level.WARNING, ["pasta: an error", "pasta: a warning"]),
        (Level.INFO, ["pasta: an error", "pasta: a warning", "a line"]),
        (Level.DEBUG, ["pasta: an error", "pasta: a warning", "a line"]),
        (Level.TRACE, ["pasta: an error", "pasta: a warning", "a line", "a packet"]),
    ],
)
def test_a_level_leaves_out_what_is_less_urgent(
    capsys: pytest.CaptureFixture[str], level: Level, lines: list[str]
) -> None:
    say_everything(Log("pasta", level))
    assert capsys.readouterr().err.splitlines() == lines


def test_in_the_background_the_systems_log_has_it(
    capsys: pytest.CaptureFixture[str], syslog: list[tuple[int, str]]
) -> None:
    log = Log("pasta", Level.TRACE)
    log.enter_background()
    say_everything(log)
    assert [line for _, line in syslog] == ["pasta: an error", "pasta: a warning", "a line", "a packet"]
    assert [level for level, _ in syslog] == sorted(level for level, _ in syslog)
    assert capsys.readouterr().err == ""


def test_a_file_has_everything_and_stderr_what_went_wrong_until_the_background(
    capsys: pytest.CaptureFixture[str], syslog: list[tuple[int, str]], made: LogFile, path: Path
) -> None:
    log = Log("pasta", Level.INFO)
    log.write_to(made)
    say_everything(log)
    assert capsys.readouterr().err.splitlines() == ["pasta: an error", "pasta: a warning"]
    log.enter_background()
    say_everything(log)
    assert capsys.readouterr().err == ""
    assert syslog == []
    lines = path.read_text().splitlines()
    assert all(re.match(r"\d+\.\d{4}: ", line) for line in lines)
    assert [line.partition(": ")[2] for line in lines] == ["pasta: an error", "pasta: a warning", "a line"] * 2


def test_a_file_begins_empty(path: Path) -> None:
    path.write_text("old\n")
    with closing(LogFile(str(path), 4096)) as file:
        file.write("new")
    assert path.read_text().endswith(": new\n")
    assert "old" not in path.read_text()


@pytest.mark.parametrize("text", [lambda number: f"line {number}", lambda number: f"{number} " + "x" * 300])
def test_a_file_keeps_its_newest_lines_whole_and_its_size_bounded(
    text: Callable[[int], str], made: LogFile, path: Path
) -> None:
    for number in range(1000):
        made.write(text(number))
        assert path.stat().st_size <= 4096
        assert path.read_text().endswith(f": {text(number)}\n")
    kept = [line.partition(": ")[2] for line in path.read_text().splitlines()]
    assert kept == [text(number) for number in range(1000 - len(kept), 1000)]
    assert path.stat().st_size > 4096 * 0.6


def test_a_line_larger_than_the_file_is_gone_with_the_next_one(made: LogFile, path: Path) -> None:
    for line in ("first", "x" * 5000, "last"):
        made.write(line)
    assert path.read_text().partition(": ")[2] == "last\n"


def test_a_full_disk_ends_nothing() -> None:
    with closing(LogFile("/dev/full", 4096)) as file:
        file.write("lost")


def test_a_fifo_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with closing(LogFile(str(tmp_path / "fifo"), 1 << 20)) as file:
        for _ in range(5000):
            file.write("x" * 100)
