"""The system's log."""

from __future__ import annotations

import re
import socket
import syslog
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sansnet_cli.output.system_log import SystemLog


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket in place of the system's log."""
    path = str(tmp_path / "system")
    monkeypatch.setattr("sansnet_cli.output.system_log._PATH", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener


def test_the_systems_log_gets_a_line_as_from_the_c_library(daemon: socket.socket) -> None:
    with closing(SystemLog("pasta")) as system:
        system.open()
        system.write(syslog.LOG_WARNING, "a line")
    assert re.fullmatch(rb"<28>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d pasta\[\d+\]: a line", daemon.recv(4096))


def test_a_systems_log_that_is_stopped_is_not_waited_for(daemon: socket.socket) -> None:
    with closing(SystemLog("pasta")) as system:
        system.open()
        for number in range(5000):
            system.write(syslog.LOG_WARNING, f"line {number}")
    assert b"line 0" in daemon.recv(4096)


def test_a_systems_log_that_is_not_there_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sansnet_cli.output.system_log._PATH", "/nonexistent/log")
    with closing(SystemLog("pasta")) as system:
        system.open()
        system.write(syslog.LOG_WARNING, "a line")


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(5)
    return made


def test_a_log_that_is_restarted_or_comes_late_is_found_with_the_same_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "system"
    monkeypatch.setattr("sansnet_cli.output.system_log._PATH", str(path))
    with closing(SystemLog("sansnet")) as system:
        system.open()
        monkeypatch.setattr("sansnet_cli.output.system_log.socket", None)  # it can make no other socket
        system.write(syslog.LOG_WARNING, "lost")
        for number in range(3):
            with listening(path) as log:
                system.write(syslog.LOG_WARNING, f"line {number}")
                assert log.recv(4096).endswith(b": line %d" % number)
            path.unlink()
