"""A child process of ours that is a command in our own namespaces, and ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial

from sansnet_trio.guest.child import Channel, start_child, wait_answer
from sansnet_trio.guest.execute import Program, execute
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.children import end_child

__all__ = ["ChildProgram"]


class ChildProgram:
    """A command that runs; made by `begin`. Close it, or use it as a context manager: that kills the command.

    If this process ends, the command gets SIGTERM.

    Attributes:
        pid: its process id.
        returncode: its exit status, or the negative number of the signal that ended it; None while that is not known.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)

    @classmethod
    async def begin(cls, program: Program) -> ChildProgram:
        """Start a command.

        Args:
            program: the command.

        Raises:
            CommandNotFound: there is no such program.
            CommandNotExecutable: the file cannot be executed.
            GuestError: the working directory cannot be entered.
            OSError: no process can be started, or no descriptor is left.
        """
        pid, channel = start_child(partial(_become, program), program.descriptors)
        child = cls(pid)
        try:
            await wait_answer(channel)
            with contextlib.suppress(EOFError):  # the socket closes on exec
                channel.receive()
        except BaseException:
            child.close()
            raise
        finally:
            channel.close()
        return child

    async def wait(self) -> int:
        """Wait until the command ends; returns `returncode`."""
        import trio

        await trio.lowlevel.wait_readable(self._pidfd)
        return self.reap()

    def reap(self) -> int:
        """Like `wait`, but blocking."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Kill the command if it still runs. A second call does nothing."""
        if self._pidfd < 0:
            return
        if self.returncode is None:
            end_child(self.pid)
        os.close(self._pidfd)
        self._pidfd = -1

    def __enter__(self) -> ChildProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _become(program: Program, channel: Channel, parent: int) -> None:
    """The child's part."""
    syscalls.set_parent_death_signal(signal.SIGTERM)
    if os.getppid() == parent:
        execute(program)
