"""Names in directories, such as socket files, that this process has made and removes at its end.

It may not be allowed to remove them itself any more. Then another process takes them over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sansnet_trio.linux.temporary import make_directory

__all__ = ["OwnName", "take", "temporary_directory"]

_names: Final[list[OwnName]] = []


class OwnName:
    """A name that this process has made.

    Args:
        path: its path, absolute: the working directory may be another one at the end.
        is_ours: tells whether it still leads to what this process has made there; may raise OSError.
        delete: removes it; None is `os.unlink`.
    """

    def __init__(
        self, path: str, is_ours: Callable[[], bool] = lambda: True, delete: Callable[[str], None] | None = None
    ) -> None:
        self.path = path
        self._is_ours = is_ours
        self._delete = delete
        _names.append(self)

    def remove(self) -> None:
        """Remove it if it is still ours. A second call does nothing, nor does one after `take`."""
        if self in _names:
            _names.remove(self)
            self.remove_now()

    def remove_now(self) -> None:
        """Remove it if it is still ours, after `take`. A name that cannot be removed stays."""
        with suppress(OSError):
            if self._is_ours():
                (self._delete or os.unlink)(self.path)


def take() -> tuple[OwnName, ...]:
    """All names that this process has made and not removed, in this order. The caller removes them from now on."""
    taken = tuple(_names)
    _names.clear()
    return taken


@contextmanager
def temporary_directory(parent: str | None = None) -> Iterator[str]:
    """A new directory for sockets, as long as the block runs; only this user may enter it.

    Args:
        parent: path of its parent; None is the directory for temporary files.

    Raises:
        OSError: it cannot be made.
    """
    path = make_directory("sansnet-", parent)
    made = OwnName(path, delete=os.rmdir)
    try:
        yield path
    finally:
        made.remove()
