"""What a compatible command says, and where: stderr while somebody reads it, then the system's log or a file."""

from __future__ import annotations

import contextlib
import os
import socket
import syslog
import time
from enum import IntEnum
from typing import Final

from sansnet_cli.output.files import open_output
from sansnet_cli.output.stderr import say

__all__ = ["Level", "Log", "LogFile"]

_SYSTEM_LOG: Final = "/dev/log"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_CUT: Final = 0.3
"""Part of a full log file that goes."""


class Level(IntEnum):
    """How much is said; a lower level is more urgent, as in syslog(3)."""

    ERROR = syslog.LOG_ERR
    WARNING = syslog.LOG_WARNING
    INFO = syslog.LOG_INFO
    DEBUG = syslog.LOG_DEBUG
    TRACE = syslog.LOG_DEBUG + 1


class LogFile:
    """A file that does not grow beyond a size: its oldest lines go. Emptied at first; a new one is its owner's alone.

    It stays open, since the process may not be allowed to open it again.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = os.fdopen(open_output(path, os.O_RDWR), "r+b", buffering=0)
        self._limit = limit
        self._size = 0

    def write(self, line: str) -> None:
        """Add a line, with the time. What the disk does not take is lost."""
        data = f"{time.time():.4f}: {line}\n".encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                self._cut()
            self._size += self._file.write(data) or 0  # nothing, if a FIFO has no reader

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _cut(self) -> None:
        self._file.seek(0)
        lines = self._file.read()
        kept = lines[lines.find(b"\n", int(self._limit * _CUT)) + 1 :] if len(lines) > self._limit * _CUT else b""
        self._file.seek(0)
        self._size = self._file.write(kept) or 0
        self._file.truncate()


class SystemLog:
    """The system's log (syslog(3)), which is not waited for: what it does not take at once is lost.

    Args:
        program: its name.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Connect to it, if there is one."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.connect(_SYSTEM_LOG)
        except OSError:
            made.close()
        else:
            self.close()
            self._socket = made

    def close(self) -> None:
        """Let go of it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def write(self, level: int, line: str) -> None:
        """Write a line, as RFC 3164 has it."""
        now = time.localtime()
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
        message = f"<{syslog.LOG_DAEMON | level}>{stamp} {self._program}[{os.getpid()}]: {line}"
        data = message.encode(errors="backslashreplace")
        for _ in range(2):
            if self._socket is not None:
                try:
                    self._socket.send(data)
                except BlockingIOError:
                    pass
                except OSError:  # it was restarted
                    self.connect()
                    continue
            return


class Log:
    """Says sentences of some level; a `sansnet_cli.output.report.Voice`.

    Args:
        program: its name.
        level: the least urgent one that is said.
    """

    def __init__(self, program: str, level: Level) -> None:
        self._program = program
        self._level = level
        self._file: LogFile | None = None
        self._in_background = False
        self._system = SystemLog(program)

    def write_to(self, file: LogFile) -> None:
        """From now on everything goes to a file; what went wrong goes to stderr too while that is somebody's."""
        self._file = file

    def prepare(self) -> None:
        """Connect to the system's log, which may not be allowed later."""
        self._system.connect()

    def enter_background(self) -> None:
        """From now on nobody reads stderr."""
        self._in_background = True

    def error(self, sentence: object) -> None:
        """Say why it ends."""
        self.say(Level.ERROR, f"{self._program}: {sentence}")

    def warn(self, sentence: str) -> None:
        """Say what is not as it should be."""
        self.say(Level.WARNING, f"{self._program}: {sentence}")

    def inform(self, line: str) -> None:
        """Say what goes on."""
        self.say(Level.INFO, line)

    def debug(self, line: str) -> None:
        """Say what only matters to who looks for a fault."""
        self.say(Level.DEBUG, line)

    def trace(self, line: str) -> None:
        """Say what a packet is."""
        self.say(Level.TRACE, line)

    def say(self, level: Level, line: str) -> None:
        """Say one line, if it is urgent enough."""
        if level > self._level:
            return
        if self._file is not None:
            self._file.write(line)
        elif self._in_background:
            self._system.write(min(level, Level.DEBUG), line)
        if not self._in_background and (self._file is None or level <= Level.WARNING):
            say(line)
