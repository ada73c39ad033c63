"""Isolating a helper process in a guest's namespaces: no terminal, signals, privileges or descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from sansnet_trio.linux import privileges, syscalls
from sansnet_trio.linux.descriptors import close_others

__all__ = ["detach", "keep_only"]


def detach() -> None:
    """Leave the terminal, block all signals, keep no directory busy, and forbid the guest's processes to trace us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.setsid()
    os.chdir("/")
    syscalls.forbid_dump()


def keep_only(channel: int, keep: Collection[int] = ()) -> None:
    """Close all descriptors but one, drop capabilities, and end with the parent.

    Call it after entering the guest's namespaces, since that resets some of these settings in the kernel.

    Args:
        channel: the descriptor to keep.
        keep: numbers of the capabilities to keep.
    """
    privileges.renounce(keep)
    syscalls.set_parent_death_signal(signal.SIGKILL)
    close_others({channel})
