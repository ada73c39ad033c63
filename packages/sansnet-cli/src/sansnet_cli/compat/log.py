"""What a compatible command says, and where: stderr while somebody reads it, then the system's log or a file."""

from __future__ import annotations

import contextlib
import sys
import syslog
import time
from enum import IntEnum
from typing import Final

__all__ = ["Level", "Log", "LogFile"]

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
    """A file that does not grow beyond a size: its oldest lines go. Emptied at first.

    It stays open, since the process may not be allowed to open it again.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 - it is open as long as the process lives
        self._limit = limit
        self._size = 0

    def write(self, line: str) -> None:
        """Add a line, with the time. What the disk does not take is lost."""
        data = f"{time.time():.4f}: {line}\n".encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._limit:
                self._cut()
            self._size += self._file.write(data)

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _cut(self) -> None:
        self._file.seek(0)
        lines = self._file.read()
        kept = lines[lines.find(b"\n", int(self._limit * _CUT)) + 1 :] if len(lines) > self._limit * _CUT else b""
        self._file.seek(0)
        self._size = self._file.write(kept)
        self._file.truncate()


class Log:
    """Says sentences of some level; a `sansnet_cli.report.Voice`.

    Args:
        program: its name.
        level: the least urgent one that is said.
    """

    def __init__(self, program: str, level: Level) -> None:
        self._program = program
        self._level = level
        self._file: LogFile | None = None
        self._in_background = False

    def write_to(self, file: LogFile) -> None:
        """From now on everything goes to a file; what went wrong goes to stderr too while that is somebody's."""
        self._file = file

    def enter_background(self) -> None:
        """From now on nobody reads stderr."""
        self._in_background = True
        syslog.openlog(self._program, syslog.LOG_PID, syslog.LOG_DAEMON)

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
            syslog.syslog(min(level, Level.DEBUG), line)
        if not self._in_background and (self._file is None or level <= Level.WARNING):
            with contextlib.suppress(OSError):  # nobody listens
                print(line, file=sys.stderr, flush=True)
