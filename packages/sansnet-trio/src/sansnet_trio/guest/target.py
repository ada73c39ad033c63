"""Network namespaces that exist already: found, entered, and watched until they are gone.

Theory of operation. A namespace goes by the name of a file: one that a mount has put in place, as `ip netns add` does,
or one of /proc/PID/ns. It is gone when that file is. The kernel tells of files that are deleted (inotify(7)), but not
of those in /proc; there it tells when the process ends (pidfd_open(2)), and what is neither is looked at each second.
So is a file that a process sees (/proc/PID/root/...): it may go without being deleted, with that process's mounts.

Meanwhile we have it open, and a tap in it, so that in truth it lives on until we end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
from collections.abc import Callable
from struct import Struct
from typing import Final

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux import proc, syscalls

__all__ = ["NAMED", "ExistingNamespace"]

NAMED: Final = "/run/netns"
"""Where namespaces with a name are (ip-netns(8))."""

# linux/nsfs.h
_NS_GET_PARENT: Final = 0xB702
_NS_GET_NSTYPE: Final = 0xB703
_NS_GET_OWNER_UID: Final = 0xB704
_UID: Final = Struct("=I")
_KINDS: Final = {syscalls.CLONE_NEWNET: "network", syscalls.CLONE_NEWUSER: "user"}

_CHANGES: Final = syscalls.IN_DELETE | syscalls.IN_MOVED_FROM | syscalls.IN_DELETE_SELF | syscalls.IN_UNMOUNT
_EVENTS_SIZE: Final = 1 << 12

_MAX_LINKS: Final = 40
"""Most symbolic links that a name may lead over, as for the kernel."""
_POLL_INTERVAL: Final = 1.0
"""Seconds between looks at a name in /proc."""


class ExistingNamespace:
    """A network namespace that exists, with the user namespace to enter before it, if any.

    Args:
        network: name of the network namespace's file.
        user: likewise, of the user namespace that has privileges over it; None if that is the one that we are in.
        owner: whether to ask the kernel instead which user namespace that is.

    Attributes:
        network: see above.

    Raises:
        GuestError: there is no such namespace, or it is not ours to enter.
    """

    def __init__(self, network: str, user: str | None = None, *, owner: bool = False) -> None:
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
                self._user = None  # the kernel refuses to enter where one is
            self._close: Callable[[], None] = stack.pop_all().close

    @classmethod
    def of_process(cls, pid: int) -> ExistingNamespace:
        """The network namespace of a process. Its user namespace may be another one than that which owns its network.

        Raises:
            GuestError: there is no such process, or its namespaces are not ours to enter.
        """
        try:
            number = proc.number_of(pid)
        except OSError as error:
            raise _no_process(pid) if os.path.exists("/proc/self") else GuestError(proc.NO_PROC) from error
        return cls(f"/proc/{number}/ns/net", owner=True)

    @classmethod
    def named(cls, name: str, user: str | None = None) -> ExistingNamespace:
        """The namespace of a name that `ip netns` knows, or of a path, if there is a slash in it.

        Raises:
            GuestError: there is no such namespace, or it is not ours to enter.
        """
        return cls(name if "/" in name else f"{NAMED}/{name}", user)

    def join(self) -> None:
        """Enter it, in a process of one thread.

        Raises:
            OSError: it is not permitted.
        """
        if self._user is not None:
            syscalls.setns(self._user, syscalls.CLONE_NEWUSER)
        syscalls.setns(self._network, syscalls.CLONE_NEWNET)

    def needs_privileges(self) -> bool:
        """Whether entering it takes capabilities that we have now, in the user namespace that we are in.

        The user who made the guest's user namespace, or one that it is in, needs none (user_namespaces(7)).
        """
        if self._user is None:
            return True
        with contextlib.ExitStack() as stack:
            own = _open_own(stack, "user")
            namespace = self._user
            try:
                while not os.path.sameopenfile(parent := fcntl.ioctl(namespace, _NS_GET_PARENT), own):
                    stack.callback(os.close, parent)
                    namespace = parent
                stack.callback(os.close, parent)
                owner = fcntl.ioctl(namespace, _NS_GET_OWNER_UID, bytes(_UID.size))
            except OSError:  # EPERM: it is in none that is in ours
                return True
            return _UID.unpack(owner) != (os.geteuid(),)

    def entry_error(self, error: OSError) -> GuestError:
        """Why it may not be entered."""
        if error.errno != errno.EPERM:
            return GuestError(f"{self.network} cannot be entered: {error.strerror}")
        if self._user is not None and not self._is_owner(self._user):
            remedy = "the user namespace that was given does not own it; give the one that does, or a process's number"
        elif self._user is not None:
            remedy = "run sansnet as the user that made it, or as root"
        else:
            remedy = "run sansnet as root, or say which user namespace it was made in (--userns)"
        return GuestError(f"{self.network} may not be entered: not permitted; {remedy}")

    async def wait_gone(self) -> None:
        """Wait until nothing of that name leads to it any more."""
        import trio

        if self._process is not None:
            await trio.lowlevel.wait_readable(self._process)
            return
        changes = _watch_directory(os.path.dirname(self._file))
        try:
            while self._exists():
                with trio.move_on_after(self._poll_interval(changes)):
                    if changes is None:
                        await trio.sleep_forever()
                    else:
                        await trio.lowlevel.wait_readable(changes)
                        os.read(changes, _EVENTS_SIZE)
        finally:
            if changes is not None:
                os.close(changes)

    def close(self) -> None:
        """Let go of it."""
        self._close()

    def _is_owner(self, user: int) -> bool:
        """Whether a user namespace owns the network namespace; no if that cannot be told from where we are by now."""
        try:
            owner = syscalls.open_owner(self._network)
        except OSError:
            return False
        try:
            return os.path.sameopenfile(owner, user)
        finally:
            os.close(owner)

    def _poll_interval(self, changes: int | None) -> float:
        """Seconds until the next look, if nothing tells of a change before."""
        return _POLL_INTERVAL if changes is None or self._file.startswith("/proc/") else math.inf

    def _exists(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._file), os.fstat(self._network))
        except PermissionError:  # whoever we are by now does not see it
            return True
        except OSError:
            return False


def _open_namespace(name: str, kind: int) -> int:
    """A descriptor of a namespace."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a FIFO does not wait for a writer
    except FileNotFoundError as error:
        raise _not_found(name) from error
    except PermissionError as error:
        raise GuestError(f"{name} may not be opened: run sansnet as the user that made it, or as root") from error
    except OSError as error:
        raise GuestError(f"{name} cannot be opened: {error.strerror}") from error
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == kind:
            return fd
    except OSError:  # it is a file like others
        pass
    os.close(fd)
    raise GuestError(
        f"{name} is no {_KINDS[kind]} namespace; give the file of one, like {NAMED}/NAME or /proc/PID/ns/..."
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
    return GuestError(f"there is no process {number}; give the number of one that runs")


def _open_own(stack: contextlib.ExitStack, kind: str) -> int:
    fd = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _resolve(name: str) -> str:
    """The file that a name leads to over symbolic links, wherever we may be later; those of /proc/PID/ns lead nowhere.

    Links to its directory are left to the kernel: /proc/PID/root only looks like a link to our own root.
    """
    name = os.path.join(os.getcwd(), name)
    for _ in range(_MAX_LINKS):
        try:
            target = os.readlink(name)
        except OSError:
            break
        if re.fullmatch(r"\w+:\[\d+\]", target):
            break
        name = os.path.join(os.path.dirname(name), target)
    return name


def _open_process(file: str) -> int | None:
    """A descriptor of the process whose namespace that is; it tells when the process ends."""
    match = re.fullmatch(r"/proc/(\d+)/ns/net", file)
    if match is None:
        return None
    try:
        return proc.open_process(int(match[1]))
    except OSError as error:
        raise _not_found(file) from error


def _watch_directory(directory: str) -> int | None:
    """A descriptor that tells of changes in a directory; None if nothing does."""
    try:
        device = os.stat(directory).st_dev
        if _is_proc(f"{os.major(device)}:{os.minor(device)}"):
            return None
        return syscalls.inotify(directory, _CHANGES)
    except OSError:  # the directory is gone, or nobody may have more watches
        return None


def _is_proc(device: str) -> bool:
    """Whether that is a file system which does not tell of changes."""
    with open("/proc/self/mountinfo") as mounts:
        return any(line.split()[2] == device and " - proc " in line for line in mounts)
