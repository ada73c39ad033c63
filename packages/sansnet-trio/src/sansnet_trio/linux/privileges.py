"""Giving up privileges for good, once they are not needed any more (capabilities(7), prctl(2)).

Privileges belong to a thread, so call these functions while the process has only one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from contextlib import suppress
from struct import Struct
from typing import Final

from sansnet_trio.linux import syscalls

__all__ = [
    "CAP_KILL",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
    "drop_capabilities",
    "forbid_new_privileges",
    "renounce",
]

# linux/capability.h
CAP_KILL: Final = 5
CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_NET_BIND_SERVICE: Final = 10
CAP_NET_ADMIN: Final = 12
_VERSION_3: Final = 0x20080522
_HEADER: Final = Struct("=Ii")  # version, process
_SETS: Final = Struct("=6I")  # effective, permitted, inheritable: the low words, then the high ones
_WORD: Final = 0xFFFFFFFF
_MAX_CAPABILITY: Final = 64

# linux/prctl.h
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_libc: Final = ctypes.PyDLL(None, use_errno=True)
"""Unlike CDLL, it keeps Python's lock: none of these calls blocks, and another thread would keep the lock longer."""


def renounce(keep: Collection[int] = ()) -> None:
    """Drop capabilities, gain none by executing a program, and forbid other processes of this user to trace us.

    Args:
        keep: numbers of the capabilities to keep, if we have them.

    Raises:
        OSError: the kernel refuses, which no kernel with user namespaces does.
    """
    forbid_new_privileges()
    drop_capabilities(keep)
    syscalls.forbid_dump()


def forbid_new_privileges() -> None:
    """Disable set-user-ID bits and file capabilities of the programs that we execute (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities(keep: Collection[int] = ()) -> None:
    """Empty all sets of capabilities, except for `keep` in the permitted and effective sets.

    Without CAP_SETPCAP the bounding set stays; it has no effect on a process that can gain no privileges.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    with suppress(OSError):  # EPERM, or EINVAL after the last capability of this kernel
        for number in range(_MAX_CAPABILITY):
            _prctl(_PR_CAPBSET_DROP, number)
    header = _HEADER.pack(_VERSION_3, 0)
    sets = ctypes.create_string_buffer(_SETS.size)
    _check(_libc.capget(header, sets))
    _, low, _, _, high, _ = _SETS.unpack(sets.raw)
    kept = (low | high << 32) & sum(1 << number for number in keep)
    low, high = kept & _WORD, kept >> 32
    _check(_libc.capset(header, _SETS.pack(low, low, 0, high, high, 0)))


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(ctypes.c_int(option), *map(ctypes.c_ulong, (value, 0, 0, 0))))


def _check(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
