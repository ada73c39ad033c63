"""Lines on stderr, without blocking if its reader does not read.

Stderr cannot be made non-blocking, because that would change it for the caller, too. But a pipe or terminal that
poll(2) reports as writable takes at least one page (pipe(7)).
"""

from __future__ import annotations

import contextlib
import select
import sys
from typing import Final

__all__ = ["say"]

_PAGE: Final = 4096
_TIMEOUT: Final = 100
"""Milliseconds to wait for the reader. If it does not read, later lines do not wait until there is room again."""

_stuck = False


def say(line: str) -> None:
    """Write a line to stderr, cut to one page. It is lost if there is no reader."""
    global _stuck
    stream = sys.stderr
    with contextlib.suppress(OSError, ValueError):  # the reader is gone
        try:
            ready = select.poll()
            ready.register(stream, select.POLLOUT)
            _stuck = not ready.poll(0 if _stuck else _TIMEOUT)
        except (OSError, ValueError):  # a stream without a descriptor
            _stuck = False
        if not _stuck:
            stream.write(_cut(line) + "\n")
            stream.flush()


def _cut(line: str) -> str:
    data = line.encode(errors="backslashreplace")
    return line if len(data) < _PAGE else data[: _PAGE - 1].decode(errors="ignore")
