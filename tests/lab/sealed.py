"""Runs a command line of sansnet, and watches what its serving process does once it is confined.

`python -m tests.lab.sealed FILE PROGRAM ARGUMENT...` appends a line to the file for each thing that a confined process
may not do, as far as Python tells (`sys.addaudithook`), and refuses it: to import a module, open or look at a file by
its name, start a process or thread, or make a socket of another kind. The line `confined` comes first. The kernel's own
part of the sandbox has tests of its own; here a fault is found with its place in the program.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, Final

from sansnet_cli import main
from sansnet_cli.runtime import confinement

__all__: list[str] = []

ALLOWED: Final = (socket.AF_INET, socket.AF_INET6)
FORBIDDEN: Final = (
    "_thread.start_new_thread",
    "ctypes.dlopen",
    "import",
    "open",
    "os.chdir",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.link",
    "os.listdir",
    "os.listxattr",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "os.setxattr",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.utime",
    "pty.spawn",
    "shutil.",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "socket.sethostname",
    "subprocess.Popen",
    "syslog.",
    "tempfile.",
)
"""Beginnings of the names of audit events (docs.python.org/3/library/audit_events.html)."""

UNAUDITED: Final = ("access", "chroot", "getcwd", "lstat", "pidfd_open", "readlink", "stat", "statvfs", "umask")
"""Functions of `os` that refer to files by name or to other processes, and have no audit event."""


class Watch:
    """The watch of this process; children that it has forked before are not watched.

    Args:
        path: path of the file for the lines, which any user may write.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._log = -1
        self._confined = 0

    def open(self) -> None:
        """Open the file. The process is about to be confined, and has closed what its caller left open."""
        self._log = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def begin(self) -> None:
        """The process is confined."""
        self._write("confined")
        self._confined = os.getpid()
        for name in UNAUDITED:
            setattr(os, name, self._watched(name, getattr(os, name)))

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See `sys.addaudithook`."""
        if self._confined and self._confined == os.getpid() and _is_forbidden(event, arguments):
            self._refuse(f"{event} {arguments[:2]!r:.200}")

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            if self._confined == os.getpid() and not isinstance(arguments[0] if arguments else None, int):
                self._refuse(f"os.{name} {arguments!r:.200}")
            return function(*arguments, **options)

        return watched

    def _refuse(self, what: str) -> None:
        places: list[str] = []
        found: FrameType | None = sys._getframe(2)
        while found is not None and len(places) < 8:
            if "importlib" not in found.f_code.co_filename:
                places.append(f"{'/'.join(found.f_code.co_filename.split('/')[-2:])}:{found.f_lineno}")
            found = found.f_back
        self._write(f"{what} at {' '.join(places)}")
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _write(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode(errors="backslashreplace"))


def _is_forbidden(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return not isinstance(arguments[0], int)
    if event == "os.kill":
        return bool(arguments[0] != os.getpid())
    if event == "socket.__new__":
        return bool(arguments[1] not in ALLOWED) and not _has_descriptor()
    return event.startswith(FORBIDDEN)


def _has_descriptor() -> bool:
    """Whether the socket that is made gets an open descriptor, as by accept(2)."""
    made: dict[str, Any] = sys._getframe(3).f_locals
    return made.get("fileno") is not None


def _run() -> None:
    watch = Watch(os.path.abspath(sys.argv[1]))
    names = vars(confinement)
    confine = names["confine"]

    def confined(*arguments: Any) -> Any:
        watch.open()
        level = confine(*arguments)
        watch.begin()
        return level

    names["confine"] = confined
    sys.addaudithook(watch.hook)
    sys.argv = sys.argv[2:]
    main.main()


if __name__ == "__main__":
    _run()
