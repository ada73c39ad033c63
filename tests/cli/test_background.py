"""`sansnet serve --background` and `--pid`."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from sansnet_cli.process.background import _PidFile
from tests.lab.callers import alive, ended
from tests.lab.namespaces import eventually, running

pytestmark = pytest.mark.slow

SANSNET: Final = [sys.executable, "-W", "error", "-m", "sansnet_cli"]
ARP: Final = bytes.fromhex(
    "ffffffffffff0200000000010806000108000604000102000000000100000000000000000000c0000201"
).ljust(60, b"\0")
"""A frame of a guest."""


def call(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `sansnet serve` in a directory, as `$(...)` does: until no process has its output open."""
    command = [*SANSNET, "serve", "--background", "--pid", "pid", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=20, check=False)


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[int]:
    """The process id of a `sansnet serve` that works; it is ended after the block."""
    done = call(directory, *options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with ended(directory / "pid") as pid:
        yield pid


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(str(path))
    return made


def is_served(guest: socket.socket) -> bool:
    """Whether the network answers a frame."""
    guest.sendall(struct.pack(">I", len(ARP)) + ARP)
    return len(guest.recv(4)) == 4


def test_a_guest_can_connect_when_it_returns(tmp_path: Path) -> None:
    done = call(tmp_path, "--socket", "socket")
    with connected(tmp_path / "socket") as guest:  # at once
        assert (done.returncode, done.stdout) == (0, "")
        with ended(tmp_path / "pid") as pid:
            assert f"sansnet: process {pid} is waiting for a guest: -netdev stream" in done.stderr
            assert is_served(guest)


def opened(process: Path) -> list[Path]:
    """The files that a process has open. While it loads modules, some are closed before they can be looked at."""
    found = []
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(link.readlink())
    return found


def test_it_keeps_nothing_of_its_caller(tmp_path: Path) -> None:
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        script = 'exec 8</dev/zero; exec "$@"'
        command = ["sh", "-c", script, "sh", *SANSNET, "serve", "--background", "--pid", "pid", "--socket", "socket"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=20, pass_fds=[file.fileno()], capture_output=True)
    with ended(tmp_path / "pid") as pid:
        process = Path(f"/proc/{pid}")
        assert (process / "cwd").readlink() == Path("/")
        streams = [(process / f"fd/{number}").readlink() for number in range(3)]
        assert streams == [Path(os.devnull)] * 3
        assert Path("/dev/zero") not in opened(process)
        assert os.getsid(pid) == pid


def test_what_it_made_is_removed_when_it_ends(tmp_path: Path) -> None:
    """Relative names are those of the caller's working directory."""
    with serving(tmp_path, "--socket", "socket", "--conf-path", "control") as pid:
        assert {path.name for path in tmp_path.iterdir()} == {"pid", "socket", "control"}
        os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: not alive(pid))
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "pid").write_text(f"{pid}\n")  # for `ended`


