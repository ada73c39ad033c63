"""The reaper, the parent of a guest's processes: process 1 of its PID namespace, or a process that adopts orphans.

Theory of operation. The reaper is the parent of the command, and becomes that of all processes that the command leaves.
It reaps them, and reports how the command stops, continues and ends. It ends the others when it is asked to, and when
our process has ended, however that happened.

    our process                       reaper
    <-------------------------------- "ready": it is isolated
    <-------------------------------- the command has stopped, has been continued, has ended
    signal, or continue ------------> send a signal to the command, or continue its process group
    end ----------------------------> SIGTERM and SIGCONT to all others; after 0.5 s end
    close the socket ---------------> end

With a PID namespace, the kernel kills all its processes when the reaper ends, and none of them can kill, stop or trace
the reaper. Without one, it kills its descendants, which it finds in /proc. Its memory is a copy of ours; it is not
dumpable, so the guest cannot read that. It keeps one descriptor; and that of root's guest keeps CAP_KILL in the guest's
user namespace, since the command may leave processes of other users. It stays in our session, and in our process group
if there is a terminal: otherwise the command's group would be an orphaned one, which a terminal cannot stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple, NoReturn, Protocol

from sansnet_trio.guest import helper_process
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux import files, syscalls
from sansnet_trio.linux.descriptors import Uncopyable, wait_readable
from sansnet_trio.linux.privileges import CAP_KILL

__all__ = ["GRACE", "Report", "Reaper", "become_reaper"]

GRACE: Final = 0.5
"""Seconds between SIGTERM and SIGKILL for processes that the command left."""
_KILL_TIMEOUT: Final = 5.0
"""Seconds that killed processes may take to end; they take them only in system calls that cannot be interrupted."""
_POLL_INTERVAL: Final = 0.01
"""Seconds between two looks at processes that end."""
_BATCH: Final = 64
"""Children that are reaped before the channel is looked at again: a guest may make them without end."""

_MESSAGE: Final = Struct("=ii")  # in both directions: its kind, and a number
_READY: Final = 0
"""A report. The other kinds of reports are CLD_* of waitid(2), with the status or signal."""
_SIGNAL, _CONTINUE, _END = range(3)
"""Kinds of requests."""
_STOPS: Final = frozenset({os.CLD_STOPPED, os.CLD_CONTINUED})

_NAME: Final = "sansnet-reaper"
_ARGUMENTS: Final = slice(45, 47)
"""In /proc/PID/stat, after the name: the addresses where the arguments begin and end."""
_ENVIRONMENT: Final = slice(47, 49)


class Report(NamedTuple):
    """A change of the command's state.

    Attributes:
        kind: os.CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_STOPPED or CLD_CONTINUED.
        number: the exit status, or the signal.
    """

    kind: int
    number: int

    @property
    def status(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None if it has not ended."""
        if self.kind == os.CLD_EXITED:
            return self.number
        return -self.number if self.kind in (os.CLD_KILLED, os.CLD_DUMPED) else None


