"""A UNIX socket at a path: made, replaced if no process answers on it, removed again; and who is at the other end.

A socket may also come from another program, such as systemd; the file is left to that program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from struct import Struct
from typing import Final, NamedTuple

import trio

from sansnet_core import SansnetError
from sansnet_trio.linux.descriptors import SHORTAGE
from sansnet_trio.linux.syscalls import MAX_BACKLOG

__all__ = ["ListenError", "Peer", "UnixSocket", "peer"]

_OWNER_ONLY: Final = 0o600

_SHORTAGE_PAUSE: Final = 0.1
"""Seconds before the next try when the system cannot give a descriptor."""

_UCRED: Final = Struct("=iII")
"""struct ucred (unix(7)): process, user, group."""


class ListenError(SansnetError):
    """Nobody can connect there; the message says why and what to do."""


class UnixSocket:
    """Listens on a path, from now on and until closed.

    A socket that is there already is replaced if nobody answers on it.

    Args:
        where: path of the socket file; or a socket that listens already, whose file is left alone.
        private: only its owner may connect; otherwise the umask decides that.

    Raises:
        ListenError: it cannot listen there.
    """

    def __init__(self, where: str | socket.socket, *, private: bool = False) -> None:
        self._file: tuple[str, tuple[int, int]] | None = None
        if isinstance(where, socket.socket):
            where.setblocking(False)
            self._socket = where
        else:
            self._socket = _listen(where, private)
            path = os.path.abspath(where)  # the working directory may be another one when the file is removed
            self._file = path, _identity(path)

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
        """Stop listening and remove the file, unless it is another's by now. A second call does nothing."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            if self._file is not None:
                path, identity = self._file
                with contextlib.suppress(OSError):
                    if _identity(path) == identity:
                        os.unlink(path)


class Peer(NamedTuple):
    """Who connected, as of then.

    Attributes:
        process, user: their numbers as this process sees them.
    """

    process: int
    user: int


def peer(connection: socket.socket) -> Peer | None:
    """Who is at the other end of a connection; None if that is not known."""
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    process, user, _ = _UCRED.unpack(data)
    return Peer(process, user)


def _listen(path: str, private: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if private:
            os.fchmod(made.fileno(), _OWNER_ONLY)  # what bind() gives the file; a chmod of that would come too late
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
        why = error.strerror or str(error)  # Python itself says that a path is too long, without a number
        raise ListenError(f"cannot listen on {path}: {why}; give another path") from error
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on.

    Raises:
        ListenError: it is no socket, or somebody does.
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
        except BlockingIOError:  # somebody's backlog is full
            pass
    raise ListenError(f"another program listens on {path}; end it, or give another path")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
