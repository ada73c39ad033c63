"""Processor time and memory of programs with all their processes, and the load of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["Children", "Meter", "adopt_orphans", "busy_processors", "memory", "on_one_processor"]

PR_SET_CHILD_SUBREAPER: Final = 36
"""linux/prctl.h."""


class Meter:
    """The processor time of a program from now on.

    Args:
        processes: returns the program's processes. A thread that ends counts until its time is read for the last time.
    """

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes
        self._before = _times(processes())

    def used(self) -> float:
        """Seconds, in the kernel or not, of all threads."""
        return sum(now - self._before.get(thread, 0) for thread, now in _times(self._processes()).items()) / 1e9


def _times(pids: Iterable[int]) -> dict[str, int]:
    """Nanoseconds that each thread has run: the first number of its `schedstat`."""
    times = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                times[str(statistics)] = int(statistics.read_text().split()[0])
    return times


def memory(pids: Iterable[int]) -> int:
    """Bytes in memory of the processes of a program (proc(5)).

    Memory that several of them share counts once. Of mapped files, which other programs share as well, only those of
    the process with most of them count.
    """
    own, files = 0, 0
    for pid in pids:
        with contextlib.suppress(OSError):
            process = Path(f"/proc/{pid}")
            own += _kibibytes(process / "smaps_rollup", "Pss_Anon:")
            files = max(files, _kibibytes(process / "status", "RssFile:"))
    return (own + files) << 10


def _kibibytes(path: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), 0)


def busy_processors(seconds: float) -> float:
    """How many processors were busy on average for the next seconds."""
    before = _idle_time()
    begin = time.monotonic()
    time.sleep(seconds)
    idle = (_idle_time() - before) / (time.monotonic() - begin)
    return max(0.0, (os.cpu_count() or 1) - idle)


def _idle_time() -> float:
    """Seconds that all processors have been idle, or have waited for a disk (proc(5))."""
    _, _, _, _, idle, waiting, *_ = Path("/proc/stat").read_text().split(maxsplit=7)
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Processes that are started meanwhile share one processor, which this process uses, too."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that their processor time is known."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Children:
    """The processes that are started while this object exists, until `end`. Needs `adopt_orphans`."""

    def __init__(self) -> None:
        self._others = _children()
        self._begin = self._waited()

    def end(self, patience: float) -> float:
        """Wait for those that still run, and return the seconds of processor time of all of them.

        Raises:
            TimeoutError: one of them still runs after `patience` seconds.
        """
        limit = time.monotonic() + patience
        while left := _children() - self._others:
            for pid in left:
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > limit:
                raise TimeoutError(f"process {min(left)} does not end")
            time.sleep(0.002)
        return self._waited() - self._begin

    @staticmethod
    def _waited() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


def _children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}
