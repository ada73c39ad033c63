"""systemd's protocols between a service manager and a process that it starts: sockets are passed, readiness is told.

sd_listen_fds(3) and sd_notify(3) describe them. Other service managers, and `systemd-socket-activate`, use them too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from sansnet_cli.options.records import CommandLineError

__all__ = ["notify_ready", "passed_socket"]

_FIRST: Final = 3
"""The first descriptor that is passed (SD_LISTEN_FDS_START)."""

_PATIENCE: Final = 5.0
"""Seconds for which a service manager is waited for that does not read, as in sd_notify(3)."""


def passed_socket() -> int | None:
    """The descriptor of a UNIX stream socket that was passed; None if none was passed to this process.

    The variables that say so are removed: they concern this process alone.

    Raises:
        CommandLineError: several were passed, or it is another kind of file.
    """
    process, count, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if process != str(os.getpid()):  # they were meant for a process that started this one
        return None
    if not (count.isascii() and count.isdigit()):
        raise CommandLineError(f"LISTEN_FDS is {count!r}, not the number of sockets that were passed")
    if int(count) != 1:
        named = f" ({names.replace(':', ', ')})" if names else ""
        raise CommandLineError(
            f"{count} sockets were passed{named}; pass one, by a socket unit with one ListenStream=PATH"
        )
    _check(_FIRST)
    os.set_inheritable(_FIRST, False)
    return _FIRST


def _check(fd: int) -> None:
    try:
        with socket.socket(fileno=os.dup(fd)) as passed:
            if (passed.family, passed.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
                return
    except OSError:  # it is not open, or not a socket
        pass
    raise CommandLineError(
        f"what was passed as descriptor {fd} is no UNIX stream socket; use ListenStream=PATH in the socket unit"
    )


def notify_ready() -> None:
    """Tell the service manager that all works, if it wants to know. No process that we start tells it so again."""
    path = os.environ.pop("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = f"\0{path[1:]}" if path[0] == "@" else path  # an abstract name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(_PATIENCE)
        manager.sendto(b"READY=1", address)
