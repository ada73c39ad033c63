"""A file, a pipe or a socket that gets whole lines.

Theory of operation. Lines go out in pieces of whole lines, each at most as long as a pipe takes as one (PIPE_BUF). A
regular file takes a piece at once; it is opened to append, so several processes may share it. A pipe takes a piece as a
whole or not at all; pieces that it does not take wait, up to a bound, and lines beyond it are lost and counted. So no
reader can stop this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO, Final

from sansnet_core.errors import UsageError
from sansnet_trio.linux.bounded_writer import BoundedWriter, is_regular
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["AuditFile"]

_MAX_SIZE: Final = 1 << 30
_log: Final = logging.getLogger("sansnet")

_PIECE: Final = select.PIPE_BUF
_LAST: Final = 512
"""Bytes of a regular file that are kept for its last line."""
_MAX_WAITING: Final = 1 << 20
"""Most bytes that wait for the reader of a pipe."""


class AuditFile(Uncopyable):
    """The destination of one `AuditLog`, or of several in succession.

    If it cannot be written, a warning is logged, once; the network goes on.

    Args:
        file: a binary file, best opened with "ab" and `buffering=0`; `close` closes it. A pipe or a terminal must be
            non-blocking, or its reader can stop this process.
        max_size: bytes of a regular file, with those that it had before; None for no bound.

    Attributes:
        failed: whether the last attempt to write failed.
    """

    MAX_SIZE: Final = _MAX_SIZE
    """The default of `max_size`."""

    def __init__(self, file: BinaryIO, *, max_size: int | None = _MAX_SIZE) -> None:
        if not hasattr(file, "write") or hasattr(file, "encoding"):
            raise UsageError(f"file: {file!r:.100} is not a binary file; give open(path, 'ab', buffering=0)")
        if max_size is not None and (type(max_size) is not int or max_size < 1):
            raise UsageError(f"max_size: {max_size!r:.100} is not a number of bytes; give 1 or more, or None")
        self.failed = False
        self._out: _Appended | BoundedWriter | None = (
            _Appended(file, max_size) if is_regular(file) else BoundedWriter(file, _MAX_WAITING)
        )
        self._warned = False

    def write(self, lines: Sequence[bytes], last: Callable[[], bytes]) -> int:
        """Write lines.

        Args:
            lines: the lines, each with its newline.
            last: makes the line with which a file ends that has no room for more, at most 512 bytes.

        Returns:
            The number of lines that are lost.
        """
        done = 0
        if (out := self._out) is not None:
            put = out.put if isinstance(out, BoundedWriter) else partial(out.put, last=last)
            with self._reporting():
                for piece, count in _pieces(lines):
                    if put(piece):
                        done += count
                self.failed = False
        return len(lines) - done

    def push(self) -> None:
        """Write what waits for the reader of a pipe, as far as it reads."""
        if isinstance(self._out, BoundedWriter):
            with self._reporting():
                self._out.push()

    def close(self) -> None:
        """Close the file, after a moment for the reader of a pipe. A second call does nothing."""
        out, self._out = self._out, None
        if out is not None:
            with self._reporting():
                out.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            if not self._warned:
                self._warned = True
                reason = error.strerror or str(error)
                _log.warning(
                    "lines of the audit are lost, because they cannot be written (%s); make room, or read the pipe",
                    reason,
                )


class _Appended:
    """A regular file."""

    def __init__(self, file: BinaryIO, max_size: int | None) -> None:
        self._file = file
        self._descriptor = file.fileno()
        self._max_size = max_size
        self._whole = _ends_with_line(self._descriptor)
        self._full = False

    def put(self, piece: bytes, last: Callable[[], bytes]) -> bool:
        if self._full:
            return False
        if self._max_size is not None:
            size = os.fstat(self._descriptor).st_size
            self._full = size + len(piece) + _LAST > self._max_size
            if self._full:
                _log.warning("the audit ends here, because its file has %d bytes; move it away, or allow more", size)
                self._append(last())
                return False
        self._append(piece)
        return True

    def _append(self, piece: bytes) -> None:
        if not self._whole:
            piece = b"\n" + piece
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self._take_back(len(piece) - len(rest))
            raise
        self._whole = True

    def _take_back(self, count: int) -> None:
        """Remove the part of a piece that was written, unless another process has appended to it."""
        self._whole = self._whole and not count
        with contextlib.suppress(OSError):
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if count and os.fstat(self._descriptor).st_size == end:
                os.ftruncate(self._descriptor, end - count)
                self._whole = True

    def close(self) -> None:
        self._file.close()


def _ends_with_line(descriptor: int) -> bool:
    """Whether a file is empty or ends with a whole line, as far as it can be read."""
    try:
        with open(f"/proc/self/fd/{descriptor}", "rb", buffering=0) as file:
            return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")
    except OSError:
        return True


def _pieces(lines: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join lines to pieces; yields each piece and its number of lines."""
    first = size = 0
    for number, line in enumerate(lines):
        if size + len(line) > _PIECE and number > first:
            yield b"".join(lines[first:number]), number - first
            first, size = number, 0
        size += len(line)
    if lines:
        yield b"".join(lines[first:]), len(lines) - first
