"""Making a guest's user namespaces, mapping users into them, and explaining why namespaces cannot be made.

As root of a new user namespace, an ordinary user has privileges over the guest's other new namespaces, and over nothing
else. So that a command can keep its user, a second user namespace inside the first maps that user back: the guest's
network and mounts belong to the first one, and a process in the second one has no capabilities over them.
"""

from __future__ import annotations

import contextlib
import errno
import os

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux import files, syscalls
from sansnet_trio.linux.mountinfo import read_mounts
from sansnet_trio.words import word

__all__ = ["keep_user", "map_identity", "namespace_limit", "not_permitted", "too_many_namespaces", "unshare_user"]


def map_identity(process: int) -> None:
    """Map users and groups into the user namespace of a process.

    Root maps all its users and groups to the same ids. An ordinary user can map only itself (user_namespaces(7)), and
    becomes root in the namespace.

    Args:
        process: descriptor of the process's directory in /proc.

    Raises:
        GuestError: the kernel refuses.
    """
    try:
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # root without CAP_SETUID is mapped like an ordinary user
                for name in ("gid_map", "uid_map"):
                    _write(process, name, _identity_map(name))
                return
        _write(process, "setgroups", "deny")
        _write(process, "uid_map", f"0 {os.geteuid()} 1")
        _write(process, "gid_map", f"0 {os.getegid()} 1")
    except PermissionError as error:
        raise not_permitted("this user cannot be mapped into a user namespace") from error


def _write(directory: int, name: str, text: str) -> None:
    """Write to a file with a single write(2), as maps require."""
    file = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def keep_user(uid: int, gid: int) -> None:
    """Become the original user again, in a second user namespace inside the one where `map_identity` made it root.

    Supplementary groups still count for access to files, but are unmapped: without privileges only one group can be
    mapped (user_namespaces(7)).

    Args:
        uid: id of the user outside.
        gid: id of its group outside.

    Raises:
        GuestError: the second user namespace cannot be made.
    """
    try:
        unshare_user()
        files.write("/proc/self/uid_map", f"{uid} 0 1")  # setgroups is denied in the outer namespace already
        files.write("/proc/self/gid_map", f"{gid} 0 1")
    except (GuestError, OSError) as error:
        raise GuestError(
            "the command cannot keep its user, which takes a second user namespace; "
            f"let it be root with {word('root=True')} ({error})"
        ) from error


def _identity_map(name: str) -> str:
    """A map of all ids of our user namespace to themselves."""
    extents = [line.split() for line in files.read(f"/proc/self/{name}").splitlines()]
    return "".join(f"{first} {first} {count}\n" for first, _, count in extents)


def unshare_user() -> None:
    """Enter a new user namespace, in which no user is mapped yet.

    Raises:
        GuestError: it cannot be made.
    """
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EUSERS):
            raise too_many_namespaces("user") from error
        if error.errno == errno.EINVAL:
            raise GuestError("this kernel has no user namespaces; use one built with CONFIG_USER_NS") from error
        raise not_permitted("user namespaces cannot be made") from error


def too_many_namespaces(kind: str) -> GuestError:
    """The error for ENOSPC from a new namespace."""
    return GuestError(f"no more namespaces ({kind}) are allowed here; raise the limit as root: {namespace_limit(kind)}")


def namespace_limit(kind: str) -> str:
    """The line that raises the limit on namespaces of a kind."""
    return f"sysctl -w user.max_{kind}_namespaces=10000"


def not_permitted(problem: str) -> GuestError:
    """The error for EPERM, with a reason from the kernel's settings."""
    for name, value in (("kernel/apparmor_restrict_unprivileged_userns", 1), ("kernel/unprivileged_userns_clone", 0)):
        with contextlib.suppress(OSError):
            if files.read(f"/proc/sys/{name}").strip() == str(value):
                setting = f"{name.replace('/', '.')}={1 - value}"
                return GuestError(f"{problem}, since user namespaces are restricted here; as root: sysctl -w {setting}")
    if not _is_mapped():
        return GuestError(
            f"{problem}, since this user or group is not mapped here; run it as one of those in /proc/self/uid_map"
        )
    if _is_chroot():
        return GuestError(f"{problem}, since this is a chroot; run sansnet outside of it")
    return GuestError(
        f"{problem}: not permitted; if this is a container, allow it user namespaces (its seccomp profile forbids them)"
    )


def _is_mapped() -> bool:
    """Whether our user and group are mapped in our user namespace (EPERM in user_namespaces(7))."""
    for name, number in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
        with contextlib.suppress(OSError):
            lines = files.read(f"/proc/self/{name}").splitlines()
            extents = [[int(word) for word in line.split()] for line in lines]
            if not any(first <= number < first + count for first, _, count in extents):
                return False
    return True


def _is_chroot() -> bool:
    """Whether our root directory is not a mount point, unlike the root of a mount namespace."""
    with contextlib.suppress(OSError):
        return not any(mount.point == "/" for mount in read_mounts())
    return False
