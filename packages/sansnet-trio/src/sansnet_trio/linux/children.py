"""The end of a child that may be stopped, and may not be ours to signal any more."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

__all__ = ["end_child", "wait_child"]

_KILL_TIMEOUT: Final = 5.0
"""Seconds that a killed process may take to end. It ends at once, unless the kernel does something for it that cannot
be interrupted."""
_FOREIGN_TIMEOUT: Final = 0.5
"""Seconds for one that ends by itself, since we may not kill it."""
_POLL_INTERVAL: Final = 0.002


def end_child(pid: int) -> None:
    """Kill a child and reap it; SIGKILL ends a stopped one, too. Blocks for some seconds at most."""
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
        pid: of the child.
        timeout: seconds.

    Returns:
        Its status as of `os.waitpid`; None if it still runs, or another part has reaped it.
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
