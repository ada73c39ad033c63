"""Listening on a UNIX socket at a path, and identifying the process at the other end of a connection.

A socket file is replaced if no process listens on it, and removed again by `close`. The socket may also come from
another program, such as systemd, which then manages its file.

Several processes may want the same path at the same time. So a socket is bound to a temporary name, listens, and only
then gets its path by link(2), which fails if the path exists. So if no process listens on a socket
that has a path, its process has ended. Removing such a socket takes two steps, between which another process could
replace it; the processes do that one after the other, by a lock of the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import trio

from sansnet_core import SansnetError
from sansnet_trio.linux.descriptors import SHORTAGE
from sansnet_trio.linux.own_names import OwnName
from sansnet_trio.linux.syscalls import MAX_BACKLOG

__all__ = ["ListenError", "Peer", "UnixSocket", "has_network_cookies", "network_cookie", "peer"]

_OWNER_ONLY: Final = 0o600

_SHORTAGE_PAUSE: Final = 0.1
"""Seconds before the next try when the system cannot give a descriptor."""

_MAX_PATH: Final = 107
"""Bytes of the path of a UNIX socket (unix(7)); one more is zero."""
_LINK_TRIES: Final = 10
"""Each further try needs a socket that was at the path before and that no process listens on now."""
_LOCK_TIMEOUT: Final = 1.0
"""Seconds to wait for the lock of a directory. It is held for microseconds, but any user may hold that of /tmp."""
_LOCK_INTERVAL: Final = 0.01

_PROBE: Final = b"\0sansnet-probe-"
"""The beginning of the abstract name of a socket that asks whether a process listens."""

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
            self._file = OwnName(path, lambda: _identity(path) == identity, lambda path: _remove(path, identity))

    async def accept(self) -> socket.socket:
        """The next connection."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                connection, name = self._socket.accept()
                if not (isinstance(name, bytes) and name.startswith(_PROBE)):
                    return connection
                connection.close()
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
        with _temporary_name(path) as name:
            made.bind(name)
            try:
                made.listen(MAX_BACKLOG)
                _link(name, path)
            finally:
                os.unlink(name)
    except OSError as error:
        made.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror}; give another path") from error
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


@contextlib.contextmanager
def _temporary_name(path: str) -> Iterator[str]:
    """A name in the same directory. It may be longer than the path, so it may need an open directory to be short.

    Raises:
        OSError: no socket can have the path.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    end = f".{os.urandom(4).hex()}"
    if len(os.fsencode(path + end)) <= _MAX_PATH:
        yield path + end
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{end}"
    finally:
        os.close(directory)


def _link(name: str, path: str) -> None:
    """Give a file another name, in the place of a socket that no process listens on."""
    for _ in range(_LINK_TRIES):
        try:
            os.link(name, path)
            return
        except FileExistsError:
            with _locked(os.path.dirname(path) or "."), contextlib.suppress(FileNotFoundError):
                _remove_stale(path)
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))


def _remove_stale(path: str) -> None:
    """Remove a socket file that no process listens on.

    Raises:
        FileNotFoundError: it does not exist any more.
        ListenError: it is not a socket, or a process listens on it.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(f"{path} exists and is not a socket; remove it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        with contextlib.suppress(OSError):  # then the other process takes it for a client
            probe.bind(_PROBE + os.urandom(8).hex().encode())
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # a process listens, and its backlog is full
            pass
    raise ListenError(f"another program listens on {path}; end it, or give another path")


def _remove(path: str, identity: tuple[int, int]) -> None:
    """Remove a socket file of ours, on which no process listens any more: so another process may replace it."""
    with _locked(os.path.dirname(path)):
        if _identity(path) == identity:
            os.unlink(path)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Lock a directory as long as the block runs, if its file system has locks and we may read it.

    Raises:
        OSError: another process has locked it.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        end = time.monotonic() + _LOCK_TIMEOUT
        while not _lock(descriptor):
            if time.monotonic() > end:
                raise OSError(errno.EBUSY, "another process has locked its directory")
            time.sleep(_LOCK_INTERVAL)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        pass
    return True


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
