"""Linux system calls that Python 3.11 has no functions for, called through the C library."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
from collections.abc import Iterable
from struct import Struct
from typing import Final

__all__ = [
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
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
    "MS_RDONLY",
    "MS_REC",
    "MS_SLAVE",
    "adopt_orphans",
    "allow_dump",
    "forbid_dump",
    "fork_sibling",
    "inotify",
    "inotify_add",
    "inotify_new",
    "interface_index",
    "mount",
    "open_owner",
    "set_name",
    "set_parent_death_signal",
    "setns",
    "signal_descriptor",
    "unmount",
    "unshare",
]

# linux/sched.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
_CLONE_PARENT: Final = 0x00008000

# linux/mount.h
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 0x2

_NS_GET_USERNS: Final = 0xB701  # linux/nsfs.h

# linux/sockios.h, linux/if.h
_SIOCGIFINDEX: Final = 0x8933
_IFNAMSIZ: Final = 16
_IFREQ_INT: Final = Struct(f"={_IFNAMSIZ}si20x")
"""struct ifreq with a name and ifr_ifindex."""

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
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIGNAL_SET_SIZE: Final = 128
"""Bytes of the C library's sigset_t."""

_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220, "armv7l": 120, "i686": 120}
"""Numbers of clone(2), by processor; the first argument is the flags on all of these."""
_SYS_CLONE3: Final = 435
"""The number of clone3(2), on all processors. Containers often forbid it, because filters cannot see its flags."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str | None = None) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def unshare(flags: int) -> None:
    """Move to new namespaces (unshare(2)). The process must have only one thread.

    Raises:
        OSError: ENOSPC beyond a limit in /proc/sys/user, EPERM if not permitted, EINVAL if the kernel has no such
            namespaces.
    """
    _check(_libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, kind: int) -> None:
    """Enter a namespace (setns(2)). To enter a user namespace, the process must have only one thread.

    Args:
        fd: descriptor of a file like /proc/PID/ns/net.
        kind: the expected kind of namespace, as a flag of `unshare`.

    Raises:
        OSError: EPERM if not permitted; EINVAL if it is of another kind, or our own user namespace.
    """
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)))


def open_owner(namespace: int) -> int:
    """A descriptor of the user namespace that owns a namespace (ioctl_ns(2)); closed on exec.

    Args:
        namespace: descriptor of a file like /proc/PID/ns/net.

    Raises:
        OSError: EPERM if the owner is neither our own user namespace nor one inside it.
    """
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """Mount `source` at `target` (mount(2)).

    Raises:
        OSError: see mount(2); it has the name of the target.
    """
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3]), target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount the file system at `target` (umount2(2)).

    Raises:
        OSError: see mount(2); it has the name of the target.
    """
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def fork_sibling() -> int:
    """Like `os.fork`, but the new process has the same parent as this one (CLONE_PARENT in clone(2)).

    The C library does not know of the new process, which must therefore do little: it may fork, and must not start
    threads. This process must have only one thread.

    Returns:
        0 in the new process; its id here, in the PID namespace of this process.

    Raises:
        OSError: no process can be started, or this kernel, processor or container has no such call.
    """
    library = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL, it keeps Python's lock, which the copy has then too
    number = _SYS_CLONE.get(os.uname().machine)
    if number is not None:
        words = [_CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0]
        pid: int = library.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, words))
    else:
        arguments = (ctypes.c_uint64 * 8)(_CLONE_PARENT)  # struct clone_args; its exit_signal is that of this process
        size = ctypes.c_ulong(ctypes.sizeof(arguments))
        pid = library.syscall(ctypes.c_long(_SYS_CLONE3), arguments, size)
    _check(pid)
    return pid


def adopt_orphans() -> None:
    """Become the parent of all descendants whose parent ends (PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_CHILD_SUBREAPER), ctypes.c_ulong(1)))


def set_name(name: str) -> None:
    """Set the name of this process in the list of processes (PR_SET_NAME); the kernel keeps 15 bytes."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_NAME), name.encode()))


def set_parent_death_signal(number: int) -> None:
    """Receive a signal when the thread of the parent that forked us ends (PR_SET_PDEATHSIG); 0 undoes that."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(number)))


def forbid_dump() -> None:
    """Hide the memory of this process: no core dump, and no tracing by unprivileged processes (PR_SET_DUMPABLE)."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_DUMPABLE), ctypes.c_ulong(0)))


def allow_dump() -> None:
    """Undo `forbid_dump`: the files of this process in /proc belong to its user again."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_DUMPABLE), ctypes.c_ulong(1)))


def interface_index(name: str) -> int:
    """Index of an interface of the calling thread's network namespace (netdevice(7)).

    Unlike if_nametoindex(3), it makes no UNIX socket, which a confined process may not, and it tells why it fails.

    Raises:
        OSError: there is no interface of that name, or no descriptor is left.
    """
    encoded = os.fsencode(name)
    if len(encoded) >= _IFNAMSIZ or b"\0" in encoded:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFINDEX, _IFREQ_INT.pack(encoded, 0))
    index: int = _IFREQ_INT.unpack(answer)[1]
    return index


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor to read blocked signals from (signalfd(2)); non-blocking and closed on exec.

    Raises:
        OSError: no descriptor is left.
    """
    mask = sum(1 << (number - 1) for number in numbers).to_bytes(_SIGNAL_SET_SIZE, "little")
    fd: int = _libc.signalfd(ctypes.c_int(-1), mask, ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
    _check(fd)
    return fd


def inotify(directory: str, mask: int) -> int:
    """A descriptor that is readable after changes in a directory (inotify(7)); non-blocking and closed on exec.

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
    """An inotify descriptor without watches (inotify(7)); non-blocking and closed on exec.

    Raises:
        OSError: no descriptor is left.
    """
    fd: int = _libc.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
    _check(fd)
    return fd


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch a file or directory (inotify_add_watch(2)).

    Returns:
        The number of the watch.

    Raises:
        OSError: there is no such file, or no watch is left.
    """
    watch: int = _libc.inotify_add_watch(ctypes.c_int(fd), os.fsencode(path), ctypes.c_uint32(mask))
    _check(watch, path)
    return watch
