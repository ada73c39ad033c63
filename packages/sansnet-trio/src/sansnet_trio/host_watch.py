"""Reports that the host's network may have changed: its links, addresses, routes, and some of its files.

Theory of operation. A netlink socket reports links, addresses and routes (rtnetlink(7)); inotify(7) reports files. Each
file is watched by name in every directory that leads to it over symbolic links, since another file may be renamed over
it, and by itself, since it may be changed through another path. The messages are not evaluated: after a report, the
caller reads everything again. So nothing is lost if the kernel drops messages, and many cost no more than one.

A report waits for the end of a burst. Between two reports there is a pause, which grows with the time that the caller
takes to read everything.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import time
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple

import trio

from sansnet_core.errors import UsageError
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.rtnetlink import subscribe

__all__ = ["HostWatch"]

_MAX_MESSAGES: Final = 256
"""Messages to read in one go. In a storm of changes new ones arrive as fast as they are read."""

_CHANGES: Final = (
    syscalls.IN_CREATE
    | syscalls.IN_MOVED_TO
    | syscalls.IN_MOVED_FROM
    | syscalls.IN_DELETE
    | syscalls.IN_CLOSE_WRITE
    | syscalls.IN_DELETE_SELF
    | syscalls.IN_MOVE_SELF
)
_FILE_CHANGES: Final = (
    syscalls.IN_MODIFY | syscalls.IN_CLOSE_WRITE | syscalls.IN_ATTRIB | syscalls.IN_DELETE_SELF | syscalls.IN_MOVE_SELF
)
_EVENT: Final = Struct("=iIII")  # watch, mask, cookie, length of the name
_EVENTS_SIZE: Final = 1 << 16

_MAX_LINKS: Final = 40
"""Symbolic links on the way to one file, as in the kernel (MAXSYMLINKS)."""

_BURST_GAP: Final = 0.1
"""Seconds without a change after which a burst is over."""
_MAX_BURST: Final = 1.0
"""Seconds after which a burst is reported although it goes on."""
_MIN_PAUSE: Final = 0.5
"""Seconds between two reports, at least."""
_PAUSE_FACTOR: Final = 10
_MAX_PAUSE: Final = 60.0
"""A pause is `_PAUSE_FACTOR` times as long as the work after the last report, but not longer than `_MAX_PAUSE`."""

_POLL_INTERVAL: Final = 5.0
"""Seconds between checks of the files, if no inotify watch is available."""


class _Burst(NamedTuple):
    """The times of the first and the last change of a burst."""

    first: float
    last: float


class HostWatch(Uncopyable):
    """Watches the calling thread's network namespace, and files. Close it, or use it as a context manager.

    Args:
        paths: the files to watch.
        changes: a socket from `rtnetlink.subscribe`, with the changes since then; None makes a new one. `close` closes
            it.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self, paths: Iterable[str], changes: socket.socket | None = None) -> None:
        if isinstance(paths, str):
            raise UsageError(f"paths: {paths!r} is one path; give ({paths!r},)")
        self._paths = tuple(paths)
        self._stack = contextlib.ExitStack()
        self._names: dict[int, set[str] | None] = {}
        """For each watch, the relevant names in a directory; None for a file."""
        self._states: list[tuple[int, ...]] = []
        self._changed = False
        self._burst: _Burst | None = None
        self._reported: float | None = None
        self._next = -math.inf
        """Earliest time of the next report."""
        with contextlib.ExitStack() as stack:
            self._poll = select.epoll()
            stack.callback(self._poll.close)
            self._netlink = changes or subscribe()
            stack.callback(self._netlink.close)
            self._poll.register(self._netlink.fileno(), select.EPOLLIN)
            self._inotify: int | None = None
            stack.callback(self._unwatch_files)
            self._watch_files()
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        self._stack.close()

    def __enter__(self) -> HostWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def wait(self) -> bool:
        """Wait until something may have changed since the last report.

        Returns:
            Whether one of the files may have changed.
        """
        while (changed := self.poll()) is None:
            with trio.move_on_after(max(self.due() - time.monotonic(), 0)):
                if self.is_listening():
                    await trio.lowlevel.wait_readable(self._poll.fileno())
                else:
                    await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return changed

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to `poll`, while `is_listening`."""
        return self._poll.fileno()

    def is_listening(self) -> bool:
        """Whether changes are of interest now, and not in a pause."""
        return time.monotonic() >= self._next

    def due(self) -> float:
        """The time (`time.monotonic`) of the next `poll` if the descriptor does not become readable before."""
        if not self.is_listening():
            return self._next
        if self._burst is not None:
            return min(self._burst.last + _BURST_GAP, self._burst.first + _MAX_BURST)
        return math.inf if self._inotify is not None else time.monotonic() + _POLL_INTERVAL

    def poll(self) -> bool | None:
        """`wait` for programs without trio: call it again when the descriptor is readable, or at the time of `due`.

        Returns:
            None if there is no report yet; otherwise whether one of the files may have changed.
        """
        now = time.monotonic()
        if self._reported is not None:  # first call after the report
            self._next = now + min(max(_MIN_PAUSE, _PAUSE_FACTOR * (now - self._reported)), _MAX_PAUSE)
            self._reported = None
        if now < self._next:
            return None
        if self._drain():
            self._burst = _Burst(now if self._burst is None else self._burst.first, now)
        if self._burst is None or now < min(self._burst.last + _BURST_GAP, self._burst.first + _MAX_BURST):
            return None
        self._burst = None
        self._reported = time.monotonic()
        changed, self._changed = self._changed, False
        if changed:
            self._watch_files()  # symbolic links may lead to other directories now
        return changed

    def _drain(self) -> bool:
        """Read all messages; whether one is relevant."""
        matters = self._drain_netlink()
        if self._drain_files():
            self._changed = matters = True
        return matters

    def _drain_netlink(self) -> bool:
        for count in range(_MAX_MESSAGES):
            try:
                self._netlink.recv(1)
            except BlockingIOError:
                return count > 0
            except OSError:  # ENOBUFS: the kernel dropped messages
                return True
        return True

    def _drain_files(self) -> bool:
        if self._inotify is None:
            states = self._file_states()
            changed, self._states = states != self._states, states
            return changed
        changed = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._inotify, _EVENTS_SIZE):
                changed = any(self._is_relevant(*event) for event in _events(data)) or changed
        return changed

    def _is_relevant(self, watch: int, name: str) -> bool:
        """Whether an event concerns one of the files. An event without a name concerns the watched file itself."""
        names = self._names.get(watch)
        return not name or names is None or name in names

    def _watch_files(self) -> None:
        """Watch the files, and the directories that lead to them now."""
        self._unwatch_files()
        try:
            self._inotify = syscalls.inotify_new()
            for path in self._paths:
                for directory, name in _path_steps(path):
                    watch = syscalls.inotify_add(self._inotify, directory, _CHANGES)
                    names = self._names.setdefault(watch, set())
                    if names is not None:
                        names.add(name)
                if os.path.exists(path):
                    self._names[syscalls.inotify_add(self._inotify, path, _FILE_CHANGES)] = None
            self._poll.register(self._inotify, select.EPOLLIN)
        except OSError:  # no watch is left
            self._unwatch_files()
            self._states = self._file_states()

    def _unwatch_files(self) -> None:
        self._names.clear()
        if self._inotify is not None:
            os.close(self._inotify)
            self._inotify = None

    def _file_states(self) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError:
                found.append(())
            else:
                found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
        return found


def _path_steps(path: str) -> Iterator[tuple[str, str]]:
    """Yield directory and name of a file, and of each file that a symbolic link on the way leads to.

    For a missing directory, its nearest existing parent and the next name below that are yielded.
    """
    for _ in range(_MAX_LINKS):
        directory, name = os.path.split(path)
        while not os.path.isdir(directory):
            directory, name = os.path.split(directory)
        yield directory, name
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return


def _events(data: bytes) -> Iterator[tuple[int, str]]:
    start = 0
    while start < len(data):
        watch, _, _, length = _EVENT.unpack_from(data, start)
        start += _EVENT.size
        yield watch, os.fsdecode(data[start : start + length].rstrip(b"\0"))
        start += length
