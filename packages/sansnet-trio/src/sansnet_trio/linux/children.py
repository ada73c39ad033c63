"""Ending child processes, even stopped ones and those that this process may not signal any more."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final

__all__ = ["ProcessHandle", "end_child", "wait_child"]

_KILL_TIMEOUT: Final = 5.0
"""Seconds that a killed process may take to end; it takes them only in a system call that cannot be interrupted."""
_FOREIGN_TIMEOUT: Final = 0.5
"""Seconds for a process that ends by itself, since we may not kill it."""
_POLL_INTERVAL: Final = 0.002


class ProcessHandle:
    """A process, by a descriptor of it (pidfd_open(2)): a child, or a child of another process of ours.

    Args:
        descriptor: the descriptor; `end` closes it.
        pid: its process id; 0 if it is unknown.
    """

    def __init__(self, descriptor: int, pid: int = 0) -> None:
        self.descriptor = descriptor
        self.pid = pid

    @classmethod
    def of_child(cls, pid: int) -> ProcessHandle:
        """The handle of a child, by its process id.

        Raises:
            OSError: no descriptor is left. The child has been ended.
        """
        try:
            return cls(os.pidfd_open(pid), pid)
        except OSError:
            end_child(pid)
            raise

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.descriptor >= 0 and not self._wait(0)

    def end(self) -> None:
        """Kill it, even if it is stopped, and reap a child. Blocks for a few seconds at most.

        A second call does nothing.
        """
        if self.descriptor < 0:
            return
        timeout = _KILL_TIMEOUT
        try:
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)
        except PermissionError:
            timeout = _FOREIGN_TIMEOUT
        except ProcessLookupError:
            pass
        self._wait(timeout)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOHANG)
        os.close(self.descriptor)
        self.descriptor = -1

    def _wait(self, timeout: float) -> bool:
        """Whether it ends within some seconds."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


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
