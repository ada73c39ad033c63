"""Listening on a UNIX socket at a path, and identifying the process at the other end of a connection.

A socket file is replaced if no process listens on it, and removed again by `close`. The socket may also come from
another program, such as systemd, which then manages its file.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from struct import Struct
from typing import Final, NamedTuple

import trio

from sansnet_core import SansnetError
from sansnet_trio.linux.descriptors import SHORTAGE
from sansnet_trio.linux.own_names import OwnName
from sansnet_trio.linux.syscalls import MAX_BACKLOG

__all__ = ["ListenError", "Peer", "UnixSocket", "network_cookie", "peer"]

_OWNER_ONLY: Final = 0o600

_SHORTAGE_PAUSE: Final = 0.1
"""Seconds before the next try when the system cannot give a descriptor."""

_SO_NETNS_COOKIE: Final = 71
"""asm-generic/socket.h."""

_UCRED: Final = Struct("=iII")
"""struct ucred (unix(7)): process, user, group."""


class ListenError(SansnetError):
    """No socket can listen there; the message says why and names the remedy."""


class UnixSocket:
    """A UNIX socket that listens until it is closed. An existing socket file is replaced if no process listens on it.

    Args:
        where: path of the socket file; or a listening socket, whose file is left alone.
        private: whether only the owner of this process may connect; otherwise the umask decides.

    Raises:
        ListenError: it cannot listen there.
    """

    def __init__(self, where: str | socket.socket, *, private: bool = False) -> None:
        self._file: OwnName | None = None
        if isinstance(where, socket.socket):
            where.setblocking(False)
            self._socket = where
        else:
            self._socket = _listen(where, private)
            path = os.path.abspath(where)  # the working directory may be another one when the file is removed
            identity = _identity(path)
            self._file = OwnName(path, lambda: _identity(path) == identity)

    async def accept(self) -> socket.socket:
        """The next connection."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                pass
            except OSError as error:
                if error.errno not in SHORTAGE:
                    raise
                await trio.sleep(_SHORTAGE_PAUSE)

    def close(self) -> None:
        """Stop listening, and remove the file unless another program has replaced it. A second call does nothing."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            if self._file is not None:
                self._file.remove()


class Peer(NamedTuple):
    """The process that made a connection, at the time when it did.

    Attributes:
        process, user: process id and user id as seen from this process.
    """

    process: int
    user: int


def peer(connection: socket.socket) -> Peer | None:
    """The process at the other end of a connection; None if that is unknown."""
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    process, user, _ = _UCRED.unpack(data)
    return Peer(process, user)


def network_cookie(made: socket.socket) -> int:
    """A number of the network namespace in which a socket was made, which no other namespace has (SO_NETNS_COOKIE).

    Raises:
        OSError: the kernel is older than Linux 5.14.
    """
    return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def has_network_cookies() -> bool:
    """Whether the kernel knows `network_cookie`."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            network_cookie(probe)
        except OSError:
            return False
        return True


def _listen(path: str, private: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if private:
            os.fchmod(made.fileno(), _OWNER_ONLY)  # bind() gives the file this mode; a later chmod would be too late
        try:
            made.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            made.bind(path)
        made.listen(MAX_BACKLOG)
    except OSError as error:
        made.close()
        why = error.strerror or str(error)  # Python checks the length of the path, without an errno
        raise ListenError(f"cannot listen on {path}: {why}; give another path") from error
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def _remove_stale(path: str) -> None:
    """Remove a socket file that no process listens on.

    Raises:
        ListenError: it is not a socket, or a process listens on it.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(f"{path} exists and is not a socket; remove it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # a process listens, and its backlog is full
            pass
    raise ListenError(f"another program listens on {path}; end it, or give another path")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
