"""Whole files of a few lines, as /proc has them. `pathlib` does the same, but takes longer to load."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["read", "write"]


def read(path: str) -> str:
    """The text of a file, whatever its bytes are.

    Raises:
        OSError: it cannot be read, or is no regular file: a FIFO or a device might never end.
    """
    with open(path, encoding="utf-8", errors="replace", opener=_open_regular) as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Make a text all that a file has; in /proc, in one system call.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # to open a FIFO waits for a writer otherwise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
