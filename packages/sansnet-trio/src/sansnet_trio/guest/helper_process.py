"""What a process of ours in a guest's namespaces does without: a terminal, signals, privileges, descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from sansnet_trio.linux import privileges, syscalls

__all__ = ["detach", "keep_only"]


def detach() -> None:
    """Have no terminal and no signals, keep no directory in use, and let no process of the guest trace us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.setsid()
    os.chdir("/")
    syscalls.forbid_dump()


def keep_only(channel: int, keep: Collection[int] = ()) -> None:
    """Keep one descriptor and some capabilities, and end with the process that forked us.

    Called when the guest's namespaces have been entered: that makes the kernel forget some of it.

    Args:
        channel: the descriptor.
        keep: numbers of the capabilities.
    """
    privileges.renounce(keep)
    syscalls.set_parent_death_signal(signal.SIGKILL)
    os.closerange(0, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
