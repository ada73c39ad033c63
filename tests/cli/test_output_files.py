"""Files that the command writes, and a stderr without a reader."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sansnet_cli.compat.log import LogFile
from sansnet_cli.process.daemon import PidFile
from sansnet_cli.runtime.observe import captured, open_capture
from sansnet_core.pcap import pcap_header
from sansnet_trio.hostinfo import HostError
from sansnet_trio.linux.files import open_output


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_are_the_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        capture = open_capture(str(tmp_path / "capture"))
        assert capture is not None
        capture.close()
        LogFile(str(tmp_path / "log"), 4096).close()
        PidFile(str(tmp_path / "pid")).close()
    finally:
        os.umask(before)
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


def test_a_file_that_is_there_is_emptied_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    os.close(open_output(str(path)))
    assert (path.read_text(), mode(path)) == ("", 0o640)


def test_a_capture_of_before_stays_until_a_new_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "guest.pcap"
    path.write_bytes(b"old" * 100)
    for snaplen in (None, 1514):
        with captured(open_capture(str(path))) as capture:
            assert capture is not None
            if snaplen is not None:
                capture.begin(snaplen)
                capture.begin(snaplen)
        assert path.read_bytes() == (b"old" * 100 if snaplen is None else pcap_header(1514))


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_symbolic_link_is_refused_and_its_target_left_alone(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    with pytest.raises(HostError, match=r"sansnet does not follow symbolic links\); give another one to -p"):
        open_capture(str(link))
    for make in (PidFile, lambda path: LogFile(path, 4096)):
        with pytest.raises(OSError, match="symbolic link"):
            make(str(link))
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("through", ["pipe", "file"])
def test_standard_streams_have_names(tmp_path: Path, name: str, through: str) -> None:
    script = f"import os\nfrom sansnet_cli.runtime.observe import open_capture\nopen_capture({name!r}).write(b'said')"
    with (tmp_path / "out").open("wb") as out:
        line = [sys.executable, "-c", script]
        if through == "pipe":
            assert subprocess.run(line, stdout=subprocess.PIPE, check=True, timeout=20).stdout == b"said"
        else:
            subprocess.run(line, stdout=out, check=True, timeout=20)
            assert (tmp_path / "out").read_bytes() == b"said"


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(path.read_bytes()))
    thread.start()
    capture = open_capture(str(path))
    assert capture is not None
    with capture as file:
        file.write(b"frames")
    thread.join(10)
    assert got == [b"frames"]


def test_a_stderr_that_nobody_reads_is_waited_for_a_moment_only() -> None:
    script = "from sansnet_cli.output import report\nfor _ in range(5000): report.warn('x' * 100)"
    reader, writer = os.pipe()
    try:
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", script], stderr=writer, check=True, timeout=20)
        assert time.monotonic() - started < 10
        assert os.get_blocking(writer)
        assert os.read(reader, 100).startswith(b"sansnet: xxx")
    finally:
        os.close(reader)
        os.close(writer)
