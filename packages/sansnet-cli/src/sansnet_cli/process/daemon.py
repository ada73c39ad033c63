"""Going to the background when everything works, and what surrounds that: the pid file, descriptors, who we are.

Theory of operation. The process that the caller waits for forks before it has loaded or opened much, and waits itself:

    caller's process                        daemon
    fork ---------------------------------> a session of its own; opens, binds and configures everything
    (reads the pipe)                        stdin, stdout and stderr become /dev/null
    writes the pid file <------------------ one byte: everything works
    exits with 0                            serves

If the daemon ends before that byte, its exit status is the caller's, and it has said why on the caller's stderr. Until
then it ends with the caller's process; afterwards no process of ours has a descriptor of the caller's, who may read a
pipe to its end.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sansnet_cli.output.files import open_output
from sansnet_trio.hostinfo import HostError
from sansnet_trio.linux import files, syscalls
from sansnet_trio.linux.children import end_child, wait_child
from sansnet_trio.linux.descriptors import wait_readable

__all__ = [
    "Identity",
    "IdentityError",
    "PidFile",
    "close_inherited",
    "named_descriptors",
    "run_in_background",
    "system_root",
    "unwritable",
]

_STREAMS: Final = (0, 1, 2)
_NOBODY: Final = 65534
_DESCRIPTOR: Final = re.compile(r"(?:/proc/self|/dev)/fd/(\d+)")

_PATIENCE: Final = 60
"""Seconds that it may take until everything works. It takes a fraction of one, and some for ten thousands of ports."""
_PARTING: Final = 5.0
"""Seconds that it may take to end, when it has closed all that it had."""


class PidFile:
    """A file for the number of a process. It is opened now: a later user may have no permission.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._fd = open_output(path)

    def write(self, pid: int) -> None:
        """Write the number, and be done with the file."""
        os.write(self._fd, b"%d\n" % pid)
        self.close()

    def close(self) -> None:
        """Leave it to another process that has the file too."""
        os.close(self._fd)


def run_in_background(work: Callable[[Callable[[], None]], int], pid_file: PidFile | None) -> int:
    """Do work in a child that stays, and return in both processes.

    Args:
        work: is done in the child. It calls its argument when everything works, once.
        pid_file: gets the child's process id after that.

    Raises:
        HostError: in the parent: the child cannot work, or was ended by a signal.

    Returns:
        What the process is to exit with. In the parent that is 0 once the work is on its way, and otherwise the child's
        own status; in the child what the work returned.
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
        return work(lambda: _let_go(writer, null))
    os.close(writer)
    if not wait_readable(reader, _PATIENCE):
        end_child(pid)
        raise HostError(f"the process in the background has not answered for {_PATIENCE} s; let it run, or try again")
    if os.read(reader, 1):
        try:
            if pid_file is not None:
                pid_file.write(pid)
        except OSError as error:
            os.kill(pid, signal.SIGTERM)
            if wait_child(pid, _PARTING) is None:
                end_child(pid)
            raise unwritable(error) from error
        return 0
    status = wait_child(pid, _PARTING)
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        raise HostError(f"the process in the background was ended by signal {-code}; try again")
    return max(code, 1)


def unwritable(error: OSError) -> HostError:
    """Why a pid file that is open has no number in it."""
    return HostError(f"the pid file cannot be written ({error.strerror}); give another one")


def _let_go(writer: int, null: int) -> None:
    """Outlive the caller's process, without anything of the caller's.

    Args:
        writer: the pipe that the caller's process reads.
        null: /dev/null, open.
    """
    syscalls.set_parent_death_signal(0)
    os.chdir("/")
    for number in _STREAMS:
        os.dup2(null, number)
    os.close(null)
    os.write(writer, b"+")
    os.close(writer)


def close_inherited(kept: Iterable[int]) -> None:
    """Close all descriptors but the standard streams and some."""
    keep = {*_STREAMS, *kept}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):  # one of them was of the list itself
                os.close(int(name))


def named_descriptors(*paths: str | None) -> Iterator[int]:
    """Descriptors of this process that paths lead to, as /proc/self/fd/5 does."""
    for path in paths:
        if path is not None and (match := _DESCRIPTOR.fullmatch(path)):
            yield int(match[1])


class IdentityError(ValueError):
    """There is no such user or group; the message says which."""


class Identity:
    """A user and a group to become.

    Args:
        text: UID[:GID] or LOGIN[:GROUP]; without a group it is the user's own.

    Raises:
        IdentityError: there is no such user or group.
    """

    def __init__(self, text: str) -> None:
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
            raise IdentityError(f"{text!r} is no user or group here") from None

    @classmethod
    def nobody(cls) -> Identity:
        """The user without rights, whether the system has a name for it or not."""
        try:
            return cls("nobody")
        except IdentityError:
            return cls(f"{_NOBODY}")

    def assume(self) -> None:
        """Become it, for good.

        Raises:
            OSError: we may not.
        """
        if (os.geteuid(), os.getegid()) != (self.uid, self.gid):
            with contextlib.suppress(PermissionError):  # a user namespace of one group has no others to give up
                os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)


def system_root() -> bool:
    """Whether we are root of the whole system, and not of a user namespace."""
    if os.geteuid():
        return False
    with contextlib.suppress(OSError):
        return files.read("/proc/self/uid_map").split() == ["0", "0", "4294967295"]
    return True
