"""The system's log. The C library's syslog(3) would open files and sockets when that is not permitted any more."""

from __future__ import annotations

import os
import socket
import syslog
import time
from typing import Final

__all__ = ["SystemLog"]

_PATH: Final = "/dev/log"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class SystemLog:
    """The system's log. It never blocks: a message is lost if the log does not accept it at once.

    Its one socket is made by `open`, because a confined process can make none. It is connected again when the log was
    restarted.

    Args:
        program: the name in messages.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Make the socket, and connect to the log if there is one. A second call does nothing."""
        if self._socket is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            try:
                self._socket = socket.socket(socket.AF_UNIX, kind)
                self._socket.connect(_PATH)
            except OSError:  # no descriptor is left; or there is no log yet
                pass

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def write(self, level: int, line: str) -> None:
        """Write a line (RFC 3164)."""
        if self._socket is None:
            return
        now = time.localtime()
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        message = f"<{syslog.LOG_DAEMON | level}>{stamp} {self._program}[{os.getpid()}]: {line}"
        data = message.encode(errors="backslashreplace")
        try:
            self._socket.send(data)
        except BlockingIOError:
            pass
        except OSError:  # the log was restarted
            try:
                self._socket.connect(_PATH)
                self._socket.send(data)
            except OSError:
                pass
