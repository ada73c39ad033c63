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
from sansnet_trio.linux.mountinfo import Mount, read_mounts

__all__ = ["file_texts", "prepare_mounts", "rewrite"]

_STAGING: Final = "/proc/fs"
"""A directory that can be covered for a moment while the guest runs, since no program needs it."""


def prepare_mounts(plan: GuestPlan, warnings: list[str], notes: list[str], *, new_proc: bool) -> dict[str, int]:
    """Prepare the guest's new mount namespace, which the caller is in.

    Args:
        plan: plan of the guest.
        warnings: gets a sentence for each file that could not be replaced.
        notes: gets a sentence if the guest has the host's /proc.
        new_proc: whether this process is in a PID namespace of the guest's own, which /proc is to show.

    Returns:
        For each of the guest's own files, by path, a descriptor for reading and writing.
    """
    # Later mounts of the host appear here, but mounts made here do not appear on the host.
    syscalls.mount("none", "/", flags=syscalls.MS_SLAVE | syscalls.MS_REC)
    if new_proc:
        _mount_proc(notes)
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


_PLAIN_PROC: Final = Mount("", "/", "/proc", [], "proc", [])


def _mount_proc(notes: list[str]) -> None:
    """Mount a /proc that shows the processes of our PID namespace, with the options of the host's.

    The kernel forbids it if the host's is not wholly visible, as in most containers.
    """
    mounts = read_mounts()
    present = next(
        (mount for mount in reversed(mounts) if mount.point == "/proc" and mount.kind == "proc"), _PLAIN_PROC
    )
    flags = (
        syscalls.MS_NOSUID
        | syscalls.MS_NODEV
        | syscalls.MS_NOEXEC
        | (syscalls.MS_RDONLY if "ro" in present.options else 0)
    )
    options = ",".join(option for option in present.own_options if option.startswith(("hidepid=", "gid=", "subset=")))
    with contextlib.ExitStack() as stack:
        above = {}
        for point in [mount.point for mount in mounts if mount.point.startswith("/proc/")]:
            with contextlib.suppress(OSError):
                above[point] = os.open(point, os.O_PATH | os.O_CLOEXEC)
                stack.callback(os.close, above[point])
        try:
            syscalls.mount("proc", "/proc", "proc", flags, options or None)
        except OSError as error:
            notes.append(
                f"the guest's /proc shows the processes of the host, since it cannot be replaced here "
                f"({error.strerror}); the guest still cannot signal them"
            )
            return
        for point, file in above.items():  # such as binfmt_misc
            with contextlib.suppress(OSError):
                syscalls.mount(f"/proc/self/fd/{file}", point, flags=syscalls.MS_BIND | syscalls.MS_REC)


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
    tmpfs alive. A path below /etc is covered then, but not a descriptor of it. With `stage` the path is not covered,
    and /proc may be that of the guest's processes, in which a process of the host does not find its descriptors.
    """
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    with contextlib.ExitStack() as stack:
        target = os.open(path, os.O_PATH)
        stack.callback(os.close, target)
        place = f"/proc/self/fd/{target}" if stage is None else path
        directory = stage or os.path.dirname(path)
        syscalls.mount("tmpfs", directory, "tmpfs", flags, "mode=755,size=64m")
        stack.callback(syscalls.unmount, directory, syscalls.MNT_DETACH)
        made = os.path.join(directory, os.path.basename(path))
        files.write(made, text)
        os.chmod(made, 0o644)
        syscalls.mount(made, place, flags=syscalls.MS_BIND)
        return os.open(made, os.O_RDWR | os.O_CLOEXEC)
