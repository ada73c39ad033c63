"""A guest that is a command in its own namespaces: making, configuring, starting it and waiting for its end.

Theory of operation. `CommandGuest.fork` starts a child that becomes the command. The two talk over a socket:

    parent                                child
    start ------------------------------> enter a new user namespace, as its root
    map the user into it <--------------- "made"
    "mapped" ---------------------------> call prepare(), still in the host's network: it returns the guest's plan
    (free to do something else)           enter new network and mount namespaces; open and configure the tap
                                          enter a second user namespace, as the original user
    ready() <---------------------------- the tap's descriptor and properties, the result of prepare()
    start() ----------------------------> exec
    wait() <----------------------------- exit

The child has one thread and no event loop; an exception in it is raised in the parent. A new user namespace gives an
ordinary user privileges over the other new namespaces, and over nothing else. Root gets one too, so that both take the
same path; root stays root in it, and all users are mapped. The command of an ordinary user has that user's id and no
privileges, unless the plan makes it root. Namespaces, mounts and interface have no names, so the kernel removes them
with the last process that uses them. The child has the terminal, session and process group of its parent, and dies with
it. When the command ends, the processes that it left in the background are ended, since they have no network any more;
if the parent is killed with SIGKILL, they survive without a network.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sansnet_core.errors import UsageError
from sansnet_trio.guest import remaining
from sansnet_trio.guest.child import Channel, start_child, wait_answer
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.execute import Program, execute
from sansnet_trio.guest.interface import allow_low_ports, allow_ping, configure, open_interface
from sansnet_trio.guest.live_change import LiveGuest, change_guest
from sansnet_trio.guest.mounts import prepare_mounts
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.guest.socket_agent import Socket, SocketAgents
from sansnet_trio.guest.user_namespace import keep_user, map_identity, not_permitted, too_many_namespaces, unshare_user
from sansnet_trio.linux import proc, syscalls
from sansnet_trio.linux.children import end_child
from sansnet_trio.linux.descriptors import Reserve, Uncopyable
from sansnet_trio.linux.rtnetlink import load_alone, subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import GuestChange

__all__ = ["CommandGuest"]

T = TypeVar("T")

_GRACE: Final = 0.5
"""Seconds between SIGTERM and SIGKILL for processes that the command left."""
_POLL_INTERVAL: Final = 0.01
_RESERVED: Final = 2
"""Descriptors that are reserved for finding these processes: one of /proc, and one of a process."""


class CommandGuest(Uncopyable, Generic[T]):
    """A command in its own user, network and mount namespaces. Made by `fork`.

    Close it, or use it as a context manager: that kills the command if it still runs, and the processes that it left.
    It makes sockets in the guest's network (`GuestSockets`).

    Attributes:
        pid: process id of the command.
        host_changes: a socket from `rtnetlink.subscribe`, made before the host was read.
    """

    def __init__(self, pid: int, channel: Channel, host_changes: socket.socket) -> None:
        self.pid = pid
        self.host_changes = host_changes
        self._channel = channel
        self._pidfd = os.pidfd_open(pid)
        self._directory: int | None = None
        self._status: int | None = None
        self._namespace: remaining.NetworkNamespace | None = None
        self._reserve: Reserve | None = None
        self._agents: SocketAgents | None = None
        self._files: dict[str, int] = {}
        """Descriptors of the guest's own files, by path."""
        self._live: LiveGuest | None = None

    @classmethod
    def fork(
        cls,
        command: Sequence[str],
        prepare: Callable[[], tuple[GuestPlan, T]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        streams: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> CommandGuest[T]:
        """Start a child that prepares the guest and waits for `start`.

        The child is forked, which blocks for a few milliseconds. If this process has several threads, the child is a
        new Python, and this blocks for some 100 ms; `begin` does not.

        Args:
            command: the program, looked up in PATH, and its arguments.
            prepare: returns the plan of the guest, and any other value, which is pickled for the parent and returned by
                `ready`. It runs in the child, in the host's network namespace, while the parent goes on. If this
                process has several threads, it must be a function of a module, or a `functools.partial` of one.
            env: the command's environment; None is that of this process.
            cwd: the command's working directory; None is that of this process.
            streams: descriptors that become the command's stdin, stdout and stderr; None keeps that of this process.

        Raises:
            GuestError: we may not make user namespaces, or `prepare` cannot be pickled.
            UsageError: the command is empty, or one string.
            OSError: no process can be started, or no descriptor is left.
        """
        guest = cls._start(Program(command, env, cwd, streams), prepare)
        try:
            guest._map_user()
        except BaseException:
            guest.close()
            raise
        return guest

    @classmethod
    async def begin(
        cls,
        command: Sequence[str],
        prepare: Callable[[], tuple[GuestPlan, T]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        streams: tuple[int | None, int | None, int | None] = (None, None, None),
    ) -> CommandGuest[T]:
        """Like `fork`, for programs that run trio: other tasks run while a new Python starts.

        Args:
            command: see `fork`.
            prepare: see `fork`.
            env: see `fork`.
            cwd: see `fork`.
            streams: see `fork`.

        Raises:
            GuestError, UsageError, OSError: see `fork`.
        """
        guest = cls._start(Program(command, env, cwd, streams), prepare)
        try:
            await wait_answer(guest._channel)
            guest._map_user()
        except BaseException:
            guest.close()
            raise
        return guest

    @classmethod
    def _start(cls, program: Program, prepare: Callable[[], tuple[GuestPlan, T]]) -> CommandGuest[T]:
        if isinstance(program.command, str):
            raise UsageError("a guest's command is a list of words; give [program, argument, ...]")
        if not program.command:
            raise UsageError("a guest needs a command: the name of a program, and its arguments")
        host_changes = subscribe()
        try:
            pid, channel = start_child(partial(_become, program, prepare), program.descriptors)
        except BaseException:
            host_changes.close()
            raise
        return cls(pid, channel, host_changes)

    def _map_user(self) -> None:
        """Answer the child's first message."""
        try:
            _, self._directory = self._channel.receive_with_descriptor()
            self._agents = SocketAgents(partial(_join, self._directory), (self._directory,))
            map_identity(self._directory)
            self._channel.send("mapped")
        except EOFError:
            raise GuestError.killed() from None

    def fileno(self) -> int:
        """A descriptor that is readable when `receive_ready` does not block."""
        return self._channel.fileno()

    async def ready(self) -> ReadyGuest[T]:
        """Wait until the guest is configured and the command could start.

        Raises:
            GuestError: the guest could not be made.
            EOFError: a signal ended the child.
            Exception: `prepare` raised it.
        """
        await wait_answer(self._channel)
        return self.receive_ready()

    def receive_ready(self) -> ReadyGuest[T]:
        """Like `ready`, but blocking: for programs that do not run trio yet."""
        (self._namespace, paths, *rest), descriptors = self._channel.receive_with_descriptors()
        if not descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        tap, *opened = descriptors
        self._files = dict(zip(paths, opened, strict=False))  # a file without a descriptor stays as it is
        assert self._directory is not None
        mounts = f"/proc/self/fd/{self._directory}/ns/mnt"
        self._live = LiveGuest(partial(_join, self._directory), (self._directory,), mounts, self._files)
        try:
            self._reserve = Reserve(_RESERVED)
        except OSError:
            os.close(tap)
            raise
        return ReadyGuest(tap, *rest)

    def start(self) -> None:
        """Start the command."""
        self._channel.send("start")

    async def started(self) -> None:
        """Wait until the command runs, after `start`. A command that could not begin has ended after that.

        Raises:
            CommandNotFound: there is no such program.
            CommandNotExecutable: the file cannot be executed.
            GuestError: the working directory cannot be entered.
        """
        await wait_answer(self._channel)
        with contextlib.suppress(EOFError):  # the socket closes on exec
            self._channel.receive()

    @property
    def returncode(self) -> int | None:
        """The command's status as in `wait`, if `wait` or `reap` has returned it already; otherwise None."""
        return self._status

    async def wait(self) -> int:
        """Wait until the command ends.

        Returns:
            Its exit status, or the negative number of the signal that ended it.

        Raises:
            CommandNotFound: the command did not start, since there is no such program.
            CommandNotExecutable: the command did not start, since the file cannot be executed.
        """
        import trio

        await trio.lowlevel.wait_readable(self._pidfd)
        status = self.reap()
        with contextlib.suppress(EOFError):  # the socket closes on exec, so EOF means that the command started
            self._channel.receive()
        return status

    def reap(self) -> int:
        """Block until the command, or the child before exec, ends; its status as in `wait`."""
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    @property
    def own_files(self) -> Collection[str]:
        """Paths of the guest's own files."""
        return self._files.keys()

    async def change(self, change: GuestChange) -> tuple[str, ...]:
        """Change the guest while its command runs. Its own files that the guest has modified are left alone.

        Returns:
            A sentence for each file that could not be replaced.

        Raises:
            OSError: the change is not permitted, or the guest has ended.
            GuestError: the interface cannot have an address.
        """
        if self._status is not None:
            raise ProcessLookupError(errno.ESRCH, "the guest has ended")
        return await change_guest(self.live(), change)

    def live(self) -> LiveGuest:
        """The guest, to be changed by this process, or by a fork of it; from `ready` on."""
        assert self._live is not None
        return self._live

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`; from `ready` to the end of the command. The first call starts the socket agent."""
        return self._living_agents().socket(family, kind)

    async def prepare_sockets(self) -> None:
        """See `GuestSockets`: starts the socket agent."""
        await self._living_agents().begin()

    def _living_agents(self) -> SocketAgents:
        if self._status is not None:
            raise ProcessLookupError(errno.ESRCH, "the guest has ended")
        assert self._agents is not None
        return self._agents

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return f"/proc/self/fd/{self._directory}"

    async def end_remaining(self) -> None:
        """End the processes that the command left in its network namespace: with SIGTERM, and after 0.5 s SIGKILL.

        Raises:
            OSError: the processes cannot be found.
        """
        import trio

        if self._namespace is None or self._reserve is None:
            return
        self._close_agents()
        with trio.move_on_after(_GRACE):
            # A stopped process handles SIGTERM only after SIGCONT.
            numbers = [signal.SIGTERM, signal.SIGCONT]
            while self._signal_remaining(self._namespace, numbers):
                numbers = []
                await trio.sleep(_POLL_INTERVAL)
        self._kill_remaining()

    def _signal_remaining(self, namespace: remaining.NetworkNamespace, numbers: Iterable[int]) -> bool:
        assert self._reserve is not None
        with self._reserve.open():
            return remaining.signal_remaining(namespace, numbers)

    def _kill_remaining(self) -> None:
        if self._namespace is not None and self._reserve is not None:
            with self._reserve.open():
                remaining.kill_remaining(self._namespace)

    def _close_agents(self) -> None:
        if self._agents is not None:
            self._agents.close()

    def close(self) -> None:
        """Kill the command and the processes that it left, and close all descriptors. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.send_signal(signal.SIGKILL)
        if self._status is None:
            end_child(self.pid)
        self._close_agents()
        with contextlib.suppress(OSError, MemoryError):  # they cannot be found, as `end_remaining` reported
            self._kill_remaining()
        if self._reserve is not None:
            self._reserve.close()
        self._channel.close()
        self.host_changes.close()
        while self._files:
            os.close(self._files.popitem()[1])
        for descriptor in (self._pidfd, self._directory):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = -1

    def __enter__(self) -> CommandGuest[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _join(directory: int) -> None:
    """Enter a guest's user and network namespaces.

    Args:
        directory: descriptor of the command's directory in /proc.
    """
    with open(f"/proc/self/fd/{directory}/ns/net") as network:
        # If the command keeps its user, it is in another user namespace than the network's owner
        syscalls.setns(syscalls.open_owner(network.fileno()), syscalls.CLONE_NEWUSER)
        syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)


# the child's part


def _become(program: Program, prepare: Callable[[], tuple[GuestPlan, object]], channel: Channel, parent: int) -> None:
    """Make the guest, then become the command."""
    uid, gid = os.geteuid(), os.getegid()
    unshare_user()
    syscalls.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        return
    own = proc.open_own()
    channel.send("made", [own])
    os.close(own)
    load_alone()  # while the parent maps the user
    channel.receive()
    plan, prepared = prepare()
    warnings: list[str] = []
    _unshare_network(plan)
    own_files = prepare_mounts(plan, warnings)
    allow_ping()
    tap, link = open_interface(plan)
    configure(plan, warnings)
    if uid and not plan.root:
        allow_low_ports()
        keep_user(uid, gid)
    ready = (remaining.network_namespace("self"), tuple(own_files), link, prepared, tuple(warnings))
    channel.send(ready, [tap, *own_files.values()])
    channel.receive()
    execute(program)


def _unshare_network(plan: GuestPlan) -> None:
    kinds = {"net": syscalls.CLONE_NEWNET, "mnt": syscalls.CLONE_NEWNS}
    if plan.hostname is not None:
        kinds["uts"] = syscalls.CLONE_NEWUTS
    for kind, flag in kinds.items():
        try:
            syscalls.unshare(flag)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise too_many_namespaces(kind) from error
            raise not_permitted(f"a new namespace ({kind}) cannot be made") from error
    if plan.hostname is not None:
        socket.sethostname(plan.hostname)
