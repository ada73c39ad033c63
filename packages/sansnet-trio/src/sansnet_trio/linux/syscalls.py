"""System calls that Python 3.11 has no function for. Linux, through the C library."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
from collections.abc import Iterable
from typing import Final

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CREATE",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_MODIFY",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_MOVE_SELF",
    "IN_UNMOUNT",
    "MAX_BACKLOG",
    "MNT_DETACH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_REC",
    "MS_SLAVE",
    "forbid_dump",
    "inotify",
    "inotify_add",
    "inotify_new",
    "interface_index",
    "mount",
    "open_owner",
    "set_parent_death_signal",
    "setns",
    "signal_descriptor",
    "unmount",
    "unshare",
]

# linux/sched.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000

# linux/mount.h
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 0x2

_NS_GET_USERNS: Final = 0xB701  # linux/nsfs.h

# linux/inotify.h
IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_UNMOUNT: Final = 0x2000

MAX_BACKLOG: Final = (1 << 31) - 1
"""For listen(2): the kernel lowers it to net.core.somaxconn. If so many connections wait to be accepted, it drops the
SYNs of others, which clients repeat after one and three seconds."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_SIGNAL_SET_SIZE: Final = 128
"""Bytes of the C library's sigset_t."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str | None = None) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (unshare(2)); the process must have one thread only.

    Raises:
        OSError: ENOSPC beyond a limit in /proc/sys/user, EPERM if not permitted, EINVAL if the kernel has none.
    """
    _check(_libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that a descriptor stands for (setns(2)); of users', with one thread only.

    Args:
        fd: of a file like /proc/PID/ns/net.
        kind: which one that must be, as for `unshare`.

    Raises:
        OSError: EPERM if not permitted, EINVAL if it is of another kind, or the user namespace that we are in.
    """
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)))


def open_owner(namespace: int) -> int:
    """A descriptor of the user namespace that owns a namespace (ioctl_ns(2)); closed on exec.

    Args:
        namespace: descriptor of a file like /proc/PID/ns/net.

    Raises:
        OSError: EPERM if that is neither the user namespace that we are in nor one inside of it.
    """
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Mount `source` at `target` (mount(2)).

    Raises:
        OSError: as the kernel says, with the target's name.
    """
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3]), target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount what is at `target` (umount2(2)).

    Raises:
        OSError: as the kernel says, with the target's name.
    """
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def set_parent_death_signal(number: int) -> None:
    """Have a signal when the parent's thread that forked this process ends (PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(number)))


def forbid_dump() -> None:
    """Show nobody this process's memory: no core when a signal ends it, and nobody traces it (PR_SET_DUMPABLE)."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_DUMPABLE), ctypes.c_ulong(0)))


def interface_index(name: str) -> int:
    """Index of an interface of the calling thread's network namespace (if_nametoindex(3)).

    Raises:
        OSError: there is none of that name, or no descriptor is left.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close()  # it opens one, too, and does not say if it cannot
        raise


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor from which blocked signals are read (signalfd(2)); non-blocking and closed on exec.

    Raises:
        OSError: no descriptor is left.
    """
    mask = sum(1 << (number - 1) for number in numbers).to_bytes(_SIGNAL_SET_SIZE, "little")
    fd: int = _libc.signalfd(ctypes.c_int(-1), mask, ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
    _check(fd)
    return fd


def inotify(directory: str, mask: int) -> int:
    """A descriptor that is readable when something happened to a directory (inotify(7)); closed on exec.

    Raises:
        OSError: there is no such directory, or no watch or descriptor is left.
    """
    fd = inotify_new()
    try:
        inotify_add(fd, directory, mask)
    except OSError:
        os.close(fd)
        raise
    return fd


def inotify_new() -> int:
    """A descriptor for watches (inotify(7)), without any; non-blocking and closed on exec.

    Raises:
        OSError: no descriptor is left.
    """
    fd: int = _libc.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
    _check(fd)
    return fd


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch a file or directory (inotify_add_watch(2)); the number of the watch.

    Raises:
        OSError: there is no such file, or no watch is left.
    """
    watch: int = _libc.inotify_add_watch(ctypes.c_int(fd), os.fsencode(path), ctypes.c_uint32(mask))
    _check(watch, path)
    return watch
