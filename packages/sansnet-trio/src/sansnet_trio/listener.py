"""A UNIX socket on which guests connect, of which one at a time is served.

Theory of operation. While a guest is served, whoever else connects is accepted and closed, which tells it more than a
connection that nobody answers. The exception is a guest that comes after the served one has hung up, which its server
may not have noticed yet: it is the same guest that reconnects, or its successor. So it takes the other's place.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from sansnet_trio.unix_socket import ListenError, UnixSocket, peer

__all__ = ["GuestListener", "ListenError", "adopt", "listens", "peer_process"]

_LAST_STREAM: Final = 2
"""Standard error's descriptor."""


class GuestListener:
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


def adopt(fd: int) -> socket.socket:
    """Take over a stream socket that this process was given: a connected one, or a UNIX socket that listens.

    Raises:
        ListenError: it is neither.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise ListenError(f"descriptor {fd} is not a socket")
    except (OSError, OverflowError) as error:
        raise ListenError(f"descriptor {fd} is not open here; pass it on to this process") from error
    made = socket.socket(fileno=_above_streams(fd))
    if made.type != socket.SOCK_STREAM:
        made.detach()
        raise ListenError(f"descriptor {fd} is not a stream socket")
    if not listens(made):
        try:
            made.getpeername()
        except OSError as error:
            made.detach()
            raise ListenError(f"descriptor {fd} is neither connected nor listens") from error
    elif made.family != socket.AF_UNIX:
        made.detach()
        raise ListenError(f"descriptor {fd} listens, but not as a UNIX socket")
    made.set_inheritable(False)
    return made


def _above_streams(fd: int) -> int:
    """A descriptor for the same file that is no standard stream: those become /dev/null in the background."""
    if fd > _LAST_STREAM:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LAST_STREAM + 1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)
    return moved


def listens(made: socket.socket) -> bool:
    """Whether a socket listens."""
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


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
