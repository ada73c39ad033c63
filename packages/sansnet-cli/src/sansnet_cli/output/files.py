"""Files that the command appends to, or replaces as a whole: audits and policies.

Only the owner may read a new file, and symbolic links are not followed; see `sansnet_trio.linux.files.open_output`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
from typing import Final, Protocol

from sansnet_trio.linux.files import PRIVATE, open_output
from sansnet_trio.linux.own_names import OwnName

__all__ = ["NewFile", "ReplacedFile", "Replacement", "open_appended"]

_READER_TIMEOUT: Final = 5.0
"""Seconds that the reader of a FIFO or a terminal may leave it full."""

_DESCRIPTOR: Final = r"/dev/(?:fd/(\d+)|stdin|(stdout)|(stderr))|/proc/self/fd/(\d+)"
"""Paths of descriptors of this process."""


def open_appended(path: str) -> int:
    """Open a file to append to it; as `open_output` for the rest.

    For a descriptor of this process that is a regular file or a socket, such as /dev/stderr, it is a duplicate: what
    others write there follows, and a socket cannot be opened by its path.

    Raises:
        OSError: it cannot be opened.
    """
    if match := re.fullmatch(_DESCRIPTOR, path):
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

    Attributes:
        path: its absolute path.
        replacement: makes the new file. A process that can make none asks another one.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # a process in the background changes to another directory
        self._new = NewFile(self.path)
        self.replacement: Replacement = self._new
        self._open: int | None = None
        """A descriptor of the file, if it is written in its place."""
        directory = os.path.dirname(self.path)
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            found = None
        if found is not None and stat.S_ISREG(found.st_mode) and not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        foreign = os.geteuid() == 0 and os.stat(directory).st_uid != 0
        if foreign or (found is not None and not stat.S_ISREG(found.st_mode)):
            self._open = open_output(self.path, truncate=False)
        if found is None or stat.S_ISREG(found.st_mode):
            os.close(self.replacement.make())
            self._new.remove()

    def write(self, text: str) -> None:
        """Replace the contents.

        Raises:
            OSError: it is not possible.
        """
        data = text.encode()
        if self._open is None:
            descriptor = self.replacement.make()
            try:
                _write_all(descriptor, data)
            except BaseException:
                self.replacement.remove()
                raise
            finally:
                os.close(descriptor)
            self.replacement.put()
            return
        if stat.S_ISREG(os.fstat(self._open).st_mode):
            os.lseek(self._open, 0, os.SEEK_SET)
            os.ftruncate(self._open, 0)
        _write_all(self._open, data)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._new.remove()
        if self._open is not None:
            os.close(self._open)
            self._open = None


class Replacement(Protocol):
    """Makes a file that then replaces another one."""

    def make(self) -> int:
        """A descriptor of a new file.

        Raises:
            OSError: it cannot be made.
        """

    def put(self) -> None:
        """Put it in the place of the other one.

        Raises:
            OSError: that is not possible. The new file is removed.
        """

    def remove(self) -> None:
        """Remove a file that was made and not put, at the latest when the command ends."""


class NewFile:
    """`Replacement` beside the other file.

    Args:
        path: the absolute path of the other file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._made: OwnName | None = None

    def make(self) -> int:
        """See `Replacement`."""
        self.remove()
        path = f"{self._path}.{os.getpid()}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        self._made = OwnName(path)
        return descriptor

    def put(self) -> None:
        """See `Replacement`."""
        if self._made is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        made, self._made = self._made, None
        try:
            with open(made.path, "rb") as file:
                os.fsync(file.fileno())
            os.rename(made.path, self._path)
        finally:
            made.remove()

    def remove(self) -> None:
        """See `Replacement`."""
        if self._made is not None:
            self._made.remove()
            self._made = None


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