def test_one_off_ends_when_the_guest_has_gone(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket", "--one-off") as pid:
        with connected(tmp_path / "socket") as guest:
            assert is_served(guest)
        assert eventually(lambda: not alive(pid))
        (tmp_path / "pid").write_text(f"{pid}\n")


def test_vhost_user_goes_to_the_background_as_well(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket", "--vhost-user"), connected(tmp_path / "socket") as guest:
        guest.sendall(struct.pack("<III", 1, 1, 0))  # VHOST_USER_GET_FEATURES, version 1
        assert len(guest.recv(12)) == 12


def test_captures_of_later_guests_go_to_the_same_file(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket", "--pcap", "guest.pcap") as pid:
        for _ in range(2):
            with connected(tmp_path / "socket") as guest:
                assert is_served(guest)
            time.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: not alive(pid))
        (tmp_path / "pid").write_text(f"{pid}\n")
    assert (tmp_path / "guest.pcap").read_bytes().count(ARP) == 2


def test_the_control_socket_answers(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket", "-c", "control"):
        asked = [*SANSNET, "ctl", "control", "list"]
        done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr


def test_the_pid_file_is_its_owners_alone_and_no_link(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket"):
        assert (tmp_path / "pid").stat().st_mode & 0o777 == 0o600
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "pid").unlink(missing_ok=True)
    (tmp_path / "pid").symlink_to(victim)
    done = call(tmp_path, "--socket", "another")
    assert done.returncode == 1
    assert "symbolic link" in done.stderr
    assert victim.read_text() == "precious"
    assert not (tmp_path / "another").exists()


def test_the_process_id_goes_into_a_pipe_too(tmp_path: Path) -> None:
    command = [*SANSNET, "serve", "--background", "--pid", "/dev/stdout", "--socket", "socket"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "pid").write_text(done.stdout)
    with ended(tmp_path / "pid") as pid:
        assert f"process {pid} is waiting" in done.stderr


def test_a_connected_socket_is_served(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [*SANSNET, "serve", "--background", "--pid", "pid", "--fd", str(theirs.fileno())]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=20, pass_fds=[theirs.fileno()], capture_output=True)
        theirs.close()
        with ended(tmp_path / "pid") as pid:
            ours.settimeout(20)
            assert is_served(ours)
            ours.close()
            assert eventually(lambda: not alive(pid))
            (tmp_path / "pid").write_text(f"{pid}\n")


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--socket", "nowhere/socket"], 1, "cannot listen on nowhere/socket"),
        (["--socket", "socket", "--pcap", "nowhere/file"], 1, "the capture file nowhere/file cannot be written"),
        (["--socket", "socket", "--conf-path", "nowhere/control"], 1, "cannot listen on nowhere/control"),
        (["--socket", "socket", "--pid", "nowhere/pid"], 1, "the pid file nowhere/pid cannot be written"),
        (["--socket", "socket", "-i", "nothing0"], 1, "nothing0"),
        (["--socket", "socket", "--walk"], 2, "--walk"),
        (["--fd", "99"], 1, "descriptor 99 is not open here"),
        ([], 2, "give either --socket PATH or --fd FD"),
    ],
)
def test_what_cannot_work_is_said_to_the_caller(tmp_path: Path, options: list[str], status: int, words: str) -> None:
    done = call(tmp_path, *options)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_cannot_be_forwarded_is_said_to_the_caller(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call(tmp_path, "--socket", "socket", "-t", f"127.0.0.1/{port}")
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_leaves_the_first_one_its_files(tmp_path: Path) -> None:
    with serving(tmp_path, "--socket", "socket") as pid:
        done = call(tmp_path, "--socket", "socket")
        assert done.returncode == 1
        assert "another program listens on socket" in done.stderr
        assert (tmp_path / "pid").read_text() == f"{pid}\n"
        with connected(tmp_path / "socket") as guest:
            assert is_served(guest)


def test_a_pid_file_in_the_foreground(tmp_path: Path) -> None:
    command = [*SANSNET, "serve", "--pid", "pid", "--socket", "socket"]
    with running(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() == f"{process.pid}\n")
        with connected(tmp_path / "socket") as guest:
            assert is_served(guest)
        process.terminate()
        assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_callers_end_before_that_is_its_end(tmp_path: Path) -> None:
    """The child ends when the process that waits for it is killed."""
    os.mkfifo(tmp_path / "capture")  # it is opened when somebody reads it: never
    command = [*SANSNET, "serve", "--background", "--socket", "socket", "--pcap", "capture"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert eventually(lambda: children.read_text() != "")
        child = int(children.read_text())
        process.kill()
        process.wait()
        assert eventually(lambda: not alive(child))
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("number", range(2))
def test_the_name_of_a_stream_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    removed: list[str] = []
    monkeypatch.setattr(os, "unlink", removed.append)
    paths = [str(tmp_path / "out"), "/proc/self/fd/{}"]
    with (tmp_path / "out").open("w") as out:
        file = _PidFile(paths[number].format(out.fileno()))
        file.write()
        file.remove()
    assert removed == paths[:1][number:]
    assert (tmp_path / "out").read_text() == f"{os.getpid()}\n"
