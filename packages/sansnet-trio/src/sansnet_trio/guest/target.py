"""Finding, entering and watching a network namespace that exists already.

Theory of operation. A namespace is named by a file: a bind mount, as made by `ip netns add`, or a file in /proc/PID/ns.
It counts as gone when that file is gone. The kernel reports deleted files (inotify(7)), but not in /proc; there it
reports the end of the process (pidfd_open(2)). Any other file in /proc is checked every second: a file below
/proc/PID/root may vanish together with that process's mounts, without being deleted.

The namespace itself exists until we end, because we keep its file open and have a tap in it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from sansnet_core.errors import expect
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux import proc, syscalls
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.mountinfo import read_mounts
from sansnet_trio.words import word

__all__ = ["NAMED", "ExistingNamespace", "NamespaceFiles"]

NAMED: Final = "/run/netns"
"""Directory of named namespaces (ip-netns(8))."""

# linux/nsfs.h
_NS_GET_NSTYPE: Final = 0xB703
_KINDS: Final = {syscalls.CLONE_NEWNET: "network", syscalls.CLONE_NEWUSER: "user"}

_CHANGES: Final = syscalls.IN_DELETE | syscalls.IN_MOVED_FROM | syscalls.IN_DELETE_SELF | syscalls.IN_UNMOUNT
_EVENTS_SIZE: Final = 1 << 12

_MAX_LINKS: Final = 40
"""Symbolic links on the way to one file, as in the kernel (MAXSYMLINKS)."""
_POLL_INTERVAL: Final = 1.0
"""Seconds between checks of a file in /proc."""


class NamespaceFiles(NamedTuple):
    """Open files of the namespaces to enter. It can be pickled for a child that has the same descriptors.

    Attributes:
        name: path of the network namespace's file.
        network: descriptor of the network namespace.
        user: descriptor of the user namespace to enter before it; None means our own.
    """

    name: str
    network: int
    user: int | None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors."""
        return (self.network,) if self.user is None else (self.network, self.user)

    def join(self) -> None:
        """Enter the namespaces. The process must have only one thread.

        Raises:
            OSError: it is not permitted.
        """
        if self.user is not None:
            syscalls.setns(self.user, syscalls.CLONE_NEWUSER)
        syscalls.setns(self.network, syscalls.CLONE_NEWNET)

    def entry_error(self, error: OSError) -> GuestError:
        """The error to report when `join` failed."""
        if error.errno != errno.EPERM:
            return GuestError(f"{self.name} cannot be entered: {error.strerror}")
        if self.user is not None and not self._is_owner(self.user):
            remedy = "this user namespace does not own it; give the user namespace that does, or a process id"
        elif self.user is not None:
            remedy = "run sansnet as the user that made it, or as root"
        else:
            argument = word("ExistingNamespace(user=PATH)")
            remedy = f"run sansnet as root, or give the user namespace that it was made in ({argument})"
        return GuestError(f"{self.name} may not be entered: not permitted; {remedy}")

    def _is_owner(self, user: int) -> bool:
        """Whether a user namespace owns the network namespace; False if that cannot be determined."""
        try:
            owner = syscalls.open_owner(self.network)
        except OSError:
            return False
        try:
            return os.path.sameopenfile(owner, user)
        finally:
            os.close(owner)


class ExistingNamespace(Uncopyable):
    """An existing network namespace, and the user namespace to enter before it, if any.

    Args:
        network: path of the network namespace's file.
        user: path of the file of the user namespace that owns it; None means our own user namespace.
        owner: whether to ask the kernel for the user namespace instead.

    Attributes:
        network: see above.

    Raises:
        GuestError: there is no such namespace, or we may not open it.
    """

    def __init__(self, network: str, user: str | None = None, *, owner: bool = False) -> None:
        expect("network", network, str, "the path of a network namespace, such as '/run/netns/blue'")
        self.network = network
        with contextlib.ExitStack() as stack:
            self._file = _resolve(network)
            self._process = _open_process(self._file)
            if self._process is not None:
                stack.callback(os.close, self._process)
            self._network = _open_namespace(network, syscalls.CLONE_NEWNET)
            stack.callback(os.close, self._network)
            if os.path.sameopenfile(self._network, _open_own(stack, "net")):
                raise GuestError(f"{network} is the network that sansnet itself is in; give the guest's")
            self._user = _open_namespace(user, syscalls.CLONE_NEWUSER) if user is not None else None
            if owner:
                self._user = _open_owner(network, self._network)
            if self._user is not None:
                stack.callback(os.close, self._user)
            if self._user is not None and os.path.sameopenfile(self._user, _open_own(stack, "user")):
                self._user = None  # the kernel refuses to enter our own user namespace
            self._close: Callable[[], None] = stack.pop_all().close

    @classmethod
    def of_process(cls, pid: int) -> ExistingNamespace:
        """The network namespace of a process, and the user namespace that owns it, which may not be the process's own.

        Raises:
            GuestError: there is no such process, or we may not open its namespaces.
        """
        expect("pid", pid, int, "the id of a process")
        try:
            number = proc.number_of(pid)
        except OSError as error:
            raise _no_process(pid) if os.path.exists("/proc/self") else GuestError(proc.NO_PROC) from error
        return cls(f"/proc/{number}/ns/net", owner=True)

    @classmethod
    def named(cls, name: str, user: str | None = None) -> ExistingNamespace:
        """The namespace of this name in `ip netns`, or at this path if the name has a slash in it.

        Raises:
            GuestError: there is no such namespace, or we may not open it.
        """
        expect("name", name, str, "the name of a network namespace, such as 'blue'")
        return cls(name if "/" in name else f"{NAMED}/{name}", user)

    @property
    def files(self) -> NamespaceFiles:
        """The open files of the namespaces, until `close`."""
        return NamespaceFiles(self.network, self._network, self._user)

    def join(self) -> None:
        """Enter the namespaces. The process must have only one thread.

        Raises:
            OSError: it is not permitted.
        """
        self.files.join()

    @property
    def process(self) -> int | None:
        """A pidfd of the process that the namespace was found by; it is readable when the namespace is gone."""
        return self._process

    def watch(self) -> NamespaceWatch:
        """Watch whether its name still leads to the namespace."""
        return NamespaceWatch(self._file, self._network)

    async def wait_gone(self) -> None:
        """Wait until its name no longer leads to the namespace."""
        import trio

        if self._process is not None:
            await trio.lowlevel.wait_readable(self._process)
            return
        with contextlib.closing(self.watch()) as watch:
            while not watch.is_gone():
                with trio.move_on_after(watch.interval):
                    if watch.descriptor is None:
                        await trio.sleep_forever()
                    else:
                        await trio.lowlevel.wait_readable(watch.descriptor)

    def close(self) -> None:
        """Close the descriptors of the namespace."""
        self._close()


