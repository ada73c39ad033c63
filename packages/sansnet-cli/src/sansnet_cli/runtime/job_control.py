"""The terminal and its foreground process group, for a command in a PID namespace.

Theory of operation. With a terminal, the command begins in our process group, with whatever else the caller's shell put
there, so that the terminal stops, continues and interrupts all of them together. But the command cannot name that
group: in its PID namespace the group has no number, and `tcgetpgrp` returns 0. Most programs do not care. An
interactive shell makes a group of its own; when it ends, it cannot make the first group the foreground one again, and
some shells fail then.

So if we are alone in our group, which is in the foreground, and all streams are the terminal, the command gets a group
of its own from the start. Then we do for it what a shell does for a job: when it stops, we stop too, so that the shell
above notices; when that shell continues us in the foreground, the command gets the terminal, and is continued. In any
case the terminal gets our group back if it has one that no longer exists.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Protocol

__all__ = ["JobControl"]


class Command(Protocol):
    """A command with a process group of its own."""

    @property
    def pid(self) -> int: ...

    def continue_group(self) -> None: ...


class JobControl:
    """The terminal of a command. Made before the command begins; close it after its end.

    Attributes:
        separate: whether the command is to have a process group of its own from the start.
    """

    def __init__(self) -> None:
        self._group = os.getpgrp()
        self._has_shell = os.getsid(0) != self._group
        """Whether a shell above takes the terminal when our group stops."""
        self._terminal: int | None = None
        with contextlib.suppress(OSError):
            self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._was_foreground = self._foreground() == self._group != 0
        self.separate = self._was_foreground and self._group == os.getpid() and all(map(self._is_terminal, range(3)))

    def follow(self, command: Command) -> None:
        """Stop with a command that has stopped in a group of its own, and continue it afterwards."""
        if self._terminal is None:  # there is no shell above
            return
        if not self._hand_over(command):
            if self._has_shell:
                os.kill(os.getpid(), signal.SIGSTOP)
                self._hand_over(command)
            elif self._foreground() != command.pid:
                return
        command.continue_group()

    def take_back(self) -> None:
        """Give the terminal back to our group, if its foreground group has ended."""
        if self._terminal is not None and self._was_foreground:
            with contextlib.suppress(OSError):
                try:
                    os.getpriority(os.PRIO_PGRP, os.tcgetpgrp(self._terminal))
                except ProcessLookupError:
                    self._set_foreground(self._group)

    def close(self) -> None:
        """Give the terminal back to our group, if its foreground group has ended. A second call does nothing."""
        if self._terminal is None:
            return
        self.take_back()
        os.close(self._terminal)
        self._terminal = None

    def _foreground(self) -> int | None:
        with contextlib.suppress(OSError):
            if self._terminal is not None:
                return os.tcgetpgrp(self._terminal)
        return None

    def _is_terminal(self, stream: int) -> bool:
        """Whether a stream is our terminal."""
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(stream) == self._group
        return False

    def _hand_over(self, command: Command) -> bool:
        """Give the terminal to the command, if it is ours; whether that is done."""
        if self._foreground() != self._group:
            return False
        try:
            self._set_foreground(command.pid)  # such a command leads its group
        except OSError:
            return False
        return True

    def _set_foreground(self, group: int) -> None:
        assert self._terminal is not None
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # else a background process is stopped
        try:
            os.tcsetpgrp(self._terminal, group)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
