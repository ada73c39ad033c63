"""Reports of the core's own mistakes: the line, the file, and their bounds."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Final

import pytest

from sansnet_core.recording import Failure
from sansnet_trio.recording.failures import FailureReports, NetworkFailed

FLOW: Final = "tcp 10.0.2.15:4000 -> 192.0.2.7:80"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process without failures, and a home for their files."""
    monkeypatch.setattr(FailureReports, "_files", 0)
    monkeypatch.setattr(FailureReports, "_lines", 0)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)


def failure(*, flow: str | None = FLOW, recording: bytes = b"inputs", goes_on: bool = True) -> Failure:
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        return Failure(error=error, entry="receive_frames", flow=flow, recording=recording, goes_on=goes_on)


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("sansnet-failure-*.rec"))


def test_a_line_says_what_happened_and_where_the_file_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FailureReports().report(failure())

    (path,) = files(tmp_path)
    (record,) = caplog.records
    assert path.parent == tmp_path / ".local/state/sansnet"
    assert path.read_bytes() == b"inputs"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert re.fullmatch(
        rf"a mistake in sansnet ended {FLOW} \(ZeroDivisionError in trio/test_failure_reports\.py:\d+\); the network "
        rf"goes on; please report it with the file {re.escape(str(path))}, which has the guest's last packets with all "
        r"their data",
        record.getMessage(),
    )


def test_a_failure_outside_of_flows_is_a_lost_packet(caplog: pytest.LogCaptureFixture) -> None:
    FailureReports().report(failure(flow=None))

    assert caplog.records[0].getMessage().startswith("a mistake in sansnet lost a packet (ZeroDivisionError in ")


def test_the_traceback_is_for_developers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sansnet"):
        FailureReports().report(failure())

    assert [record.levelname for record in caplog.records] == ["DEBUG", "WARNING"]
    assert "Traceback" in caplog.text
    assert "the core failed at receive_frames" in caplog.text


def test_the_state_directory_of_the_user_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    FailureReports().report(failure())

    assert [path.parent for path in files(tmp_path)] == [tmp_path / "state/sansnet"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
@pytest.mark.parametrize("variable", ["HOME", "XDG_STATE_HOME"])
def test_root_leaves_no_files_in_the_home_of_another_user(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with `sudo -E`."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    for directory in (home, temporary):
        directory.mkdir()
    os.chown(home, 1000, 1000)
    monkeypatch.setenv(variable, str(home))
    monkeypatch.setenv("TMPDIR", str(temporary))
    FailureReports().report(failure())

    assert [path.parent for path in files(tmp_path)] == [temporary]
    assert not list(home.iterdir())


def test_the_next_directory_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".local").write_bytes(b"no directory")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    FailureReports().report(failure())

    assert [path.parent for path in files(tmp_path)] == [tmp_path]


def test_it_says_that_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", "/proc/1")
    monkeypatch.setattr("sansnet_trio.recording.failures.temporary", lambda: "/proc/1/fdinfo")
    FailureReports().report(failure())

    assert re.search(
        r"the network goes on; the guest's last packets could not be written to a file \(.*: /proc/1/fdinfo\); "
        r"set TMPDIR to a directory",
        caplog.text,
    )


def test_a_process_writes_few_files_and_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A guest may find a mistake and use it again and again. There may be several networks."""
    for number in range(100):
        FailureReports().report(failure(recording=b"%d" % number))

    lines = [record.getMessage() for record in caplog.records]
    assert len(files(tmp_path)) == 3
    assert len(lines) == 10
    assert lines[3].endswith("; enough of such mistakes have been recorded; please report them")
    assert lines[-1].endswith("; further ones are not shown")


def test_failures_of_one_input_have_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reports = FailureReports()
    for flow in (FLOW, "another"):
        reports.report(failure(flow=flow))

    assert len(caplog.records) == 2
    assert len(files(tmp_path)) == 1
    assert all(str(files(tmp_path)[0]) in record.getMessage() for record in caplog.records)


def test_a_directory_gets_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A guest may be started again and again."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    for _ in range(60):
        monkeypatch.setattr(FailureReports, "_files", 0)
        monkeypatch.setattr(FailureReports, "_lines", 0)
        FailureReports().report(failure())

    assert len(files(tmp_path / ".local")) == 20
    assert len(files(temporary)) == 20
    assert "it has 20 such files already, remove them" in caplog.records[-1].getMessage()


def test_the_end_of_a_network_is_told_to_its_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends: list[NetworkFailed] = []
    reports = FailureReports(ends.append)
    reports.report(failure(goes_on=False))

    assert [reports.ended] == ends
    assert str(ends[0]).startswith("a mistake in sansnet ended the network (ZeroDivisionError in ")
    assert str(files(tmp_path)[0]) in str(ends[0])
    assert not caplog.records  # the exception has the sentence


def test_an_end_is_told_even_after_many_failures(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[NetworkFailed] = []
    for _ in range(20):
        FailureReports(ends.append).report(failure())
    FailureReports(ends.append).report(failure(goes_on=False, recording=b""))

    assert len(ends) == 1


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", write)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    FailureReports().report(failure())
    monkeypatch.undo()

    assert not files(tmp_path)
    assert "could not be written to a file (No space left on device: " in caplog.text
