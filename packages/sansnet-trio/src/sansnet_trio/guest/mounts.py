"""Mounts in a guest's mount namespace: its own files over those of the host."""

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
"""A directory that can be covered for a moment while the guest runs, since no program needs it."""


def prepare_mounts(plan: GuestPlan, warnings: list[str]) -> dict[str, int]:
    """Prepare the guest's new mount namespace, which the caller is in.

    Args:
        plan: plan of the guest.
        warnings: gets a sentence for each file that could not be replaced.

    Returns:
        For each of the guest's own files, by path, a descriptor for reading and writing.
    """
    # Later mounts of the host appear here, but mounts made here do not appear on the host.
    syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    _mount_sysfs()
    made: dict[str, int] = {}
    for path, text in file_texts(plan):
        try:
            made[path] = _mount_over(path, text)
        except FileNotFoundError:
            missing = os.path.realpath(path)
            warnings.append(
                f"the guest has no {path}, since the host has none to mount it over, so names may not be found; "
                f"as root: touch {missing}"
            )
        except OSError as error:
            warnings.append(f"the guest's {path} cannot be replaced ({error.strerror}): names may not be found")
    return made


def file_texts(plan: GuestPlan) -> Iterator[tuple[str, str]]:
    """Path and contents of each of the guest's own files. Reads the host's hosts file."""
    if plan.resolv_conf is not None:
        yield RESOLV_CONF, plan.resolv_conf
    if plan.hosts:
        base = ""
        with contextlib.suppress(OSError):
            base = files.read(hosts_file.HOSTS)
        yield hosts_file.HOSTS, hosts_file.render(plan.hosts, base)


def rewrite(path: str, text: str, descriptor: int, *, changed: bool) -> int | None:
    """Replace the contents of one of the guest's own files; called in its mount namespace.

    If a process of the host renames another file over the host's file, the kernel removes the mount; then the file is
    made and mounted anew.

    Args:
        path: path of the file.
        text: the new contents.
        descriptor: descriptor of the file that was mounted there.
        changed: whether to write to the file if it is still mounted.

    Returns:
        A descriptor of the new file, if it was made anew.

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
    """Replace the contents of a file, so that no reader finds it empty."""
    os.pwrite(descriptor, data.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
    os.ftruncate(descriptor, len(data))


def _mount_sysfs() -> None:
    """Make /sys/class/net show the guest's interfaces. Some containers forbid that, but few programs need it."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        cgroup = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, cgroup)
        syscalls.mount("sysfs", "/sys", "sysfs", flags)
        syscalls.mount(f"/proc/self/fd/{cgroup}", "/sys/fs/cgroup", flags=syscalls.MS_BIND | syscalls.MS_REC)


def _mount_over(path: str, text: str, stage: str | None = None) -> int:
    """Mount a new file in memory over a file of the host in /etc; a descriptor of the new file.

    A tmpfs covers /etc, or the directory `stage`, until a file is made in it and bind-mounted; the mount keeps the
    tmpfs alive. The target's descriptor leads to the covered file, and past symbolic links.
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