class Reaper(Uncopyable):
    """The handle of a reaper, a child of ours. Close it: that ends the reaper and all processes of the guest.

    Args:
        pid: process id of the reaper.
        channel: our end of the socket to it.
        alone: whether the guest's processes have a PID namespace of their own.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self, pid: int, channel: socket.socket, *, alone: bool) -> None:
        self._channel = channel
        self._alone = alone
        self._pid = pid
        self._pidfd = -1
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """A descriptor that is readable when there is a report."""
        return self._channel.fileno()

    @property
    def end_descriptor(self) -> int:
        """A descriptor that is readable when the reaper has ended, and with it the guest's processes."""
        return self._pidfd

    def has_others(self) -> bool:
        """Whether the guest has other processes, or may have some: its orphans are children of the reaper."""
        try:
            return bool(files.read(f"/proc/{self._pid}/task/{self._pid}/children"))
        except OSError:  # /proc is not mounted, hides the reaper, or has no such files
            return True

    def wait_ready(self, timeout: int) -> None:
        """Block until the reaper is isolated.

        Raises:
            GuestError: it is not in time, or was killed.
        """
        if not wait_readable(self.fileno(), timeout):
            raise GuestError.unanswered(timeout)
        if not self._channel.recv(_MESSAGE.size):
            raise GuestError.killed()

    def reports(self) -> list[Report]:
        """The reports that have arrived. If the reaper has ended, the last one says that it was killed."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._channel.recv(_MESSAGE.size, socket.MSG_DONTWAIT)
                except ConnectionResetError:  # it has ended with a request unread; its reports follow
                    continue
                found.append(Report(*_MESSAGE.unpack(data)) if data else Report(os.CLD_KILLED, signal.SIGKILL))
                if not data:
                    break
        return found

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, also one that we may not signal ourselves."""
        self._ask(_SIGNAL, number)

    def continue_command(self) -> None:
        """Continue the command and its process group."""
        self._ask(_CONTINUE)

    def end(self) -> None:
        """Let the reaper end all processes of the guest, and itself."""
        self._ask(_END)

    def wake(self) -> None:
        """Continue the reaper itself, if another process has stopped it."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the reaper."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """End the reaper, and kill all processes of the guest. Blocks for a few seconds at most."""
        self._channel.close()
        if self._pidfd < 0:
            return
        if self._alone or not self._wait(_KILL_TIMEOUT):
            self.kill()
            self._wait(_KILL_TIMEOUT)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        self._pidfd = -1

    def _ask(self, request: int, number: int = 0) -> None:
        with contextlib.suppress(OSError):  # it has ended, or has been stopped for long
            self._channel.send(_MESSAGE.pack(request, number), socket.MSG_DONTWAIT)

    def _wait(self, seconds: float) -> bool:
        self.wake()
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


# the reaper's part


def become_reaper(channel: socket.socket, command: int, *, alone: bool, users: bool) -> NoReturn:
    """Run the reaper until the other end of the channel is closed, or it is asked to end.

    All signals must be blocked. Without a PID namespace, this process must adopt orphans already.

    Args:
        channel: the reaper's end of the socket.
        command: process id of the command.
        alone: whether this is process 1 of a PID namespace.
        users: whether processes of the guest may have other users than this one.
    """
    try:
        gc.disable()  # finalizers of the parent's garbage could close descriptors that this process opens
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, there is nothing to wait for
        os.chdir("/")
        syscalls.set_name(_NAME)
        with contextlib.suppress(OSError):  # there is no /proc, as the other child reports
            _forget_arguments()
        helper_process.keep_only(channel.fileno(), {CAP_KILL} if users else ())
        if not alone:
            syscalls.set_parent_death_signal(0)  # to end the guest's processes then
        reaping = _Reaping(channel, command, _Namespace() if alone else _Descendants())
        from sansnet_trio.sandbox import chosen, confine
        from sansnet_trio.sandbox.profiles import REAPER

        confine(REAPER, chosen())
        reaping.run()
    finally:
        os._exit(0)


def _forget_arguments() -> None:
    """Overwrite the arguments and the environment of this process, which `ps` in the guest would show."""
    fields = files.read("/proc/self/stat").rpartition(")")[2].split()
    for part, text in ((_ARGUMENTS, _NAME), (_ENVIRONMENT, "")):
        begin, end = map(int, fields[part])
        if 0 < begin < end:
            data = text.encode()[: end - begin - 1]
            ctypes.memmove(begin, data.ljust(end - begin, b"\0"), end - begin)


class _Others(Protocol):
    """The processes that the command leaves."""

    def ask(self) -> bool:
        """Send SIGTERM to those that have not got it yet, and SIGCONT, since a stopped process handles it only then.

        Returns:
            Whether there is one.
        """

    def kill(self) -> bool:
        """Kill them; whether that has to be repeated."""


class _Namespace:
    """All other processes of a PID namespace, seen by its process 1."""

    def __init__(self) -> None:
        self._numbers = [signal.SIGTERM, signal.SIGCONT]

    def ask(self) -> bool:
        numbers, self._numbers = self._numbers, []
        try:
            for number in [*numbers, 0]:
                os.kill(-1, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        return False  # the kernel does that when process 1 ends


class _Descendants:
    """The children of this process; those of a child become ours when it ends."""

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._file = -1  # if there is none, or it has ids of another PID namespace, they cannot be found
        with contextlib.suppress(OSError):
            if os.readlink("/proc/self") == str(os.getpid()):
                self._file = os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC)

    def ask(self) -> bool:
        pids = self._find()
        self._send(pids - self._asked, (signal.SIGTERM, signal.SIGCONT))
        self._asked = pids
        return bool(pids)

    def kill(self) -> bool:
        pids = self._find()
        self._send(pids, (signal.SIGKILL,))
        return bool(pids)

    def _find(self) -> set[int]:
        found = b""
        with contextlib.suppress(OSError):
            os.lseek(self._file, 0, os.SEEK_SET)
            while data := os.read(self._file, 1 << 16):
                found += data
        return {int(word) for word in found.split()}

    def _send(self, pids: Iterable[int], numbers: Iterable[int]) -> None:
        for pid in pids:
            for number in numbers:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)


class _Reaping:
    """The reaper's loop."""

    def __init__(self, channel: socket.socket, command: int, others: _Others) -> None:
        self._channel = channel
        self._command = command
        """Its process id; 0 when it has ended."""
        self._others = others
        self._changes = syscalls.signal_descriptor({signal.SIGCHLD})
        self._events = select.epoll()  # poll(2) fails when the guest lowers our limit on descriptors
        for descriptor in (self._changes, channel.fileno()):
            self._events.register(descriptor, select.EPOLLIN)
        self._is_open = self._more = True
        self._reports: list[tuple[int, int]] = [(_READY, 0)]
        """Those that have not been sent."""
        self._deadline: float | None = None
        """When the guest's processes are killed, if they are being ended."""

    def run(self) -> None:
        """Run until the guest has ended."""
        while not self._is_over():
            with contextlib.suppress(MemoryError):  # the guest may lower our limits
                self._do_next()

    def _do_next(self) -> None:
        if self._is_open:
            self._events.modify(self._channel, select.EPOLLIN | (select.EPOLLOUT if self._reports else 0))
        self._events.poll(0 if self._more else None if self._deadline is None else _POLL_INTERVAL)
        with contextlib.suppress(BlockingIOError):
            os.read(self._changes, 1 << 12)
        self._more = self._reap()
        self._send_reports()
        if self._is_open and not self._answer():
            self._events.unregister(self._channel)
            self._is_open, self._deadline = False, time.monotonic()

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        now = time.monotonic()
        if now < self._deadline:
            return not self._others.ask()
        return now > self._deadline + _KILL_TIMEOUT or not self._others.kill()

    def _reap(self) -> bool:
        """Reap children that have ended; whether there may be more of them."""
        for _ in range(_BATCH):
            try:
                change = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            except ChildProcessError:
                return False
            if change is None:
                return False
            if change.si_pid == self._command:
                self._report(change.si_code, change.si_status)
        return True

    def _report(self, kind: int, number: int) -> None:
        """Report a change of the command; of several stops that have not been sent, only the last."""
        if kind in _STOPS:
            if os.getpgid(self._command) == os.getpgrp():
                return  # our process is in the same group, so the terminal stops it with the command
            if self._reports and self._reports[-1][0] in _STOPS:
                self._reports.pop()
        else:
            self._command = 0
        self._reports.append((kind, number))

    def _send_reports(self) -> None:
        with contextlib.suppress(OSError):  # its buffer is full, or the other end is closed
            while self._reports:
                self._channel.send(_MESSAGE.pack(*self._reports[0]), socket.MSG_DONTWAIT)
                self._reports.pop(0)

    def _answer(self) -> bool:
        """Do what is asked for; False when the other end is closed."""
        try:
            data = self._channel.recv(_MESSAGE.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if len(data) != _MESSAGE.size:
            return False
        request, number = _MESSAGE.unpack(data)
        if request == _END and self._deadline is None:
            self._deadline = time.monotonic() + GRACE
        elif request == _SIGNAL and self._command:
            with contextlib.suppress(OSError):
                os.kill(self._command, number)
        elif request == _CONTINUE and self._command:
            with contextlib.suppress(OSError):
                group = os.getpgid(self._command)
                os.kill(-group if group > 1 else self._command, signal.SIGCONT)
        return True
