"""Several processes that want the same socket path at the same time."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trio

from sansnet_trio.links.machine_listener import MachineListener
from sansnet_trio.linux import unix_socket
from sansnet_trio.linux.unix_socket import ListenError, UnixSocket

CONTENDER = """
import sys
from sansnet_trio.linux.unix_socket import ListenError, UnixSocket
kept = []
for line in sys.stdin:
    try:
        kept.append(UnixSocket(line.strip()))
        print("yes", flush=True)
    except ListenError as error:
        print("another program listens on" in str(error) and "no" or error, flush=True)
"""
PROCESSES = 6
ROUNDS = 60


def is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def make_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_of_many_processes_one_gets_the_path(tmp_path: Path, stale: bool) -> None:
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CONTENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(PROCESSES)
        ]
        for number in range(ROUNDS):
            path = tmp_path / f"{number}"
            if stale:
                make_stale(path)
            for contender in contenders:
                assert contender.stdin is not None
                contender.stdin.write(f"{path}\n")
                contender.stdin.flush()
            answers = [contender.stdout.readline().strip() for contender in contenders if contender.stdout is not None]
            assert sorted(answers) == ["no"] * (PROCESSES - 1) + ["yes"]
            assert is_alive(path)
        assert len(list(tmp_path.iterdir())) == ROUNDS, "no temporary name is left"
        for contender in contenders:
            assert contender.stdin is not None
            contender.stdin.close()


def test_a_socket_listens_as_soon_as_it_has_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    seen: list[bool] = []

    def link(name: str, wanted: str) -> None:
        assert not path.exists()
        os_link(name, wanted)
        seen.append(is_alive(path))

    os_link = os.link
    monkeypatch.setattr(os, "link", link)
    UnixSocket(str(path)).close()
    assert seen == [True]


@pytest.mark.parametrize("length", [90, 98, 99, 107])
def test_a_path_of_any_length_that_a_socket_can_have(length: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x" * (length - len(directory) - 1))
        with closing(UnixSocket(str(path))):
            assert is_alive(path)
            assert list(path.parent.iterdir()) == [path]
        assert list(path.parent.iterdir()) == []


def test_a_process_that_looks_for_a_free_path_is_no_machine(tmp_path: Path) -> None:
    """Else a second `passt --one-off` would end the first."""
    path = tmp_path / "socket"
    listener = MachineListener(str(path))
    served = []

    async def serve(machine: socket.socket) -> None:
        with machine:
            served.append(machine)

    def others() -> None:
        for _ in range(5):
            with pytest.raises(ListenError, match="another program listens"):
                MachineListener(str(path))
        assert not served
        with socket.socket(socket.AF_UNIX) as machine:
            machine.connect(str(path))

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: listener.run(serve, one_off=True))
                await trio.to_thread.run_sync(others)

    with closing(listener):
        trio.run(main)
    assert len(served) == 1


def test_a_stale_socket_stays_while_another_process_has_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_socket, "_LOCK_TIMEOUT", 0.1)
    path = tmp_path / "socket"
    make_stale(path)
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(ListenError, match=r"another process has locked its directory; give another path"):
        UnixSocket(str(path))
    assert path.exists()
    timer = threading.Timer(0.3, os.close, [directory])
    monkeypatch.setattr(unix_socket, "_LOCK_TIMEOUT", 30)
    timer.start()
    with closing(UnixSocket(str(path))):
        assert is_alive(path)
    timer.join()


def test_no_file_is_removed_that_another_process_has_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as no process listens any more, another one may replace the file, which `close` looks at first."""
    path = tmp_path / "socket"
    first = UnixSocket(str(path))
    second: list[UnixSocket] = []
    lock = unix_socket._lock

    def replaced(descriptor: int) -> bool:
        monkeypatch.setattr(unix_socket, "_lock", lock)
        second.append(UnixSocket(str(path)))  # between the look at the file and its removal
        return lock(descriptor)

    monkeypatch.setattr(unix_socket, "_lock", replaced)
    first.close()
    assert is_alive(path)
    second[0].close()
    assert not path.exists()
