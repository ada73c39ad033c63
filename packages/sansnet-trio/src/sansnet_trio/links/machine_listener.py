"""A UNIX socket on which guests connect, of which one at a time is served.

Theory of operation. While a guest is served, whoever else connects is accepted and closed, which tells it more than a
connection that nobody answers. The exception is a guest that comes after the served one has hung up, which its server
may not have noticed yet: it is the same guest that reconnects, or its successor. So it takes the other's place.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Awaitable, Callable

import trio

from sansnet_trio.linux.unix_socket import ListenError, UnixSocket, peer

__all__ = ["MachineListener", "ListenError", "peer_process"]


class MachineListener:
    """Listens on a path, from now on and until closed.

    A socket that is there already is replaced if nobody answers on it.

    Args:
        where: path of the socket file, whose permissions, which the umask decides, say who may connect; or a socket
            that listens already.
        on_refused: called with the process id of each guest that was refused because another one is served.

    Raises:
        ListenError: it cannot listen there.
    """

    def __init__(self, where: str | socket.socket, *, on_refused: Callable[[int], None] = lambda pid: None) -> None:
        self._on_refused = on_refused
        self._next: socket.socket | None = None
        self._socket = UnixSocket(where)

    async def run(self, serve: Callable[[socket.socket], Awaitable[None]], *, one_off: bool = False) -> None:
        """Serve one guest after the other.

        Args:
            serve: serves a guest until it returns; it owns the socket, and closes it even when cancelled. It is
                cancelled when the guest has hung up and another one is there.
            one_off: return after the first guest.
        """
        while True:
            guest = self._next or await self._socket.accept()
            self._next = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._refuse_others, guest, nursery.cancel_scope)
                await serve(guest)
                nursery.cancel_scope.cancel()
            if one_off:
                return

    def close(self) -> None:
        """Stop listening and remove the file, unless it is another's by now. A second call does nothing."""
        if self._next is not None:
            self._next.close()
        self._socket.close()

    async def _refuse_others(self, served: socket.socket, scope: trio.CancelScope) -> None:
        while True:
            other = await self._socket.accept()
            if _has_hung_up(served):
                self._next = other
                scope.cancel()
                return
            pid = peer_process(other)
            other.close()
            self._on_refused(pid)


def peer_process(connection: socket.socket) -> int:
    """The id of the process at the other end when it connected; 0 if that is not known."""
    found = peer(connection)
    return found.process if found else 0


def _has_hung_up(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
