"""Reading and writing whole small files, such as those of /proc, and opening the files that are written for users.

`pathlib` reads and writes, too, but takes longer to load.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Final

__all__ = ["PRIVATE", "open_output", "read", "write"]

PRIVATE: Final = 0o600
"""The mode of a file that only its owner may read."""

_STREAMS: Final = re.compile(r"/dev|/proc/\d+/fd")
"""Directories with the system's links to descriptors."""


def read(path: str) -> str:
    """The text of a file; bytes that are not UTF-8 are replaced.

    Raises:
        OSError: it cannot be read, or is not a regular file: a FIFO or a device might never end.
    """
    with open(path, encoding="utf-8", errors="replace", opener=_open_regular) as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Replace the contents of a file; a short text, as for /proc, in one system call.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def open_output(path: str, access: int = os.O_WRONLY, *, truncate: bool = True) -> int:
    """Open a file that users read, such as a capture.

    Root may run this, and other users may make links in the directory. So only the owner may read a new file, and
    symbolic links are not followed, except those of the system to descriptors, such as /dev/stdout. For a FIFO or a
    terminal the descriptor is non-blocking, so that no reader can block us.

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
        descriptor = os.open(path, flags, PRIVATE)
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise OSError(errno.ELOOP, "sansnet does not follow symbolic links", path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, False)
    return descriptor


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # without it, opening a FIFO waits for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
