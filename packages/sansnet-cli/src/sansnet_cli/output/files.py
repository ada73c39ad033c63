"""Opening the files that the command writes: captures, logs, pid files.

Root may run sansnet, and other users may make links in the files' directories. So only the owner may read a new file,
and symbolic links are not followed, except those of the system to descriptors, such as /dev/stdout.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Final

__all__ = ["open_output"]

_MODE: Final = 0o600

_STREAMS: Final = re.compile(r"/dev|/proc/\d+/fd")
"""Directories with the system's links to descriptors."""


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
