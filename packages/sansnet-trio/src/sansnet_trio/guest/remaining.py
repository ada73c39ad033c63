"""Ending the processes that remain in a guest's network namespace after its command has ended.

They are found in /proc, since they need not share a session or process group, and the command is not the first process
of a PID namespace. Each process is checked and signalled through one descriptor, so that no other process is hit if its
id is used again. Processes in our own namespace are never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Final

from sansnet_trio.linux import proc

__all__ = ["NetworkNamespace", "kill_remaining", "network_namespace", "signal_remaining"]

NetworkNamespace = tuple[int, int]
"""Device and inode of the namespace's file (namespaces(7))."""

_MAX_PASSES: Final = 10
"""A process may fork while others are checked; the next pass finds its child."""


def network_namespace(process: int | str) -> NetworkNamespace:
    """The network namespace of a process, by its number in /proc, or of this process (`self`).

    Raises:
        OSError: there is no such process, or we may not inspect it.
    """
    status = os.stat(f"/proc/{process}/ns/net")
    return status.st_dev, status.st_ino


def signal_remaining(namespace: NetworkNamespace, numbers: Iterable[int]) -> bool:
    """Send signals, in order, to each process of a network namespace; whether there was a process."""
    if namespace == network_namespace("self"):
        return False
    return sum(_signal(int(name), namespace, numbers) for name in os.listdir("/proc") if name.isdecimal()) > 0


def kill_remaining(namespace: NetworkNamespace) -> None:
    """Kill the processes of a network namespace."""
    for _ in range(_MAX_PASSES):
        if not signal_remaining(namespace, [signal.SIGKILL]):
            break


def _signal(pid: int, namespace: NetworkNamespace, numbers: Iterable[int]) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or we may not inspect it
        if network_namespace(pid) != namespace:
            return False
        descriptor = proc.open_process(pid)
        try:
            if network_namespace(pid) != namespace:
                return False
            for number in numbers:
                signal.pidfd_send_signal(descriptor, number)
            return True
        finally:
            os.close(descriptor)
    return False
