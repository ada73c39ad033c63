"""Listening for machines: which connection is served, and which is refused."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from sansnet_trio.links.machine_listener import ListenError, MachineListener, peer_process
from sansnet_trio.links.passed_socket import AdoptError, adopt


def connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(5)
    made.connect(str(path))
    return made


class Serving:
    """Serves each machine by sending it hello, until it hangs up."""

    def __init__(self) -> None:
        self.guests = 0

    async def __call__(self, guest: socket.socket) -> None:
        self.guests += 1
        with guest, contextlib.suppress(BrokenPipeError):
            guest.setblocking(False)
            guest.send(b"hello")
            await trio.lowlevel.wait_readable(guest)


def run(
    listener: MachineListener,
    serve: Callable[[socket.socket], Awaitable[None]],
    body: Callable[[], None],
    *,
    one_off: bool = False,
) -> None:
    """Serve while a function runs in a thread, then close the listener."""

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: listener.run(serve, one_off=one_off))
                await trio.to_thread.run_sync(body)
                if not one_off:
                    nursery.cancel_scope.cancel()

    with contextlib.closing(listener):
        trio.run(main)


def test_guests_are_served_one_after_the_other(tmp_path: Path) -> None:
    path, serve = tmp_path / "socket", Serving()
    listener = MachineListener(str(path))

    def guests() -> None:
        for _ in range(20):
            with connect(path) as guest:
                assert guest.recv(100) == b"hello"

    run(listener, serve, guests)
    assert serve.guests == 20
    assert not path.exists()


def test_a_second_guest_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path, refused = tmp_path / "socket", list[int]()
    listener = MachineListener(str(path), on_refused=refused.append)

    def guests() -> None:
        with connect(path) as first:
            assert first.recv(100) == b"hello"
            with connect(path) as second:
                assert second.recv(100) == b""
            first.shutdown(socket.SHUT_WR)
            assert first.recv(100) == b""

    run(listener, Serving(), guests)
    assert refused == [os.getpid()]


def test_a_guest_takes_the_place_of_one_that_hung_up_unnoticed(tmp_path: Path) -> None:
    path, refused = tmp_path / "socket", list[int]()
    listener = MachineListener(str(path), on_refused=refused.append)

    async def deaf(guest: socket.socket) -> None:
        with guest:
            guest.send(b"hello")
            await trio.sleep_forever()

    def guests() -> None:
        for _ in range(3):
            with connect(path) as guest:
                assert guest.recv(100) == b"hello"

    run(listener, deaf, guests)
    assert refused == []


def test_a_want_of_descriptors_is_waited_out(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = MachineListener(str(path))

    def guests() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_UNIX) as guest:
            guest.settimeout(5)
            with open(os.devnull) as lowest:
                free = lowest.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                guest.connect(str(path))
                time.sleep(0.2)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert guest.recv(100) == b"hello"

    run(listener, Serving(), guests)


def test_one_off_is_one(tmp_path: Path) -> None:
    path, serve = tmp_path / "socket", Serving()
    listener = MachineListener(str(path))
    run(listener, serve, lambda: connect(path).close(), one_off=True)
    assert serve.guests == 1


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    MachineListener(str(path)).close()
    assert not path.exists()


def test_a_socket_that_somebody_listens_on_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = MachineListener(str(path))
    for _ in range(40):  # beyond its backlog
        with pytest.raises(ListenError, match=r"another program listens on .*; end it"):
            MachineListener(str(path))
    assert path.exists()
    first.close()


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is not a socket"):
        MachineListener(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(("name", "words"), [("missing/socket", "No such file"), ("x" * 200, "too long")])
def test_a_path_that_cannot_be_is_explained(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ListenError, match=f"{words}.*; give another path"):
        MachineListener(str(tmp_path / name))


def test_closing_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = MachineListener(str(path))
    path.unlink()
    second = MachineListener(str(path))
    first.close()
    first.close()
    assert path.exists()
    second.close()


def test_a_connected_socket_is_adopted() -> None:
    ours, theirs = socket.socketpair()
    ours.set_inheritable(True)
    with theirs, adopt(ours.detach()) as adopted:
        assert peer_process(adopted) == os.getpid()
        assert not adopted.get_inheritable()
        theirs.send(b"x")
        assert adopted.recv(1) == b"x"


def test_a_socket_in_the_place_of_a_standard_stream_is_not_lost_with_that() -> None:
    program = """
import os
from sansnet_trio.links.passed_socket import adopt
adopted = adopt(0)
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
assert adopted.fileno() > 2
adopted.send(b"x")
"""
    ours, theirs = socket.socketpair()
    with ours:
        subprocess.run([sys.executable, "-c", program], stdin=theirs.fileno(), check=True, timeout=20)
        theirs.close()
        assert ours.recv(1) == b"x"
        assert ours.recv(1) == b""


def test_a_socket_that_listens_is_adopted_and_its_file_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    serving = Serving()

    def body() -> None:
        for _ in range(2):
            with connect(path) as guest:
                assert guest.recv(5) == b"hello"

    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        run(MachineListener(adopt(made.detach())), serving, body)
    assert serving.guests == 2
    assert path.exists()


def test_a_socket_that_listens_for_others_than_guests_is_not_adopted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(AdoptError, match="listens, but is not a UNIX socket"),
    ):
        adopt(server.fileno())


def test_a_file_is_removed_by_its_place_though_the_directory_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = MachineListener("socket")
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "socket").exists()


def test_what_is_no_stream_socket_in_use_is_not_adopted(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_UNIX) as alone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        for fd, words in {
            file.fileno(): "is not a socket",
            alone.fileno(): "is neither connected nor listens",
            datagrams.fileno(): "is not a stream socket",
            999_999: "is not open",
            1 << 40: "is not open",
        }.items():
            with pytest.raises(AdoptError, match=words):
                adopt(fd)
        assert alone.fileno() >= 0


def test_another_kind_of_socket_has_no_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as made:
        assert peer_process(made) == 0
