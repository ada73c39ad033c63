"""Going to the background."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.callers import alive, ended
from tests.lab.namespaces import eventually

pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys, time
from sansnet_cli.process import daemon
from sansnet_cli.process.daemon import PidFile, run_in_background
from sansnet_trio.hostinfo import HostError

def work(let_go):
    {work}
    return 7

daemon._READY_TIMEOUT = 2
try:
    status = run_in_background(work, PidFile(sys.argv[1]))
except HostError as error:
    print(error, flush=True)
    status = 1
os._exit(status)
"""


def start(work: str, pid_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(work=work), str(pid_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def open_files(pid: int) -> list[str]:
    """The open files of a process, except for libraries: newer versions of libffi keep their own file open."""
    files = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            files.append(link.readlink())
    return [str(file) for file in files if ".so" not in file.suffixes]


def test_the_callers_process_ends_when_everything_works(tmp_path: Path) -> None:
    pid_file, mark = tmp_path / "pid", tmp_path / "mark"
    work = f"time.sleep(0.3); os.mkdir({str(mark)!r}); let_go(); print('unheard'); time.sleep(60)"
    with start(work, pid_file) as process:
        assert process.communicate(timeout=10)[0] == ""
        assert process.returncode == 0
        assert mark.exists()
        with ended(pid_file) as pid:
            assert alive(pid)
            assert pid_file.read_text() == f"{pid}\n"
            # its own pipe to the other process is closed right after that has ended
            assert eventually(lambda: open_files(pid) == ["/dev/null"] * 3)


def test_the_callers_process_has_closed_everything_before_the_daemon_goes_on(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    look = f"Path({str(mark)!r}).write_text(str(len(list(Path(f'/proc/{{caller}}').glob('fd/*')))))"
    work = f"from pathlib import Path; caller = os.getppid(); let_go(); {look}"
    with start(f"daemon._HEAD_START = 60_000; {work}", tmp_path / "pid") as process:
        process.communicate(timeout=10)
        assert eventually(lambda: mark.exists() and mark.read_text() == "0")


@pytest.mark.parametrize(("work", "status"), [("", 7), ("os._exit(3)", 3), ("os._exit(0)", 1)])
def test_what_ends_before_that_is_the_callers_failure(tmp_path: Path, work: str, status: int) -> None:
    with start(f"print('heard', flush=True); {work}", tmp_path / "pid") as process:
        assert process.communicate(timeout=10)[0] == "heard\n"
        assert process.returncode == status
    assert (tmp_path / "pid").read_text() == ""


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "signal 9 ended the process in the background; try again\n"),
        (signal.SIGSTOP, "the process in the background has not answered for 2 s; try again\n"),
    ],
    ids=["killed", "stopped"],
)
def test_a_process_that_is_disturbed_before_that_is_a_failure(
    tmp_path: Path, number: signal.Signals, said: str
) -> None:
    work = f"print(os.getpid(), flush=True); os.kill(os.getpid(), {int(number)})"
    with start(work, tmp_path / "pid") as process:
        pid, _, rest = process.communicate(timeout=20)[0].partition("\n")
        assert (process.returncode, rest) == (1, said)
    assert not alive(int(pid))


def test_a_pid_file_that_cannot_be_written_is_a_failure_and_ends_it() -> None:
    with start("print(os.getpid(), flush=True); let_go(); time.sleep(60)", Path("/dev/full")) as process:
        pid, _, rest = process.communicate(timeout=20)[0].partition("\n")
        said = "the pid file cannot be written (No space left on device); give another one\n"
        assert (process.returncode, rest) == (1, said)
    assert not alive(int(pid))


def test_before_that_it_ends_with_its_caller(tmp_path: Path) -> None:
    with start("print(os.getpid(), flush=True); time.sleep(60)", tmp_path / "pid") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""  # nobody has it any more
        assert eventually(lambda: not alive(pid))
