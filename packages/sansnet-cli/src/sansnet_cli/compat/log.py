"""Messages of a compatible command: on stderr at first; in the background in syslog, or in a file."""

from __future__ import annotations

import contextlib
import os
import syslog
import time
from enum import IntEnum
from typing import Final

from sansnet_cli.output.stderr import say
from sansnet_cli.output.system_log import SystemLog
from sansnet_trio.linux.files import open_output

__all__ = ["Level", "Log", "LogFile"]

_CUT: Final = 0.3
"""Share of a full log file that is deleted."""


class Level(IntEnum):
    """Levels of messages; a lower one is more urgent, as in syslog(3)."""

    ERROR = syslog.LOG_ERR
    WARNING = syslog.LOG_WARNING
    INFO = syslog.LOG_INFO
    DEBUG = syslog.LOG_DEBUG
    TRACE = syslog.LOG_DEBUG + 1


class LogFile:
    """A log file with a limited size: its oldest lines are deleted. It is emptied at first.

    It stays open, because the process may lack the permission to open it again. See `open_output` for its mode.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = os.fdopen(open_output(path, os.O_RDWR), "r+b", buffering=0)
        self._limit = limit
        self._size = 0

    def write(self, line: str) -> None:
        """Add a line with the time. It is lost if the disk is full."""
        data = f"{time.time():.4f}: {line}\n".encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                self._cut()
            self._size += self._file.write(data) or 0  # None if a FIFO has no room

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.seek(0)
        lines = self._file.read()
        kept = lines[lines.find(b"\n", int(self._limit * _CUT)) + 1 :] if len(lines) > self._limit * _CUT else b""
        self._file.seek(0)
        self._size = self._file.write(kept) or 0
        self._file.truncate()


class Log:
    """Writes messages up to a level; a `sansnet_cli.output.report.Destination`.

    Args:
        program: the name in messages.
        level: the least urgent level that is written.
    """

    def __init__(self, program: str, level: Level) -> None:
        self._program = program
        self._level = level
        self._file: LogFile | None = None
        self._in_background = False
        self._system = SystemLog(program)

    def write_to(self, file: LogFile) -> None:
        """Write all messages to a file from now on; problems also go to stderr before `enter_background`."""
        self._file = file

    def prepare(self) -> None:
        """Make the socket for the system's log, which may not be permitted later."""
        self._system.open()

    def enter_background(self) -> None:
        """Stop writing to stderr, which has no reader any more."""
        self._in_background = True

    def error(self, sentence: object) -> None:
        """Report why the program ends."""
        self.write(Level.ERROR, f"{self._program}: {sentence}")

    def warn(self, sentence: str) -> None:
        """Report a problem."""
        self.write(Level.WARNING, f"{self._program}: {sentence}")

    def inform(self, line: str) -> None:
        """Report an event."""
        self.write(Level.INFO, line)

    def debug(self, line: str) -> None:
        """Report a detail for debugging."""
        self.write(Level.DEBUG, line)

    def trace(self, line: str) -> None:
        """Describe a frame."""
        self.write(Level.TRACE, line)

    def write(self, level: Level, line: str) -> None:
        """Write one line, if its level is urgent enough."""
        if level > self._level:
            return
        if self._file is not None:
            self._file.write(line)
        elif self._in_background:
            self._system.write(min(level, Level.DEBUG), line)
        if not self._in_background and (self._file is None or level <= Level.WARNING):
            say(line)
