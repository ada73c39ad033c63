"""The terminal that controls this process. It is opened once, because a confined process can open no file."""

from __future__ import annotations

import os
from functools import cache

__all__ = ["find", "foreground_group"]


@cache
def find() -> int | None:
    """A descriptor of the terminal, closed on exec; None if there is none. The first call opens it."""
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def foreground_group() -> int | None:
    """The process group in the foreground of the terminal; None if there is no terminal, or it has been closed."""
    terminal = find()
    try:
        return None if terminal is None else os.tcgetpgrp(terminal)
    except OSError:
        return None
