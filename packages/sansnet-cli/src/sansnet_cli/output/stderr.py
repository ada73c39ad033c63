"""Lines on stderr, without waiting for a reader that does not read.

The stream is the caller's, so it cannot be made non-blocking: that would hold for the caller, too. But a pipe or a
terminal that is ready takes one page (pipe(7)).
"""

from __future__ import annotations

import contextlib
import select
import sys
from typing import Final

__all__ = ["say"]

_PAGE: Final = 4096
_MOMENT: Final = 100
"""Milliseconds for which a reader is waited for; not again until there is room."""

_stuck = False


def say(line: str) -> None:
    """Write a line to stderr, cut to what it takes at once; it is lost if there is no reader."""
    global _stuck
    stream = sys.stderr
    with contextlib.suppress(OSError, ValueError):  # there is no reader
        try:
            ready = select.poll()
            ready.register(stream, select.POLLOUT)
            _stuck = not ready.poll(0 if _stuck else _MOMENT)
        except (OSError, ValueError):  # no descriptor is behind it
            _stuck = False
        if not _stuck:
            stream.write(_cut(line) + "\n")
            stream.flush()


def _cut(line: str) -> str:
    data = line.encode(errors="backslashreplace")
    return line if len(data) < _PAGE else data[: _PAGE - 1].decode(errors="ignore")
