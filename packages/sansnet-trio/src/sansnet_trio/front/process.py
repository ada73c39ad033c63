"""The process of a guest, with the interface of `trio.Process`."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Protocol

import trio

from sansnet_core import UsageError
from sansnet_trio.front.ending import end_command
from sansnet_trio.front.stdio import Stdio
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["Child", "GuestProcess", "words_of"]


class Child(Protocol):
    """A child process of ours."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def reap(self) -> int: ...

    def send_signal(self, number: int) -> None: ...


class GuestProcess(Uncopyable):
    """A running command.

    Attributes:
        args: the command.
        pid: its process id.
        stdin: the other end of its stdin, if that is a pipe.
        stdout: the other end of its stdout, if that is a pipe.
        stderr: the other end of its stderr, if that is a pipe.
    """

    def __init__(self, child: Child, args: Sequence[str], stdio: Stdio) -> None:
        self.args = args
        self.pid = child.pid
        self.stdin: trio.abc.SendStream | None = stdio.stdin
        self.stdout: trio.abc.ReceiveStream | None = stdio.stdout
        self.stderr: trio.abc.ReceiveStream | None = stdio.stderr
        self._child = child
        self._ended = trio.Event()

    def __repr__(self) -> str:
        state = f"running with pid {self.pid}" if self.returncode is None else f"ended with status {self.returncode}"
        return f"<{type(self).__name__} {list(self.args)!r}: {state}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._child.returncode

    async def wait(self) -> int:
        """Wait until the command ends; returns `returncode`. Any number of tasks may wait."""
        await self._ended.wait()
        return self._child.reap()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        self._child.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM to the command, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the command, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    async def watch(self) -> None:
        """Run in a task as long as the command runs, also after cancellation."""
        with trio.CancelScope(shield=True):
            await self._child.wait()
        self._ended.set()

    async def end_command(self) -> None:
        """End the command if it still runs: with SIGTERM, and after 5 s SIGKILL. Shield it from cancellation."""
        if self.returncode is None:
            await end_command(self)


def words_of(command: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The words of a command.

    Raises:
        UsageError: it is one string, or empty.
    """
    if isinstance(command, str):
        raise UsageError(f"{command!r} is one string; give the command as a list of words, or ['sh', '-c', LINE]")
    if not command:
        raise UsageError("a command needs a word: the name of a program")
    return [os.fspath(word) for word in command]
