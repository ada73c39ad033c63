"""Mounts of a guest's own, in its own mount namespace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from sansnet_trio.guest import hosts_file
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import RESOLV_CONF
from sansnet_trio.linux import files, syscalls

__all__ = ["file_texts", "prepare_mounts", "rewrite"]

_STAGING: Final = "/proc/fs"
"""A directory that no program needs for a moment, while the guest runs."""


def prepare_mounts(plan: GuestPlan, warnings: list[str]) -> dict[str, int]:
    """Mounts of the guest's own, in its own mount namespace.

    Returns:
        For each file of the guest's own, by path, a descriptor that reads and writes it from anywhere.
    """
    # What the host mounts later is seen here, but nothing that is mounted here is seen there.
    syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    _mount_sysfs()
    made: dict[str, int] = {}
    for path, text in file_texts(plan):
        try:
            made[path] = _mount_over(path, text)
        except FileNotFoundError:
            missing = os.path.realpath(path)
            warnings.append(
                f"the guest has no {path}, since the host has none to put it in place of, so names may not be found; "
                f"as root: touch {missing}"
            )
        except OSError as error:
            warnings.append(f"the guest's {path} cannot be replaced ({error.strerror}): names may not be found")
    return made


def file_texts(plan: GuestPlan) -> Iterator[tuple[str, str]]:
    """Path and text of each file that is the guest's own. Reads the host's hosts file."""
    if plan.resolv_conf is not None:
        yield RESOLV_CONF, plan.resolv_conf
    if plan.hosts:
        base = ""
        with contextlib.suppress(OSError):
            base = files.read(hosts_file.HOSTS)
        yield hosts_file.HOSTS, hosts_file.render(plan.hosts, base)


def rewrite(path: str, text: str, descriptor: int, *, changed: bool) -> int | None:
    """Give a file of the guest's own another text, in its mount namespace.

    A mount at a file is gone when a process of the host renames another file over that; then it is made anew.

    Args:
        path: of the file.
        text: what it is to have.
        descriptor: of the file that was mounted there.
        changed: whether that may have another text. If not, it is left alone as long as it is there.

    Returns:
        A descriptor of the new file, if it had to be made.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            if changed:
                _write(descriptor, text.encode())
            return None
    return _mount_over(path, text, stage=_STAGING)


def _write(descriptor: int, data: bytes) -> None:
    """Put a text in place of another one, so that no reader meets an empty file."""
    os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
    os.ftruncate(descriptor, len(data))


def _mount_sysfs() -> None:
    """Let /sys/class/net show the guest's interfaces. Some containers do not allow that; hardly anything needs it."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        cgroup = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, cgroup)
        syscalls.mount("sysfs", "/sys", "sysfs", flags)
        syscalls.mount(f"/proc/self/fd/{cgroup}", "/sys/fs/cgroup", flags=syscalls.MS_BIND | syscalls.MS_REC)


def _mount_over(path: str, text: str, stage: str | None = None) -> int:
    """Put a file of memory in place of one of the host's in /etc, without writing to a disk; a descriptor of it.

    A tmpfs covers /etc, or the directory `stage`, for as long as it takes to make a file in it and bind that; bound,
    the file keeps it alive. The target's descriptor leads to what is covered, and past symbolic links.
    """
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    with contextlib.ExitStack() as stack:
        target = os.open(path, os.O_PATH)
        stack.callback(os.close, target)
        directory = stage or os.path.dirname(path)
        syscalls.mount("tmpfs", directory, "tmpfs", flags, "mode=755,size=64m")
        stack.callback(syscalls.unmount, directory, syscalls.MNT_DETACH)
        made = os.path.join(directory, os.path.basename(path))
        files.write(made, text)
        os.chmod(made, 0o644)
        syscalls.mount(made, f"/proc/self/fd/{target}", flags=syscalls.MS_BIND)
        return os.open(made, os.O_RDWR | os.O_CLOEXEC)
