"""Sockets from a service manager, and readiness for it; a small launcher takes the place of systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from sansnet_cli.process import systemd
from tests.lab.namespaces import eventually, running

pytestmark = pytest.mark.slow

LAUNCHER: Final = """
import os, sys
count, name, *command = sys.argv[1:]
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": name}
os.execv(command[0], command)
"""
SANSNET: Final = [sys.executable, "-W", "error", "-m", "sansnet_cli"]


@contextmanager
def launched(
    *options: str,
    sockets: Sequence[int] = (),
    count: str | None = None,
    names: str = "guest.socket",
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """`sansnet serve` with descriptors passed from 3 on."""
    places = range(3, 3 + len(sockets))

    def place() -> None:
        # to numbers that are not used, so that none is overwritten before it is copied
        copies = [os.dup2(number, 50 + place) for place, number in enumerate(sockets)]
        for number, copy in zip(places, copies, strict=True):
            os.dup2(copy, number)
            os.close(copy)

    wanted = str(len(sockets)) if count is None else count
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, wanted, names, *SANSNET, "serve", *options],
        preexec_fn=place,
        pass_fds=places,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def failure(*options: str, sockets: Sequence[int] = (), count: str | None = None, names: str = "") -> tuple[int, str]:
    """The exit status and the message of a `sansnet serve` that cannot work."""
    with launched(*options, sockets=sockets, count=count, names=names) as process:
        said = process.communicate(timeout=20)[1]
        return process.returncode, said


@contextmanager
def listening(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, kind)) as made:
        made.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            made.listen()
        yield made


def guest(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(str(path))
    return made


def is_served(guest: socket.socket) -> bool:
    """Whether the network sends a frame."""
    return len(guest.recv(4)) == 4


def test_guests_of_a_socket_that_listens_are_served_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening(path) as passed:
        waiting = guest(path)  # it is the reason why the service starts
        with launched(sockets=[passed.fileno()]) as process:
            with waiting:
                assert is_served(waiting)
            with guest(path) as second:
                assert is_served(second)
            process.terminate()
            assert process.wait(20) == 0
        assert path.exists()  # it is the service manager's
        with guest(path):  # the service manager starts the service again for this one
            pass


def test_one_off_ends_with_the_first_guest_of_a_socket_that_listens(tmp_path: Path) -> None:
    with listening(tmp_path / "socket") as passed, launched("--one-off", sockets=[passed.fileno()]) as process:
        with guest(tmp_path / "socket") as only:
            assert is_served(only)
        assert process.wait(20) == 0


def test_a_connected_socket_is_the_only_guest() -> None:
    """As with `Accept=yes`."""
    ours, theirs = socket.socketpair()
    with ours, theirs, launched(sockets=[theirs.fileno()]) as process:
        theirs.close()
        ours.settimeout(20)
        assert is_served(ours)
        ours.close()
        assert process.wait(20) == 0


def test_it_may_go_to_the_background_with_the_socket(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with listening(tmp_path / "socket") as passed:
        with launched("--background", "--pid", str(pid_file), sockets=[passed.fileno()]) as process:
            assert process.communicate(timeout=20)[1] == ""
            assert process.returncode == 0
        with guest(tmp_path / "socket") as only:
            assert is_served(only)
        os.kill(int(pid_file.read_text()), 15)
        assert eventually(lambda: not pid_file.exists())


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
def test_a_socket_of_another_kind_is_refused(family: int, kind: socket.SocketKind) -> None:
    with socket.socket(family, kind) as other:
        status, said = failure(sockets=[other.fileno()])
    assert status == 2
    assert said == (
        "sansnet: the passed descriptor 3 is not a UNIX stream socket; use ListenStream=PATH in the socket unit\n"
    )


def test_a_file_that_is_no_socket_is_refused() -> None:
    with open(os.devnull) as file:
        status, said = failure(sockets=[file.fileno()])
    assert status == 2
    assert "is not a UNIX stream socket" in said


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    status, said = failure(count="1")
    assert status == 2
    assert "is not a UNIX stream socket" in said


def test_a_socket_that_neither_listens_nor_is_connected_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as idle:
        status, said = failure(sockets=[idle.fileno()])
    assert status == 1
    assert said == "sansnet: descriptor 3 is neither connected nor listens; pass a connected or listening socket\n"


def test_several_sockets_are_refused_by_their_names(tmp_path: Path) -> None:
    with listening(tmp_path / "a") as first, listening(tmp_path / "b") as second:
        status, said = failure(sockets=[first.fileno(), second.fileno()], names="a.socket:b.socket")
    assert status == 2
    assert said == (
        "sansnet: 2 sockets were passed (a.socket, b.socket); pass one, by a socket unit with one ListenStream=PATH\n"
    )


@pytest.mark.parametrize("count", ["", "one", "-1", "0"])
def test_a_number_that_is_none_is_refused(count: str) -> None:
    status, said = failure(count=count)
    assert status == 2
    assert "passed" in said


@pytest.mark.parametrize("option", ["--socket", "--fd"])
def test_a_socket_that_was_passed_stands_against_one_that_is_named(tmp_path: Path, option: str) -> None:
    with listening(tmp_path / "socket") as passed:
        status, said = failure(option, "7", sockets=[passed.fileno()])
    assert status == 2
    assert said == f"sansnet: a socket was passed by the service manager; leave out {option}\n"


def test_what_was_passed_to_another_process_is_not_taken(tmp_path: Path) -> None:
    with listening(tmp_path / "socket") as passed:
        done = subprocess.run(
            [*SANSNET, "serve"],
            pass_fds=[passed.fileno()],
            env={**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("sansnet: give either --socket PATH or --fd FD")


@pytest.mark.parametrize("with_pid_file", [False, True])
@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_when_guests_can_connect(
    tmp_path: Path, abstract: bool, with_pid_file: bool
) -> None:
    name = f"@sansnet-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(20)
        path = tmp_path / "socket"
        command = [*SANSNET, "serve", "--socket", str(path)]
        command += ["--pid", str(tmp_path / "pid")] if with_pid_file else []
        with running(command, env={**os.environ, "NOTIFY_SOCKET": name}) as process:
            assert manager.recv(100) == b"READY=1"
            with guest(path) as only:
                assert is_served(only)
            process.terminate()
            assert process.wait(20) == 0


def test_a_service_manager_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    with listening(tmp_path / "socket") as passed:
        environment = {"NOTIFY_SOCKET": str(tmp_path / "nothing")}
        with launched(sockets=[passed.fileno()], environment=environment), guest(tmp_path / "socket") as only:
            assert is_served(only)


def test_a_service_manager_that_does_not_read_is_not_waited_for_without_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(path)
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as other:
            other.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"STATUS=", path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setattr(systemd, "_SEND_TIMEOUT", 0.1)
        telling = threading.Thread(target=systemd.notify_ready, daemon=True)
        telling.start()
        telling.join(30)
        assert not telling.is_alive()
