"""Opening the files that the command writes: captures, logs, pid files, audits, policies.

Root may run sansnet, and other users may make links in the files' directories. So only the owner may read a new file,
and symbolic links are not followed, except those of the system to descriptors, such as /dev/stdout.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
from typing import Final

__all__ = ["ReplacedFile", "open_appended", "open_output"]

_MODE: Final = 0o600
_READER_TIMEOUT: Final = 5.0
"""Seconds that the reader of a FIFO or a terminal may leave it full."""

_STREAMS: Final = re.compile(r"/dev|/proc/\d+/fd")
"""Directories with the system's links to descriptors."""
_DESCRIPTOR: Final = re.compile(r"/dev/(?:fd/(\d+)|stdin|(stdout)|(stderr))|/proc/self/fd/(\d+)")
"""Paths of descriptors of this process."""


def open_output(path: str, access: int = os.O_WRONLY, *, truncate: bool = True) -> int:
    """Open a file for writing. For a FIFO or a terminal the descriptor is non-blocking, so that no reader can block us.

    Args:
        path: path of the file.
        access: os.O_WRONLY or os.O_RDWR.
        truncate: whether to empty the file.

    Raises:
        OSError: it cannot be opened.
    """
    flags = access | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | (os.O_TRUNC if truncate else 0)
    if not _STREAMS.fullmatch(os.path.realpath(os.path.dirname(path))):
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise OSError(errno.ELOOP, "sansnet does not follow symbolic links", path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, False)
    return descriptor


def open_appended(path: str) -> int:
    """Open a file to append to it; as `open_output` for the rest.

    For a descriptor of this process that is a regular file or a socket, such as /dev/stderr, it is a duplicate: what
    others write there follows, and a socket cannot be opened by its path.

    Raises:
        OSError: it cannot be opened.
    """
    if match := _DESCRIPTOR.fullmatch(path):
        number_in_dev, out, err, number_in_proc = match.groups()
        number = int(number_in_dev or number_in_proc or (1 if out else 2 if err else 0))
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode) or stat.S_ISSOCK(mode):
            return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    return open_output(path, os.O_WRONLY | os.O_APPEND, truncate=False)


class ReplacedFile:
    """A file whose contents are replaced as a whole or not at all, once or several times.

    Whether that is possible is tried now, not when there is something to write. Root may lose the privilege to make
    files in a directory of another user; then the file is opened now, and overwritten in its place.

    Args:
        path: its path. A FIFO or a terminal gets the text as it is; a reader that reads nothing for 5 s is an error.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # a process in the background changes to another directory
        self._open: int | None = None
        """A descriptor of the file, if it is written in its place."""
        directory = os.path.dirname(self._path)
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            found = None
        if found is not None and stat.S_ISREG(found.st_mode) and not os.access(self._path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        foreign = os.geteuid() == 0 and os.stat(directory).st_uid != 0
        if foreign or (found is not None and not stat.S_ISREG(found.st_mode)):
            self._open = open_output(self._path, truncate=False)
        if found is None or stat.S_ISREG(found.st_mode):
            os.unlink(self._make(b""))

    def write(self, text: str) -> None:
        """Replace the contents.

        Raises:
            OSError: it is not possible.
        """
        data = text.encode()
        if self._open is None:
            made = self._make(data)
            try:
                os.rename(made, self._path)
            except BaseException:
                os.unlink(made)
                raise
            return
        if stat.S_ISREG(os.fstat(self._open).st_mode):
            os.lseek(self._open, 0, os.SEEK_SET)
            os.ftruncate(self._open, 0)
        _write_all(self._open, data)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def _make(self, data: bytes) -> str:
        """Make a file with these contents beside the other one; returns its path."""
        path = f"{self._path}.{os.getpid()}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return path


def _write_all(descriptor: int, data: bytes) -> None:
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            if not room.poll(_READER_TIMEOUT * 1000):
                raise TimeoutError(errno.ETIMEDOUT, "its reader does not read") from None
