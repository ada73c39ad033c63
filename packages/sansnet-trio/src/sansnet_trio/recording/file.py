"""The file of a recording, and the one with the part before it.

Theory of operation. A recording has a size that must not grow without bound, so its file has half of it. When it is
full, it gets another name, and a new file begins, with a state of the network from which a replay can start. Where a
new file is not possible, for example because this process has become a user without rights in the directory, the same
file begins again.

A file that is there already keeps its contents until the first network begins: what fails before that destroys nothing.

A regular file takes each part at once. A pipe takes what its reader reads; the rest waits, up to a bound, and beyond it
the recording ends. So no reader can stop this process.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from sansnet_core.errors import UsageError
from sansnet_trio.linux.bounded_writer import BoundedWriter
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.files import PRIVATE, open_output

__all__ = ["RecordingFile", "make_next", "remove_earlier"]

_log: Final = logging.getLogger("sansnet")

_MAX_WAITING: Final = 16 << 20
"""Most bytes that wait for the reader of a pipe."""
_READER_TIMEOUT: Final = 3.0
"""Seconds that a FIFO is given to get a reader. Commands block signals at this time, so the wait must end by itself."""
_NEVER: Final = 1 << 62
"""More bytes than any file has."""
_EARLIER: Final = ".1"
"""Suffix of the file with the part before."""


class RecordingFile(Uncopyable):
    """A file for the recording of a network, or of several networks one after the other, each in a new file.

    The recording holds all that the guest sends and receives, and the secret of its network: only the owner may read
    the file. Symbolic links are not followed. If the file cannot be written any more, a warning is logged, once; the
    network goes on.

    A recording that is there already, and the part before it, are removed when the first network begins. If none does,
    they stay as they are, and no new file is left.

    Args:
        path: its path, or that of a directory, in which a new file is made. The part before is in a file whose name
            ends with `.1` in addition.
        size: bytes of both files together, about. Each begins with the state of the network, however large that is, and
            has room for inputs of a quarter of `size` after it. A pipe has no bound, and takes the recording of one
            network.

    Attributes:
        path: the path of the file.
        failed: whether the recording has ended because the file cannot be written.
        on_full: called when the file should begin again.
        make_next: gives the file its other name, and returns a descriptor of a new one, or raises `OSError`. A process
            that can make no files asks another one.
        remove_earlier: removes the file with the part before, or raises `OSError`; in the same way.

    Raises:
        UsageError: an argument has another type or value.
        OSError: the file cannot be opened, or another process records to it.
    """

    MAX_SIZE: Final = 256 << 20
    """The default of `size`."""
    MIN_SIZE: Final = 1 << 20

    def __init__(self, path: str | os.PathLike[str], *, size: int = MAX_SIZE) -> None:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            raise UsageError(f"path: {path!r:.100} is not the path of a file")
        if type(size) is not int or size < self.MIN_SIZE:
            raise UsageError(f"size: {size!r:.100} is not a number of bytes; give {self.MIN_SIZE} or more")
        self.path = _file_of(os.fspath(path))
        self.failed = False
        self.on_full: Callable[[], None] = lambda: None
        self.make_next: Callable[[], int] = partial(make_next, self.path)
        self.remove_earlier: Callable[[], None] = partial(remove_earlier, self.path)
        self._limit = size // 2
        self._begun = False
        self._made = not os.path.lexists(self.path)
        self._written = 0
        """Bytes since the file began."""
        self._full_at = self._limit
        self._descriptor = _open(self.path)
        self._pipe: BoundedWriter | None = None
        try:
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                _lock(self.path, self._descriptor)
            else:
                self._pipe = BoundedWriter(os.fdopen(self._descriptor, "wb", buffering=0), _MAX_WAITING)
        except BaseException:
            os.close(self._descriptor)
            raise

    def begin(self, record: Callable[[Callable[[bytes], object]], object]) -> None:
        """Begin a recording, in a new file if there is one in this file already.

        Args:
            record: called with `write`; what it writes at once is the beginning, however large it is.
        """
        if self.failed:
            return
        if not self._begun:
            self._begun = True
            if self._pipe is None:
                self._replace()
        elif self._written:
            if self._pipe is not None:
                self.fail("a pipe takes the recording of one network", "record to a file")
                return
            self._turn()
        self._written, self._full_at = 0, _NEVER
        record(self.write)
        # A long beginning leaves room for inputs: otherwise there would be nothing but beginnings
        self._full_at = max(self._limit, self._written + self._limit // 2)

    def write(self, data: bytes) -> None:
        """Write a part of the recording."""
        if self.failed:
            return
        try:
            if self._pipe is not None:
                if not self._pipe.put(data):
                    self.fail("the reader does not keep up", "read it faster, or record to a file")
                    return
            else:
                self._append(data)
        except OSError as error:
            self.fail(error.strerror)
            return
        self._written += len(data)
        if self._written >= self._full_at and self._pipe is None:
            self._full_at = _NEVER
            self.on_full()

    def push(self) -> None:
        """Write what waits for the reader of a pipe, as far as it reads."""
        if self._pipe is not None and not self.failed:
            try:
                self._pipe.push()
            except OSError as error:
                self.fail(error.strerror)

    def close(self) -> None:
        """Close the file, after a moment for the reader of a pipe. A second call does nothing."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if self._pipe is None:
            if self._made and not self._begun:
                with suppress(OSError):  # another process has removed it, or this one may not
                    os.unlink(self.path)
            os.close(descriptor)
            return
        try:
            self._pipe.close()
        except OSError as error:
            if not self.failed:
                self.fail(error.strerror)

    def _replace(self) -> None:
        """Remove the recording that was there before."""
        with suppress(OSError):  # there is no part before, or this process may not remove it
            self.remove_earlier()
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            self.fail(error.strerror)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # a part of a part is of no use, and takes the room that there is
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._written)
            raise

    def _turn(self) -> None:
        """Give the file its other name, and begin a new one."""
        try:
            descriptor = self.make_next()
        except OSError:
            try:
                os.ftruncate(self._descriptor, 0)
            except OSError as error:
                self.fail(error.strerror)
        else:
            os.close(self._descriptor)
            self._descriptor = descriptor

    def fail(self, reason: str | None, remedy: str = "make room for it, or record to another file") -> None:
        """End the recording, with a warning."""
        self.failed = True
        _log.warning("the recording ends here (%s); %s", reason, remedy)


