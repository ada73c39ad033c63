"""The control socket, through which the owner of this process can query and change it.

Request and answer are JSON objects of one line each; docs/control.md describes them, and `ControlCommands` carries them
out. This module limits line length, connections and waiting times.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import trio

from sansnet_core import SansnetError
from sansnet_core.errors import UsageError, expect
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.unix_socket import Peer, UnixSocket, network_cookie, peer

__all__ = ["Answer", "ControlSocket", "Request"]

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request: enough for a long policy."""
MAX_CONNECTIONS: Final = 16
IDLE_TIMEOUT: Final = 60.0
"""Seconds without a request before a connection is closed."""
SEND_TIMEOUT: Final = 10.0
"""Seconds that the client may take to read an answer."""


class ControlSocket(Uncopyable):
    """A socket that listens on a path until it is closed.

    Only root and the user of this process may connect, from its network namespace.

    Args:
        path: path of the socket file.
        answer: returns the answer to a request without waiting. A `SansnetError` becomes an error in the answer.

    Raises:
        ListenError: it cannot listen there.
    """

    def __init__(self, path: str, answer: Callable[[Request], Answer]) -> None:
        expect("path", path, str, "a path")
        if not callable(answer):
            raise UsageError(f"answer: {answer!r:.100} is not a function; give ControlCommands().answer or the like")
        self._answer = answer
        self._socket = UnixSocket(path, private=True)
        self._ours = socket.socket(socket.AF_UNIX)
        """A socket of our own network namespace."""

    def close(self) -> None:
        """Stop listening and remove the file. A second call does nothing."""
        self._socket.close()
        self._ours.close()

    async def run(self) -> None:
        """Answer requests until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                connection = await self._socket.accept()
                refusal = _refusal(connection, self._ours, len(nursery.child_tasks))
                nursery.start_soon(_Connection(connection, self._answer).run, refusal)


def _refusal(connection: socket.socket, ours: socket.socket, others: int) -> str | None:
    """The error for a connection that is not served; None if it is."""
    found = peer(connection)
    if found is None or found.user not in (0, os.geteuid()):
        return "only the user who runs sansnet, or root, may use this socket"
    if not _shares_network(connection, ours, found):
        return "only programs in sansnet's own network namespace may use this socket, so that no guest can"
    if others >= MAX_CONNECTIONS:
        return f"there are {others} connections already; close one of them"
    return None


def _shares_network(connection: socket.socket, ours: socket.socket, client: Peer) -> bool:
    """Whether a client's socket is of our own network namespace.

    A command that sansnet runs has our user, and may see the socket's file; yet it must not open its own network. It
    cannot enter our namespace, and namespaces that it makes are others. The socket of an accepted connection has the
    namespace of the client's.
    """
    try:
        return network_cookie(connection) == network_cookie(ours)
    except OSError:  # Linux before 5.14
        return _has_our_namespace(client)


def _has_our_namespace(client: Peer) -> bool:
    try:
        return os.path.samefile(f"/proc/{client.process}/ns/net", "/proc/self/ns/net")
    except PermissionError:  # a process of root, about which an ordinary user learns nothing
        return client.user == 0 and os.geteuid() != 0
    except OSError:  # it has ended
        return False


class _Connection:
    """One connection."""

    def __init__(self, connection: socket.socket, answer: Callable[[Request], Answer]) -> None:
        connection.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
        self._answer = answer
        self._received = bytearray()

    async def run(self, refusal: str | None) -> None:
        async with self._stream:
            try:
                if refusal is not None:
                    await self._send({"error": refusal})
                    return
                while (line := await self._next_line()) is not None:
                    await self._send(self._reply(line))
            except (trio.BrokenResourceError, trio.TooSlowError):
                pass  # the client has disconnected, or does not read

    async def _next_line(self) -> bytes | None:
        """The next request; None at the end of the connection, and after a request that is too long."""
        with trio.fail_after(IDLE_TIMEOUT):
            while (end := self._received.find(b"\n")) < 0:
                if len(self._received) > MAX_REQUEST:
                    await self._send({"error": f"a request has at most {MAX_REQUEST} bytes"})
                    return None
                data = await self._stream.receive_some()
                if not data:
                    return None
                self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _reply(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "a request is one line of JSON"}
        if not isinstance(request, dict):
            return {"error": 'a request is a JSON object, as {"command": "list"}'}
        try:
            return self._answer(request)
        except SansnetError as error:
            return {"error": str(error)}
        except MemoryError:
            return {"error": "there is too little memory for the answer"}

    async def _send(self, answer: Answer) -> None:
        with trio.fail_after(SEND_TIMEOUT):
            await self._stream.send_all(json.dumps(answer).encode() + b"\n")
