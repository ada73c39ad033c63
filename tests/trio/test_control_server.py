"""The control socket: permissions, lines and limits."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from sansnet_core import SansnetError
from sansnet_trio.control import server
from sansnet_trio.control.server import Answer, ControlSocket, Request
from sansnet_trio.linux.unix_socket import ListenError, Peer


def echo(request: Request) -> Answer:
    if "wrong" in request:
        raise SansnetError("that is wrong")
    return {"asked": request}


def connect(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))  # with a timeout, connect() does not wait for room in the backlog
    made.settimeout(5)
    return made


def ask(connection: socket.socket, line: bytes) -> Any:
    if line:  # the server may have closed the connection already
        connection.sendall(line)
    received = b""
    while not received.endswith(b"\n"):
        data = connection.recv(1 << 16)
        assert data, "closed without an answer"
        received += data
    return json.loads(received)


def run(path: Path, body: Callable[[], None], answer: Callable[[Request], Answer] = echo) -> None:
    """Answer requests while a function runs in a thread."""

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.run)
                await trio.to_thread.run_sync(body)
                nursery.cancel_scope.cancel()

    with contextlib.closing(ControlSocket(str(path), answer)) as served:
        trio.run(main)


def test_each_line_is_answered_by_a_line(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def body() -> None:
        with connect(path) as connection:
            assert ask(connection, b'{"command": "list"}\n') == {"asked": {"command": "list"}}
            connection.sendall(b'{"a": 1}\n{"b"')
            assert ask(connection, b"") == {"asked": {"a": 1}}
            assert ask(connection, b": 2}\n") == {"asked": {"b": 2}}

    run(path, body)


def test_only_its_owner_may_open_the_file_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "control"
    modes: list[int] = []
    before = os.umask(0)
    try:
        run(path, lambda: modes.append(stat.S_IMODE(path.stat().st_mode)))
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert not path.exists()


@pytest.mark.parametrize("found", [None, Peer(1, os.geteuid() + 1)])
def test_another_user_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Peer | None) -> None:
    """Such a user may have opened the file before, or received a connected socket."""
    monkeypatch.setattr(server, "peer", lambda connection: found)
    path = tmp_path / "control"

    def body() -> None:
        with connect(path) as connection:
            assert "only the user who runs sansnet" in ask(connection, b"")["error"]
            assert connection.recv(1) == b""

    run(path, body)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"list\n", "one line of JSON"),
        (b"\n", "one line of JSON"),
        (b"\xff\xfe\n", "one line of JSON"),
        (b"[" * 60_000 + b"\n", "one line of JSON"),
        (b"[]\n", "JSON object"),
        (b'"list"\n', "JSON object"),
        (b'{"wrong": 1}\n', "that is wrong"),
    ],
)
def test_an_invalid_request_is_an_error_and_the_next_one_is_answered(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "control"

    def body() -> None:
        with connect(path) as connection:
            assert words in ask(connection, line)["error"]
            assert ask(connection, b"{}\n") == {"asked": {}}

    run(path, body)


@pytest.mark.parametrize("kernel", ["present", "before 5.14"])
def test_a_client_in_another_network_namespace_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    """A guest's command is the same user, and must not open its own network."""
    if kernel != "present":
        monkeypatch.setattr(server, "network_cookie", fail)
    path = tmp_path / "control"
    code = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.recv(1000).decode())"

    def body() -> None:
        line = ["unshare", "--user", "--net", sys.executable, "-c", code, str(path)]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10)
        assert "sansnet's own network namespace" in json.loads(done.stdout)["error"]

    run(path, body)


def fail(made: socket.socket) -> int:
    raise OSError(errno.ENOPROTOOPT, "Protocol not available")


def test_with_an_older_kernel_clients_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr(server, "network_cookie", fail)

    def body() -> None:
        with connect(path) as connection:
            assert ask(connection, b"{}\n") == {"asked": {}}

    run(path, body)


def test_a_client_that_has_ended_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr(server, "network_cookie", fail)
    monkeypatch.setattr(server, "peer", lambda connection: Peer((1 << 22) + 1, os.geteuid()))

    def body() -> None:
        with connect(path) as connection:
            assert "sansnet's own network namespace" in ask(connection, b"")["error"]

    run(path, body)


def test_a_line_without_an_end_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def body() -> None:
        with connect(path) as connection:
            size = 1 << 20
            assert f"at most {size} bytes" in ask(connection, b"x" * (size + 1))["error"]
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""

    run(path, body)


def test_connections_beyond_the_limit_get_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def body() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                assert ask(stack.enter_context(connect(path)), b"{}\n") == {"asked": {}}
            with connect(path) as refused:
                assert "16 connections" in ask(refused, b"")["error"]
        again: Any = {"error": ""}
        while "error" in again:  # until the server has noticed that the others are closed
            with connect(path) as connection, contextlib.suppress(BrokenPipeError):
                again = ask(connection, b"{}\n")
        assert again == {"asked": {}}

    run(path, body)


def test_a_disconnecting_client_does_not_disturb_others(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def body() -> None:
        for _ in range(50):
            with connect(path) as connection:
                connection.sendall(b'{"big": "' + b"x" * 10_000 + b'"}\n{')
        with connect(path) as connection:
            assert ask(connection, b"{}\n") == {"asked": {}}

    run(path, body)


def test_an_impossible_path_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket; remove it, or give another path"):
        ControlSocket(str(path), echo)
    assert path.read_text() == "precious"


def test_a_connection_without_requests_is_closed_after_a_minute() -> None:
    ours, theirs = socket.socketpair()

    async def main() -> None:
        start = trio.current_time()
        await server._Connection(ours, echo).run(None)
        assert trio.current_time() - start == pytest.approx(server.IDLE_TIMEOUT)

    with theirs:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
