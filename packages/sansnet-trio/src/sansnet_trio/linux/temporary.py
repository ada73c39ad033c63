"""Temporary files and directories with names that cannot be guessed.

Like `tempfile` of the standard library, which also loads modules for compression.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["make_directory", "make_file", "temporary"]

T = TypeVar("T")

_VARIABLES: Final = ("TMPDIR", "TEMP", "TMP")
_DIRECTORIES: Final = ("/tmp", "/var/tmp", "/usr/tmp")
_ATTEMPTS: Final = 100
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary() -> str:
    """The directory for temporary files: of TMPDIR, TEMP or TMP, or else /tmp, /var/tmp or /usr/tmp.

    Raises:
        FileNotFoundError: no file can be made in any of them.
    """
    named = (os.environ.get(name) for name in _VARIABLES)
    for path in [os.path.abspath(name) for name in named if name] + [*_DIRECTORIES]:
        if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            return path
    raise FileNotFoundError(errno.ENOENT, "there is no directory for temporary files; set TMPDIR")


def make_directory(prefix: str, parent: str | None = None) -> str:
    """Make a new directory that only this user may enter.

    Args:
        prefix: the beginning of its name.
        parent: path of its parent; None is `temporary`.

    Returns:
        Its absolute path.

    Raises:
        OSError: it cannot be made.
    """

    def make(path: str) -> str:
        os.mkdir(path, 0o700)
        return path

    return _new(os.path.abspath(parent or temporary()), prefix, "", make)


def make_file(prefix: str, suffix: str, directory: str) -> tuple[str, int]:
    """Make a new file that only this user may open.

    Args:
        prefix: the beginning of its name.
        suffix: the end of its name.
        directory: path of its directory.

    Returns:
        Its path, and a descriptor to read and write it, closed on exec.

    Raises:
        OSError: it cannot be made.
    """
    return _new(directory, prefix, suffix, lambda path: (path, os.open(path, _FLAGS, 0o600)))


def _new(directory: str, prefix: str, suffix: str, make: Callable[[str], T]) -> T:
    for _ in range(_ATTEMPTS):
        try:
            return make(os.path.join(directory, f"{prefix}{os.urandom(6).hex()}{suffix}"))
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), directory)
