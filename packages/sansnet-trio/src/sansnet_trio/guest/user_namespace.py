"""Users of a guest's user namespaces, and why namespaces may not be made here.

A new user namespace makes an ordinary user privileged over the other new ones, and nothing else. That takes being root
in it. So that a command can keep its user, a second user namespace inside the first one maps that user back: the
guest's network and mounts belong to the first one, and a process in the second one has no capabilities over them.
"""

from __future__ import annotations

import contextlib
import errno
import os

from sansnet_trio.guest.errors import GuestError
from sansnet_trio.linux import files, syscalls

__all__ = ["keep_user", "map_identity", "not_permitted", "too_many_namespaces", "unshare_user"]


def map_identity(process: int) -> None:
    """Give the user namespace of a process the users and groups that it is to have.

    Root's namespace has all that ours has, under the same numbers; an ordinary user's has that user alone, as root
    (user_namespaces(7): more takes privileges).

    Args:
        process: a descriptor of its directory in /proc.

    Raises:
        GuestError: it may not have them.
    """
    try:
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # root without CAP_SETUID is no more than a user here
                for name in ("gid_map", "uid_map"):
                    _write(process, name, _identity_map(name))
                return
        _write(process, "setgroups", "deny")
        _write(process, "uid_map", f"0 {os.geteuid()} 1")
        _write(process, "gid_map", f"0 {os.getegid()} 1")
    except PermissionError as error:
        raise not_permitted("this user cannot be mapped into a user namespace") from error


def _write(directory: int, name: str, text: str) -> None:
    """Write a file in one system call."""
    file = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def keep_user(uid: int, gid: int) -> None:
    """In a namespace where `map_identity` made an ordinary user root, be that user again, in a namespace inside of it.

    The supplementary groups stay, as far as access to files is concerned; they have no number here
    (user_namespaces(7): no more than one group can be mapped without privileges).

    Args:
        uid: the user, by its number outside.
        gid: its group.

    Raises:
        GuestError: there is no second user namespace for us.
    """
    try:
        unshare_user()
        files.write("/proc/self/uid_map", f"{uid} 0 1")  # setgroups is denied already, as in the outer one
        files.write("/proc/self/gid_map", f"{gid} 0 1")
    except (GuestError, OSError) as error:
        raise GuestError(
            "the command cannot keep its user, which takes a second user namespace; let it be root with --root "
            f"({error})"
        ) from error


def _identity_map(name: str) -> str:
    """Our own map, but from what is here to the same there."""
    extents = [line.split() for line in files.read(f"/proc/self/{name}").splitlines()]
    return "".join(f"{first} {first} {count}\n" for first, _, count in extents)


def unshare_user() -> None:
    """Enter a new user namespace, in which nobody is mapped yet.

    Raises:
        GuestError: there are none for us.
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
    """Why the kernel said ENOSPC to a new namespace."""
    name = f"user.max_{kind}_namespaces"
    return GuestError(f"no more namespaces ({kind}) are allowed here; raise the limit as root: sysctl -w {name}=10000")


def not_permitted(what: str) -> GuestError:
    """Why the kernel may have said EPERM, as its switches tell."""
    for name, value in (("kernel/apparmor_restrict_unprivileged_userns", 1), ("kernel/unprivileged_userns_clone", 0)):
        with contextlib.suppress(OSError):
            if files.read(f"/proc/sys/{name}").strip() == str(value):
                setting = f"{name.replace('/', '.')}={1 - value}"
                return GuestError(f"{what}, since user namespaces are restricted here; as root: sysctl -w {setting}")
    if not _is_mapped():
        return GuestError(f"{what}, since this user or group has no number here; run it as one that its uid_map has")
    if _is_chroot():
        return GuestError(f"{what}, since this is a chroot; run it outside of it")
    return GuestError(
        f"{what}: not permitted; if this is a container, let it make user namespaces (its seccomp profile forbids that)"
    )


def _is_mapped() -> bool:
    """Whether the user namespace that we are in knows our user and group (EPERM in user_namespaces(7))."""
    for name, number in (("uid_map", os.geteuid()), ("gid_map", os.getegid())):
        with contextlib.suppress(OSError):
            lines = files.read(f"/proc/self/{name}").splitlines()
            extents = [[int(word) for word in line.split()] for line in lines]
            if not any(first <= number < first + count for first, _, count in extents):
                return False
    return True


def _is_chroot() -> bool:
    """Whether our root is no mount, as that of a mount namespace is."""
    with contextlib.suppress(OSError):
        return not any(line.split()[4] == "/" for line in files.read("/proc/self/mountinfo").splitlines())
    return False