class NamespaceWatch:
    """Watches whether the name of a namespace still leads to it. Close it.

    Args:
        file: path of the namespace's file.
        network: descriptor of the namespace.

    Attributes:
        descriptor: readable when `is_gone` should be called; None if there is none.
        interval: seconds after which it should be called in any case.
    """

    def __init__(self, file: str, network: int) -> None:
        self._file = file
        self._network = network
        self.descriptor = _watch_directory(os.path.dirname(file))
        polls = self.descriptor is None or file.startswith("/proc/")
        self.interval = _POLL_INTERVAL if polls else math.inf

    def is_gone(self) -> bool:
        """Whether the name no longer leads to the namespace."""
        if self.descriptor is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.descriptor, _EVENTS_SIZE)
        try:
            return not os.path.samestat(os.stat(self._file), os.fstat(self._network))
        except PermissionError:  # the user that we have become may not see it
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Stop watching. A second call does nothing."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _open_namespace(name: str, kind: int) -> int:
    """Open the file of a namespace, and check its kind."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for a writer
    except FileNotFoundError as error:
        raise _not_found(name) from error
    except PermissionError as error:
        raise GuestError(f"{name} may not be opened: run sansnet as the user that made it, or as root") from error
    except OSError as error:
        raise GuestError(f"{name} cannot be opened: {error.strerror}") from error
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == kind:
            return fd
    except OSError:  # an ordinary file
        pass
    os.close(fd)
    raise GuestError(
        f"{name} is not a {_KINDS[kind]} namespace; give the file of one, like {NAMED}/NAME or /proc/PID/ns/..."
    )


def _open_owner(name: str, network: int) -> int:
    """A descriptor of the user namespace that owns a network namespace."""
    try:
        return syscalls.open_owner(network)
    except OSError as error:
        raise GuestError(
            f"{name} belongs to a user namespace that cannot be entered from this one ({error.strerror}); run sansnet "
            "where it was made"
        ) from error


def _not_found(name: str) -> GuestError:
    if match := re.fullmatch(r"/proc/(\d+)/ns/\w+", name):
        return _no_process(match[1])
    if os.path.dirname(name) == NAMED:
        return GuestError(
            f"there is no network namespace {os.path.basename(name)!r}; `ip netns` lists those with a name"
        )
    return GuestError(f"there is no file {name}; give that of a namespace")


def _no_process(number: int | str) -> GuestError:
    return GuestError(f"there is no process {number}; give the id of a running process")


def _open_own(stack: contextlib.ExitStack, kind: str) -> int:
    fd = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _resolve(name: str) -> str:
    """The absolute path that a name leads to over symbolic links, except those in /proc/PID/ns.

    Links in its directory part are left to the kernel: /proc/PID/root only looks like a link to our own root.
    """
    name = os.path.join(os.getcwd(), name)
    for _ in range(_MAX_LINKS):
        try:
            target = os.readlink(name)
        except OSError:
            break
        kind, _, number = target.partition(":[")
        if kind.isidentifier() and number[:-1].isdecimal() and number[-1:] == "]":
            break
        name = os.path.join(os.path.dirname(name), target)
    return name


def _open_process(file: str) -> int | None:
    """A pidfd of the process that a file in /proc/PID/ns belongs to, to learn of its end; None for other files."""
    match file.split("/"):
        case ["", "proc", number, "ns", "net"] if number.isdecimal():
            try:
                return proc.open_process(int(number))
            except OSError as error:
                raise _not_found(file) from error
    return None


def _watch_directory(directory: str) -> int | None:
    """A descriptor that reports changes in a directory; None if that is impossible."""
    try:
        device = os.stat(directory).st_dev
        if _is_proc(f"{os.major(device)}:{os.minor(device)}"):
            return None
        return syscalls.inotify(directory, _CHANGES)
    except OSError:  # the directory is gone, or no watch is left
        return None


def _is_proc(device: str) -> bool:
    """Whether a device is that of a proc file system, which does not report changes."""
    return any(mount.device == device and mount.kind == "proc" for mount in read_mounts())
