"""Ending child processes, even stopped ones and those that this process may not signal any more."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

__all__ = ["end_child", "wait_child"]

_KILL_TIMEOUT: Final = 5.0
"""Seconds that a killed process may take to end; it takes them only in a system call that cannot be interrupted."""
_FOREIGN_TIMEOUT: Final = 0.5
"""Seconds for a process that ends by itself, since we may not kill it."""
_POLL_INTERVAL: Final = 0.002


def end_child(pid: int) -> None:
    """Kill a child, even a stopped one, and reap it. Blocks for a few seconds at most."""
    timeout = _KILL_TIMEOUT
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        timeout = _FOREIGN_TIMEOUT
    except ProcessLookupError:
        pass
    wait_child(pid, timeout)


def wait_child(pid: int, timeout: float) -> int | None:
    """Wait for the end of a child for a bounded time.

    Args:
        pid: process id of the child.
        timeout: seconds.

    Returns:
        The status from `os.waitpid`; None if the child still runs, or has been reaped elsewhere.
    """
    deadline = time.monotonic() + timeout
    with suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_INTERVAL)
    return None