def make_next(path: str) -> int:
    """Give the file of a recording its other name, and make a new one at its path.

    Returns:
        A descriptor of the new file.

    Raises:
        OSError: that is not possible. Nothing has changed.
    """
    made = f"{path}.{os.getpid()}.new"
    with suppress(FileNotFoundError):
        os.unlink(made)
    descriptor = os.open(made, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        _lock(path, descriptor)
        with suppress(FileNotFoundError):  # the user has moved it away
            os.rename(path, path + _EARLIER)
        os.rename(made, path)
    except BaseException:
        os.close(descriptor)
        os.unlink(made)
        raise
    return descriptor


def remove_earlier(path: str) -> None:
    """Remove the file with the part before that belongs to the file of a recording.

    Raises:
        OSError: there is none, or that is not possible.
    """
    os.unlink(path + _EARLIER)


def _lock(path: str, descriptor: int) -> None:
    """Lock a file, and let only its owner read it.

    Raises:
        OSError: another process records to it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(errno.EBUSY, "another process records to it", path) from error
    except OSError:  # this file system has no locks
        pass
    with suppress(OSError):  # it belongs to another user, or the file system has no modes
        os.fchmod(descriptor, PRIVATE)  # others may have been able to read the one that was there before


def _open(path: str) -> int:
    deadline = time.monotonic() + _READER_TIMEOUT
    while True:
        try:
            return open_output(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK, truncate=False)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.lstat(path).st_mode):
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.ENXIO, "nothing reads this FIFO", path) from error
        time.sleep(0.02)


def _file_of(path: str) -> str:
    """The absolute path of the file: a process in the background changes to another directory."""
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        return path
    return os.path.join(path, f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.rec")
