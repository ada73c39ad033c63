"""Reading and writing whole small files, such as those of /proc. `pathlib` does the same, but takes longer to load."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["read", "write"]


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


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # without it, opening a FIFO waits for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
