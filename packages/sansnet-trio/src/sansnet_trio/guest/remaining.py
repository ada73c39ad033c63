"""Processes that are still in a guest's network namespace when its command has ended.

They are found by what /proc says of each process, since neither a session nor a process group holds them together, and
the command is not the first process of a PID namespace. A process is looked at and signalled by the same descriptor, so
that the number of one that ends meanwhile hits nobody else. Our own namespace is never namespace.
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
"""Device and inode of the file that stands for one (namespaces(7))."""

_MAX_PASSES: Final = 10
"""A process may fork while we look at the others; its child is met in the next pass."""


def network_namespace(process: int | str) -> NetworkNamespace:
    """Of a process, by its id.

    Raises:
        OSError: there is no such process, or it is not ours to look at.
    """
    status = os.stat(f"/proc/{process}/ns/net")
    return status.st_dev, status.st_ino


def signal_remaining(namespace: NetworkNamespace, numbers: Iterable[int]) -> bool:
    """Send signals to each process of a network namespace, in that order; whether there was one."""
    if namespace == network_namespace("self"):
        return False
    return sum(_signal(int(name), namespace, numbers) for name in os.listdir("/proc") if name.isdecimal()) > 0


def kill_remaining(namespace: NetworkNamespace) -> None:
    """Kill the processes of a network namespace."""
    for _ in range(_MAX_PASSES):
        if not signal_remaining(namespace, [signal.SIGKILL]):
            break


def _signal(pid: int, namespace: NetworkNamespace, numbers: Iterable[int]) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
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
