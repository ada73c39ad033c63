"""A UNIX socket to which virtual machines connect. One machine at a time is served.

Theory of operation. While a machine is served, other connections are accepted and closed at once, because the client
learns more from that than from a connection without an answer. There is one exception. If the served machine has hung
up, which its server may not have noticed yet, then a new connection is from the same machine, or from its successor. So
the new connection replaces the old one.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sansnet_core.errors import expect
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.unix_socket import ListenError, UnixSocket, peer

__all__ = ["MachineListener", "ListenError", "peer_process"]

_NOTICE: Final = 0.1
"""Seconds that the server of a machine that has hung up gets to notice it and to report why."""


class MachineListener(Uncopyable):
    """Listens for virtual machines from its creation until it is closed.

    A socket file that exists is replaced if no process listens on it.

    Args:
        where: path of the socket file, or a socket that already listens. The file's permissions, which depend on the
            umask, decide which users may connect.
        on_refused: called with the process id of each machine that was refused because another one is served.

    Raises:
        ListenError: it cannot listen there.
    """

    def __init__(self, where: str | socket.socket, *, on_refused: Callable[[int], None] = lambda pid: None) -> None:
        expect("where", where, (str, socket.socket), "a path or a listening socket")
        self._on_refused = on_refused
        self._next: socket.socket | None = None
        self._socket = UnixSocket(where)

    async def run(self, serve: Callable[[socket.socket], Awaitable[None]], *, one_off: bool = False) -> None:
        """Serve one machine after the other.

        Args:
            serve: serves a machine until it returns. It owns the socket and closes it, even when cancelled. It is
                cancelled when its machine has hung up and another one has connected.
            one_off: return after the first machine.
        """
        while True:
            machine = self._next or await self._socket.accept()
            self._next = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._refuse_others, machine, nursery.cancel_scope)
                await serve(machine)
                nursery.cancel_scope.cancel()
            if one_off:
                return

    def close(self) -> None:
        """Stop listening, and remove the socket file unless it has been replaced. A second call does nothing."""
        if self._next is not None:
            self._next.close()
        self._socket.close()

    async def _refuse_others(self, served: socket.socket, scope: trio.CancelScope) -> None:
        while True:
            other = await self._socket.accept()
            if _has_hung_up(served):
                self._next = other
                await trio.sleep(_NOTICE)  # cancelled when the server has noticed it and returned
                scope.cancel()
                return
            pid = peer_process(other)
            other.close()
            self._on_refused(pid)


def peer_process(connection: socket.socket) -> int:
    """The id of the process that connected; 0 if it is unknown."""
    found = peer(connection)
    return found.process if found else 0


def _has_hung_up(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
