"""Signals to sansnet that are meant for the command, or for QEMU, and what job control wants.

Theory of operation. The command is in our process group, so the terminal's signals (as of Ctrl-C and Ctrl-Z) reach both
it and us: passed on, they would reach it twice. Signals sent by a process reach us alone, and are passed on. The kernel
tells which is which (si_code), but not to an ordinary handler: hence a signalfd(2).

SIGTSTP keeps its default action: Ctrl-Z stops both. An interactive shell as the command makes process groups of its
own; if it stops itself (`suspend`), the shell above us would not know, so we stop too, and let it go on when we do.
Without a terminal there is no such shell.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
from typing import Final, Protocol

from sansnet_trio.linux import syscalls

__all__ = ["CommandSignals"]

_FORWARDED: Final = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGHUP})
"""One that is stopped must go on to hear them, as shells see to for their jobs."""
_SI_KERNEL: Final = 0x80

# struct signalfd_siginfo: ssi_signo, ssi_errno, ssi_code, and what does not matter here
_SIGINFO: Final = struct.Struct("=Iii116x")


class Child(Protocol):
    """A process of ours that is to have the signals."""

    @property
    def pid(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


class CommandSignals:
    """Takes signals instead of us dying of them, from now on and until closed."""

    def __init__(self) -> None:
        taken = _FORWARDED | {signal.SIGCHLD}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        self._fd = syscalls.signal_descriptor(taken)

    async def run(self, child: Child) -> None:
        """Forward to a child until cancelled."""
        import trio

        while True:
            await trio.lowlevel.wait_readable(self._fd)
            self.forward(child)

    def fileno(self) -> int:
        """Readable when there is a signal to forward."""
        return self._fd

    def forward(self, child: Child) -> None:
        """Forward the signal that has come."""
        number, _, code = _SIGINFO.unpack(os.read(self._fd, _SIGINFO.size))
        if number == signal.SIGCHLD:
            _follow(child)
        elif code != _SI_KERNEL or number not in _FROM_TERMINAL:
            child.send_signal(number)
            if number in _ENDING:
                child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Restore what was before. A signal that came and was not forwarded has no effect: the child has ended."""
        while select.select([self._fd], [], [], 0)[0]:
            os.read(self._fd, _SIGINFO.size)
        os.close(self._fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _follow(child: Child) -> None:
    """Stop and go on with a command that stopped its own process group."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):  # it has ended
        if os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG) is None:
            return
        group = os.getpgid(child.pid)
        if group != os.getpgrp() and _has_terminal():
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(group, signal.SIGCONT)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
