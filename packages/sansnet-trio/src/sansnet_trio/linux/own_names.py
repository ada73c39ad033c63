"""Names in directories, such as socket files, that this process has made and removes at its end.

It may not be allowed to remove them itself any more. Then another process takes them over.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["OwnName", "take"]

_names: Final[list[OwnName]] = []


class OwnName:
    """A name that this process has made.

    Args:
        path: its path, absolute: the working directory may be another one at the end.
        is_ours: tells whether it still leads to what this process has made there; may raise OSError.
        delete: removes it.
    """

    def __init__(
        self, path: str, is_ours: Callable[[], bool] = lambda: True, delete: Callable[[str], None] = os.unlink
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
                self._delete(self.path)


def take() -> tuple[OwnName, ...]:
    """All names that this process has made and not removed, in this order. The caller removes them from now on."""
    taken = tuple(_names)
    _names.clear()
    return taken
