"""The child that becomes a guest's command, and its parent, the reaper. See `CommandGuest` and `Reaper`.

Theory of operation. The first child enters a new user namespace and a new PID namespace. Only a process that it forks
is in the latter: process 1, the reaper. It has the same parent as the first child, which ends then. The reaper forks
the second child, which makes the guest and becomes the command:

    parent                  first child             reaper                  second child
    start ----------------> new namespaces
                            fork -----------------> wait
    its process id <------- "reaper"
                            "reported" -----------> fork -----------------> its directory in /proc
    map the user <----------------------------------------------------------"made"
                                                    isolate itself          make the guest

Without a PID namespace, the first child is the reaper.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

from sansnet_trio.guest.child import Channel
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.execute import Program, execute
from sansnet_trio.guest.interface import allow_low_ports, allow_ping, configure, open_interface
from sansnet_trio.guest.mounts import prepare_mounts
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.guest.reaper import become_reaper
from sansnet_trio.guest.user_namespace import (
    keep_user,
    namespace_limit,
    not_permitted,
    too_many_namespaces,
    unshare_user,
)
from sansnet_trio.linux import netlink_messages, proc, syscalls
from sansnet_trio.words import word

__all__ = ["Start", "Started", "become"]

_REPORTED = b"reported"


class Started(NamedTuple):
    """The first message of a child.

    Attributes:
        reaper: process id of the reaper.
        alone: whether the guest has a PID namespace of its own.
        problem: a sentence that says why it has none although it should.
    """

    reaper: int
    alone: bool
    problem: str | None


class Start(NamedTuple):
    """The message that starts the command.

    Attributes:
        foreground: whether it gets a process group of its own, which becomes the foreground one of its terminal, stdin.
    """

    foreground: bool = False


def become(
    program: Program,
    prepare: Callable[[], tuple[GuestPlan, object]],
    host_processes: bool,
    channel: Channel,
    parent: int,
) -> None:
    """Make the guest, then become the command.

    Args:
        program: the command.
        prepare: see `CommandGuest.fork`.
        host_processes: see `CommandGuest.fork`.
        channel: a channel to the parent.
        parent: process id of the parent.
    """
    user = os.geteuid(), os.getegid()
    unshare_user()
    syscalls.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        return
    problem = None if host_processes else _unshare_processes()
    alone = not host_processes and problem is None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    syscalls.forbid_dump()  # no process of the guest may ever look into the reaper
    reaper = _fork_reaper() if alone else os.getpid()
    if reaper:
        channel.send(Started(reaper, alone, problem), [theirs.fileno()])
        if alone:
            theirs.send(_REPORTED)
            os._exit(0)
        syscalls.adopt_orphans()
    else:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        _leave_group()
    theirs.close()
    if alone and not ours.recv(len(_REPORTED)):
        return
    reaper = os.getpid()
    command = os.fork()
    if command:
        channel.close()
        become_reaper(ours, command, alone=alone, users=user[0] == 0)
    ours.close()
    syscalls.allow_dump()  # so that the parent may map the user
    syscalls.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != reaper:
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _make_guest(program, prepare, channel, alone=alone, user=user)


def _unshare_processes() -> str | None:
    """Let children be in a new PID namespace; a sentence if that is impossible."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        limit = f"; as root: {namespace_limit('pid')}" if error.errno == errno.ENOSPC else ""
        return (
            f"the command has no PID namespace of its own ({error.strerror}{limit}): it sees your other processes, and "
            "may end them"
        )
    return None


def _leave_group() -> None:
    """Begin a process group for the guest, unless there is a terminal, which must reach it together with our process.

    Signals to a process's own group, as of kill(0), also reach its members outside of the PID namespace.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENXIO:
            os.setpgid(0, 0)


def _fork_reaper() -> int:
    try:
        return syscalls.fork_sibling()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        remedy = f"use those of the host with {word('host_processes=True')}"
        raise GuestError(f"the command cannot have process ids of its own here; {remedy}") from error


def _make_guest(
    program: Program,
    prepare: Callable[[], tuple[GuestPlan, object]],
    channel: Channel,
    *,
    alone: bool,
    user: tuple[int, int],
) -> None:
    """The part of the second child."""
    own, process = proc.open_own(), os.pidfd_open(os.getpid())
    channel.send("made", [own, process])
    os.close(own)
    os.close(process)
    netlink_messages.load()  # while the parent maps the user
    channel.receive()
    plan, prepared = prepare()
    warnings: list[str] = []
    notes: list[str] = []
    _unshare_network(plan, ipc=alone)
    # Descriptors of them, because not every process that enters them later can find this one in /proc
    namespaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "net", "mnt")]
    own_files = prepare_mounts(plan, warnings, notes, new_proc=alone)
    allow_ping()
    tap, link = open_interface(plan)
    configure(plan, warnings)
    if user[0] and not plan.root:
        allow_low_ports()
        keep_user(*user)
    ready = (tuple(own_files), link, prepared, tuple(warnings), tuple(notes))
    channel.send(ready, [tap, *namespaces, *own_files.values()])
    for descriptor in namespaces:
        os.close(descriptor)
    start: Start = channel.receive()
    if start.foreground:
        _take_terminal()
    execute(program)


def _unshare_network(plan: GuestPlan, *, ipc: bool) -> None:
    kinds = {"net": syscalls.CLONE_NEWNET, "mnt": syscalls.CLONE_NEWNS}
    if plan.hostname is not None:
        kinds["uts"] = syscalls.CLONE_NEWUTS
    if ipc:
        kinds["ipc"] = syscalls.CLONE_NEWIPC
    for kind, flag in kinds.items():
        try:
            syscalls.unshare(flag)
        except OSError as error:
            if kind == "ipc" and error.errno == errno.EINVAL:  # this kernel has none
                continue
            if error.errno == errno.ENOSPC:
                raise too_many_namespaces(kind) from error
            raise not_permitted(f"a new namespace ({kind}) cannot be made") from error
    if plan.hostname is not None:
        socket.sethostname(plan.hostname)


def _take_terminal() -> None:
    """Make this process the leader of the terminal's foreground process group."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # else a background process is stopped
        try:
            os.tcsetpgrp(0, os.getpgrp())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
