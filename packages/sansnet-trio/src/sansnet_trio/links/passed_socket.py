"""A socket that this process has inherited: connected to a machine, or listening for machines."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from typing import Final

from sansnet_core.errors import SansnetError

__all__ = ["AdoptError", "adopt", "listens"]

_STREAMS: Final = (0, 1, 2)


class AdoptError(SansnetError):
    """The descriptor is not a socket for machines; the message says what it is."""


def adopt(fd: int) -> socket.socket:
    """Take over an inherited stream socket: a connected one, or a UNIX socket that listens.

    Call this before any other file is opened, which could get the same number. If standard streams are the same socket,
    as under a super-server (inetd), they are redirected to /dev/null, since nothing else may be written to the socket.

    Args:
        fd: number of the descriptor.

    Raises:
        AdoptError: the descriptor is not such a socket.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise AdoptError(f"descriptor {fd} is not a socket; pass a connected or listening socket")
    except (OSError, OverflowError) as error:
        raise AdoptError(f"descriptor {fd} is not open here; let the caller pass it") from error
    made = socket.socket(fileno=fd)
    try:
        if made.type != socket.SOCK_STREAM:
            raise AdoptError(f"descriptor {fd} is not a stream socket; pass a stream socket")
        if not listens(made):
            made.getpeername()
        elif made.family != socket.AF_UNIX:
            raise AdoptError(f"descriptor {fd} listens, but is not a UNIX socket; pass a UNIX socket")
    except AdoptError:
        made.detach()
        raise
    except OSError as error:
        made.detach()
        raise AdoptError(
            f"descriptor {fd} is neither connected nor listens; pass a connected or listening socket"
        ) from error
    if fd in _STREAMS:
        made.detach()
        made = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(_STREAMS)))
    made.set_inheritable(False)
    _leave_streams(made)
    return made


def listens(made: socket.socket) -> bool:
    """Whether a socket listens."""
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


def _leave_streams(adopted: socket.socket) -> None:
    same = os.fstat(adopted.fileno())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number in _STREAMS:
            with suppress(OSError):  # it is closed
                if os.path.samestat(os.fstat(number), same):
                    os.dup2(null, number)
    finally:
        os.close(null)
