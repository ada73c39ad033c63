"""The protocols of systemd between a service manager and its services: passed sockets and readiness.

See sd_listen_fds(3) and sd_notify(3). Other service managers and `systemd-socket-activate` use them, too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from sansnet_cli.options.records import CommandLineError

__all__ = ["notify_ready", "passed_socket"]

_FIRST: Final = 3
"""The first passed descriptor (SD_LISTEN_FDS_START)."""

_SEND_TIMEOUT: Final = 5.0
"""Seconds to wait for a service manager that does not read, as in sd_notify(3)."""


def passed_socket() -> int | None:
    """The descriptor of the UNIX stream socket that was passed to this process; None if there is none.

    Its variables are removed from the environment, because they are for this process only.

    Raises:
        CommandLineError: several sockets were passed, or a descriptor that is not a UNIX stream socket.
    """
    process, count, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if process != str(os.getpid()):  # they are for a process that started this one
        return None
    if not (count.isascii() and count.isdigit()):
        raise CommandLineError(f"LISTEN_FDS is {count!r}, which is not a number of passed sockets")
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
    except OSError:  # not open, or not a socket
        pass
    raise CommandLineError(
        f"the passed descriptor {fd} is not a UNIX stream socket; use ListenStream=PATH in the socket unit"
    )


def notify_ready() -> None:
    """Tell the service manager, if there is one, that everything works. Child processes do not inherit its address."""
    path = os.environ.pop("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = f"\0{path[1:]}" if path[0] == "@" else path  # an abstract address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(_SEND_TIMEOUT)
        manager.sendto(b"READY=1", address)
