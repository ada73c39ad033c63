"""Reading and writing whole small files, such as those of /proc, and opening the files that are written for users.

`pathlib` reads and writes, too, but takes longer to load.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from typing import Final

__all__ = ["PRIVATE", "give_new_files", "open_output", "read", "write"]

PRIVATE: Final = 0o600
"""The mode of a file that only its owner may read."""

_STREAMS: Final = r"/dev|/proc/\d+/fd"
"""Directories with the system's links to descriptors."""

_new_owner: tuple[int, int] | None = None
"""The user and group of new files; None is those of this process."""


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


def give_new_files(user: int, group: int) -> None:
    """Let this user own the files that `open_output` makes from now on, because this process becomes that user.

    Args:
        user: its number; this process must be root.
        group: number of the files' group.
    """
    global _new_owner
    _new_owner = user, group


def open_output(path: str, access: int = os.O_WRONLY, *, truncate: bool = True, is_for_new_user: bool = True) -> int:
    """Open a file that users read, such as a capture.

    Root may run this, and other users may make files in the directory. So

    - only the owner may read a new file;
    - symbolic links are not followed, except those of the system to descriptors, such as /dev/stdout;
    - in a directory in which every user may make files, such as /tmp, a file of another user is refused, unless that
      user owns the directory: it could be read by that user, or be a FIFO or a hard link. Linux does the same if
      fs.protected_regular, fs.protected_fifos and fs.protected_hardlinks are set.

    For a FIFO or a terminal the descriptor is non-blocking, so that no reader can block us.

    Args:
        path: path of the file.
        access: os.O_WRONLY or os.O_RDWR.
        truncate: whether to empty the file.
        is_for_new_user: whether a new file belongs to the user of `give_new_files`.

    Raises:
        OSError: it cannot be opened.
    """
    flags = access | os.O_CLOEXEC | os.O_NOCTTY
    if not re.fullmatch(_STREAMS, os.path.realpath(os.path.dirname(path))):
        flags |= os.O_NOFOLLOW
    descriptor = _open_or_make(path, flags, is_for_new_user)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.set_blocking(descriptor, False)
        elif truncate:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_or_make(path: str, flags: int, is_for_new_user: bool) -> int:
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE)
    except FileExistsError:
        return _open_existing(path, flags)
    if is_for_new_user and _new_owner is not None and _new_owner[0] != os.geteuid():
        with suppress(OSError):  # a user namespace may not have this user
            os.fchown(descriptor, *_new_owner)
    return descriptor


def _open_existing(path: str, flags: int) -> int:
    if not flags & os.O_NOFOLLOW:
        return os.open(path, flags)
    found, directory = os.lstat(path), os.path.dirname(path)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "sansnet does not follow symbolic links", path)
    _refuse_planted(found, directory, path)  # to open a FIFO would wait for a reader
    if _new_owner is None or found.st_uid != _new_owner[0]:
        flags |= os.O_CREAT  # then Linux applies fs.protected_regular, too
    descriptor = os.open(path, flags, PRIVATE)
    try:
        _refuse_planted(os.fstat(descriptor), directory, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_planted(found: os.stat_result, directory: str, path: str) -> None:
    """Refuse a file that another user may have prepared, in a directory in which every user may make files.

    Raises:
        PermissionError: it may be such a file.
    """
    around = os.stat(directory or ".")
    if not around.st_mode & stat.S_IWOTH:
        return
    ours = os.geteuid() if _new_owner is None else _new_owner[0]
    if found.st_uid not in (os.geteuid(), ours, around.st_uid):
        raise PermissionError(errno.EACCES, "another user's file, in a directory that is open to all", path)
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise PermissionError(errno.EACCES, "a hard link, in a directory that is open to all", path)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # without it, opening a FIFO waits for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
