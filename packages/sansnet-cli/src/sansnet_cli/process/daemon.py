"""Going to the background when everything works; with it pid files, and the change of the user.

Theory of operation. The process that the caller waits for forks early, and waits itself:

    caller's process                        daemon
    fork ---------------------------------> a session of its own; opens, binds and configures everything
    (reads the pipe)                        stdin, stdout and stderr become /dev/null
    writes the pid file <------------------ one byte: everything works
    exits with 0                            serves

If the daemon ends before that byte, the caller's process exits with its status; the daemon has explained it on the
caller's stderr. Until then the daemon ends when the caller's process ends. Afterwards it has none of the caller's
descriptors, because the caller may wait for the end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
from collections.abc import Callable
from typing import Final

from sansnet_cli.process.inherited import close_named
from sansnet_core.errors import SansnetError
from sansnet_trio.hostinfo import HostError
from sansnet_trio.linux import files, syscalls
from sansnet_trio.linux.children import end_child, wait_child
from sansnet_trio.linux.descriptors import wait_readable
from sansnet_trio.linux.files import open_output

__all__ = [
    "Identity",
    "IdentityError",
    "PidFile",
    "run_in_background",
    "system_root",
    "unwritable",
]

_STREAMS: Final = (0, 1, 2)
_NOBODY: Final = 65534

_READY_TIMEOUT: Final = 60
"""Seconds within which everything must work. Usually less than one is enough; tens of thousands of ports take some."""
_END_TIMEOUT: Final = 5.0
"""Seconds that a daemon may take to end after it has closed its descriptors."""
_HEAD_START: Final = 20
"""Milliseconds that the daemon waits for the end of the caller's process, which takes one or two."""


class PidFile:
    """A file for a process id. It is opened now, because a later user may lack the permission.

    It does not belong to that user, who could write the id of any process there for root to end.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._fd = open_output(path, is_for_new_user=False)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):  # the caller may wait for the end of a pipe
            close_named(path)

    def write(self, pid: int) -> None:
        """Write a process id, and close the file."""
        os.write(self._fd, b"%d\n" % pid)
        self.close()

    def close(self) -> None:
        """Close the file without writing; another process has it, too."""
        os.close(self._fd)


def run_in_background(work: Callable[[Callable[[], None]], int], pid_file: PidFile | None) -> int:
    """Do work in a child that stays, and return in both processes.

    Args:
        work: done in the child. It calls its argument once, when everything works.
        pid_file: gets the child's process id after that.

    Raises:
        HostError: in the parent: the child does not answer, or a signal ended it.

    Returns:
        The exit status for this process. In the parent it is 0 if everything works, and otherwise the child's status;
        in the child it is the result of the work.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        if pid_file is not None:
            pid_file.close()
        os.setsid()
        syscalls.set_parent_death_signal(signal.SIGTERM)
        if os.getppid() != parent:
            return 1
        null = os.open(os.devnull, os.O_RDWR)
        return work(lambda: _release_caller(writer, null))
    os.close(writer)
    if not wait_readable(reader, _READY_TIMEOUT):
        end_child(pid)
        raise HostError(f"the process in the background has not answered for {_READY_TIMEOUT} s; try again")
    if os.read(reader, 1):
        try:
            if pid_file is not None:
                pid_file.write(pid)
        except OSError as error:
            os.kill(pid, signal.SIGTERM)
            if wait_child(pid, _END_TIMEOUT) is None:
                end_child(pid)
            raise unwritable(error) from error
        return 0
    status = wait_child(pid, _END_TIMEOUT)
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        raise HostError(f"signal {-code} ended the process in the background; try again")
    return max(code, 1)


def unwritable(error: OSError) -> HostError:
    """The error for an open pid file that cannot be written."""
    return HostError(f"the pid file cannot be written ({error.strerror}); give another one")


def _release_caller(writer: int, null: int) -> None:
    """Detach from the caller's process and its streams, and let it return.

    The daemon then loads modules, which keeps a processor busy. So it waits until the caller's process has ended, which
    would otherwise have to wait for a processor.

    Args:
        writer: the end of the pipe that the caller's process reads.
        null: /dev/null, open.
    """
    syscalls.set_parent_death_signal(0)
    os.chdir("/")
    for number in _STREAMS:
        os.dup2(null, number)
    os.close(null)
    os.write(writer, b"+")
    end = select.poll()
    end.register(writer, 0)  # it reports POLLERR when the other end is closed
    end.poll(_HEAD_START)
    os.close(writer)


class IdentityError(SansnetError, ValueError):
    """The user or group does not exist; the message names it."""


class Identity:
    """A user and a group to become.

    Args:
        text: UID[:GID] or LOGIN[:GROUP]; without a group, it is the user's own.

    Raises:
        IdentityError: the user or group does not exist.
    """

    def __init__(self, text: str) -> None:
        import grp
        import pwd

        user, colon, group = text.partition(":")
        try:
            if user.isdecimal():
                self.uid = self.gid = int(user)
            else:
                entry = pwd.getpwnam(user)
                self.uid, self.gid = entry.pw_uid, entry.pw_gid
            if colon:
                self.gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise IdentityError(f"{text!r} is not a user or group of this host") from None

    @classmethod
    def nobody(cls) -> Identity:
        """The user `nobody`, by its usual number if the system has no such name."""
        try:
            return cls("nobody")
        except IdentityError:
            return cls(f"{_NOBODY}")

    def assume(self) -> None:
        """Become this user and group permanently.

        Raises:
            OSError: that is not permitted.
        """
        if (os.geteuid(), os.getegid()) != (self.uid, self.gid):
            with contextlib.suppress(PermissionError):  # not allowed in a user namespace with one group
                os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)


def system_root() -> bool:
    """Whether this process is root of the whole system, and not only of a user namespace."""
    if os.geteuid():
        return False
    with contextlib.suppress(OSError):
        return files.read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
    return True
