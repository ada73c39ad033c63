"""The standard streams of a command, with the arguments of `subprocess.Popen` and `trio.lowlevel.open_process`."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from typing import Protocol, TypeAlias

import trio

from sansnet_core import UsageError

__all__ = ["Stdio", "Stream"]


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


Stream: TypeAlias = int | _HasFileno | None
"""None for that of this process, `subprocess.PIPE` or `DEVNULL`, a descriptor or an open file; for stderr also
`subprocess.STDOUT`."""


class Stdio:
    """The standard streams of one command.

    Args:
        stdin: see `Stream`.
        stdout: see `Stream`.
        stderr: see `Stream`.

    Attributes:
        streams: descriptors for the command; None for those of this process.
        stdin: our end of the pipe, if there is one.
        stdout: our end of the pipe, if there is one.
        stderr: our end of the pipe, if there is one.

    Raises:
        UsageError: an argument is none of these.
        OSError: no descriptor is left.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self.stdin: trio.lowlevel.FdStream | None = None
        self.stdout: trio.lowlevel.FdStream | None = None
        self.stderr: trio.lowlevel.FdStream | None = None
        self.streams: tuple[int | None, int | None, int | None]
        self._theirs = ExitStack()
        self._ours = ExitStack()
        try:
            reader = self._open("stdin", stdin, 0)
            writer = self._open("stdout", stdout, 1)
            if isinstance(stderr, int) and stderr == subprocess.STDOUT:
                self.streams = (reader, writer, 1 if writer is None else writer)
            else:
                self.streams = (reader, writer, self._open("stderr", stderr, 2))
        except BaseException:
            self.close()
            raise

    def _open(self, name: str, wanted: Stream, number: int) -> int | None:
        """The command's descriptor for a stream."""
        if wanted is None:
            return None
        if not isinstance(wanted, int):
            return wanted.fileno()
        if wanted == subprocess.DEVNULL:
            return self._close_later(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        if wanted == subprocess.PIPE:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            theirs, ours = (reader, writer) if number == 0 else (writer, reader)
            self._close_later(theirs)
            stream = trio.lowlevel.FdStream(ours)
            self._ours.callback(stream.close)
            setattr(self, name, stream)
            return theirs
        if wanted < 0:
            raise UsageError(f"{name}: {wanted} is not a descriptor; give PIPE, DEVNULL, a descriptor or an open file")
        return wanted

    def _close_later(self, descriptor: int) -> int:
        self._theirs.callback(os.close, descriptor)
        return descriptor

    def begun(self) -> None:
        """The command has its descriptors: close them here."""
        self._theirs.close()

    def close(self) -> None:
        """Close all descriptors that were opened here."""
        self._theirs.close()
        self._ours.close()
