"""Passing signals on to the child of sansnet, a command or QEMU.

Theory of operation. If there is a terminal, the command is in our process group, so the terminal sends its signals, as
for Ctrl-C and Ctrl-Z, to both: if they were passed on, the command would get them twice. Signals sent by a process
reach only sansnet and are passed on. The kernel tells them apart (si_code), but Python's handlers do not see that, so
this uses a signalfd(2).

SIGTSTP keeps its default action: Ctrl-Z stops both. See `JobControl` for commands that have a group of their own.
"""

from __future__ import annotations

import os
import select
import signal
import struct
from typing import Final, Protocol

from sansnet_trio.linux import syscalls

__all__ = ["CommandSignals"]

_PASSED_ON: Final = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGHUP})
"""Followed by SIGCONT, because a stopped process handles them only then. Shells do the same for their jobs."""
_SI_KERNEL: Final = 0x80

# struct signalfd_siginfo: ssi_signo, ssi_errno, ssi_code, and unused fields
_SIGINFO: Final = struct.Struct("=Iii116x")


class Child(Protocol):
    """A child process that gets the signals."""

    def send_signal(self, number: int, /) -> None: ...


class CommandSignals:
    """Receives signals, which would end sansnet otherwise, from now on and until closed.

    Attributes:
        separate: whether the child has a process group of its own, so that it must get the terminal's signals from us.
    """

    def __init__(self) -> None:
        self.separate = False
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        self._fd = syscalls.signal_descriptor(_PASSED_ON)

    async def run(self, child: Child) -> None:
        """Pass signals on to a child until cancelled."""
        import trio

        while True:
            await trio.lowlevel.wait_readable(self._fd)
            self.pass_on(child)

    def fileno(self) -> int:
        """A descriptor that is readable when there is a signal to pass on."""
        return self._fd

    def pass_on(self, child: Child) -> None:
        """Pass on one signal that has been received."""
        number, _, code = _SIGINFO.unpack(os.read(self._fd, _SIGINFO.size))
        if self.separate or code != _SI_KERNEL or number not in _FROM_TERMINAL:
            child.send_signal(number)
            if number in _ENDING:
                child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Restore the signal mask. A signal that was received and not passed on has no effect: the child has ended."""
        while select.select([self._fd], [], [], 0)[0]:
            os.read(self._fd, _SIGINFO.size)
        os.close(self._fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
