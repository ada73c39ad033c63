"""Finding processes in /proc, even if it belongs to another PID namespace and numbers them differently.

That is the case in a PID namespace without a /proc of its own (pid_namespaces(7)). There, only /proc/self and paths
below it are right.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from sansnet_trio.linux import files

__all__ = ["NO_PROC", "has_one_thread", "id_of", "number_of", "open_own", "open_process"]

NO_PROC: Final = "there is no /proc here, which sansnet needs; as root: mount -t proc proc /proc"


def has_one_thread() -> bool:
    """Whether this process has one thread, counting those of C libraries; False if /proc cannot be read."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def open_own() -> int:
    """A descriptor of our own directory in /proc; a process that receives it can find us by it, too.

    Raises:
        OSError: there is no /proc.
    """
    return os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def number_of(pid: int) -> int:
    """The number of a process in /proc, by its id in our PID namespace.

    Raises:
        OSError: there is no such process, or /proc does not show it.
    """
    descriptor = os.pidfd_open(pid)
    try:
        return _read_number(descriptor)
    finally:
        os.close(descriptor)


def id_of(descriptor: int) -> int:
    """The id of a process in our PID namespace, by its descriptor (pidfd_open(2)).

    Raises:
        OSError: it has ended, or is not in our PID namespace.
    """
    depth = len(_read_numbers("self/status")) - 1
    numbers = _read_numbers(f"self/fdinfo/{descriptor}")
    if len(numbers) <= depth:
        raise _no_process()
    return numbers[depth]


def open_process(number: int) -> int:
    """A descriptor of a process (pidfd_open(2)), by its number in /proc.

    Raises:
        OSError: there is no such process, or it is not in our PID namespace.
    """
    depth = len(_read_numbers("self/status")) - 1
    numbers = _read_numbers(f"{number}/status")
    if len(numbers) <= depth:
        raise _no_process()
    descriptor = os.pidfd_open(numbers[depth])
    try:
        if _read_number(descriptor) != number:  # a process of a PID namespace beside ours
            raise _no_process()
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read_numbers(file: str) -> list[int]:
    """The ids of a process in each PID namespace, from that of /proc down to its own, by a file about it in /proc."""
    for line in files.read(f"/proc/{file}").splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    raise _no_process()


def _read_number(descriptor: int) -> int:
    for line in files.read(f"/proc/self/fdinfo/{descriptor}").splitlines():
        if line.startswith("Pid:") and (number := int(line.split()[1])) > 0:
            return number
    raise _no_process()


def _no_process() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
