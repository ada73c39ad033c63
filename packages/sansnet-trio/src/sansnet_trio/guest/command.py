"""A guest that is a command in namespaces of its own: made, configured, started and waited for.

Theory of operation. `CommandGuest.fork` forks a child that becomes the command. Step by step, with a socket between the
two:

    parent                                child
    fork -------------------------------> new user namespace, of which it is root
    map the user into it <--------------- "made"
    "mapped" ---------------------------> prepare(), still in the host's network: what shall the guest be like?
    (free to do something else)           new network and mount namespaces; open the tap; configure it
                                          a second user namespace, in which it is the user that it was
    ready() <---------------------------- the tap's descriptor, what it can do, what prepare() said
    start() ----------------------------> exec
    wait() <----------------------------- exit

The child is a plain process of one thread that no event loop knows; what goes wrong in it travels back as an exception.
A new user namespace makes an ordinary user privileged over the other new ones, and nothing else; root gets one too, so
that both take the same path. Root stays root in it, with all users that there are. An ordinary user's command has that
user's number again, and no privileges, unless the plan has it be root. Nothing is given a name, so nothing is left
behind: namespaces, mounts and interface are gone with the last process that is in them. The child has the terminal,
session and process group of its parent, and does not outlive it. What it left in the background would have no network
any more, so that is ended with it; only if the parent is killed by SIGKILL does that go on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sansnet_core.errors import UsageError
from sansnet_trio.guest import remaining
from sansnet_trio.guest.child import Channel, fork
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.execute import execute
from sansnet_trio.guest.interface import allow_low_ports, allow_ping, configure, open_interface
from sansnet_trio.guest.mounts import file_texts, prepare_mounts
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.guest.socket_agent import Socket, SocketAgents
from sansnet_trio.guest.user_namespace import keep_user, map_identity, not_permitted, too_many_namespaces, unshare_user
from sansnet_trio.linux import proc, syscalls
from sansnet_trio.linux.children import end_child
from sansnet_trio.linux.descriptors import Reserve
from sansnet_trio.linux.rtnetlink import load_alone, subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import Change

__all__ = ["CommandGuest"]

T = TypeVar("T")

_GRACE: Final = 0.5
"""Seconds between SIGTERM and SIGKILL for what the command left."""
_POLL_INTERVAL: Final = 0.01
_RESERVED: Final = 2
"""Descriptors that are kept to look for what the command left: of /proc, and of one process."""


class CommandGuest(Generic[T]):
    """A command in user, network and mount namespaces of its own. Made by `fork`.

    Close it, or use it as a context manager: a command that still runs then is killed, and so is what it started.
    It makes sockets of the guest's network (`GuestSockets`).

    Attributes:
        pid: of the command.
        host_changes: of `netlink.subscribe`, since before the host was read.
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
        self._agents = SocketAgents(self._join)
        self._files: dict[str, int] = {}
        """Descriptors of the files that are the guest's own, by path."""
        self._written: dict[str, int] = {}
        """When we wrote them, in nanoseconds: the guest has changed one that was written later."""

    @classmethod
    def fork(cls, command: Sequence[str], prepare: Callable[[], tuple[GuestPlan, T]]) -> CommandGuest[T]:
        """Fork a child that prepares the guest and waits for `start`. Blocks for some milliseconds.

        As always with fork, the program should have one thread only.

        Args:
            command: the program, looked up in PATH, and its arguments.
            prepare: says what the guest is to have. It runs in the child, in the host's network namespace, while the
                parent goes on; whatever else it returns comes to the parent with `ready`, pickled.

        Raises:
            GuestError: there are no user namespaces for us.
            UsageError: the command is empty.
        """
        if not command:
            raise UsageError("a guest needs a command: the name of a program, and its arguments")
        host_changes = subscribe()
        try:
            pid, channel = fork(partial(_become, command, prepare))
        except BaseException:
            host_changes.close()
            raise
        guest: CommandGuest[T] = cls(pid, channel, host_changes)
        try:
            _, guest._directory = channel.receive_with_descriptor()
            map_identity(guest._directory)
            channel.send("mapped")
        except EOFError:
            guest.close()
            raise GuestError.killed() from None
        except BaseException:
            guest.close()
            raise
        return guest

    def fileno(self) -> int:
        """Readable when `receive_ready` does not block."""
        return self._channel.fileno()

    async def ready(self) -> ReadyGuest[T]:
        """Wait until the guest is configured and the command could start.

        Raises:
            GuestError: the guest could not be made.
            EOFError: a signal ended the child.
            Exception: whatever `prepare` raised.
        """
        import trio

        await trio.lowlevel.wait_readable(self._channel)
        return self.receive_ready()

    def receive_ready(self) -> ReadyGuest[T]:
        """The same for programs that do not run trio yet: it blocks until then."""
        (self._namespace, paths, *rest), descriptors = self._channel.receive_with_descriptors()
        if not descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        tap, *opened = descriptors
        self._files = dict(zip(paths, opened, strict=False))  # a file without a descriptor stays as it is
        self._written = {path: os.fstat(file).st_mtime_ns for path, file in self._files.items()}
        self._reserve = Reserve(_RESERVED)
        return ReadyGuest(tap, *rest)

    def start(self) -> None:
        """Let the command begin."""
        self._channel.send("start")

    async def wait(self) -> int:
        """Wait until the command ends.

        Returns:
            Its exit status, or if a signal ended it, the negative number of that.

        Raises:
            CommandNotFound: it never began, since there is no such program.
            CommandNotExecutable: it never began, since it cannot be executed.
        """
        import trio

        await trio.lowlevel.wait_readable(self._pidfd)
        status = self.reap()
        with contextlib.suppress(EOFError):  # the socket closes on exec: nothing there means that the command began
            self._channel.receive()
        return status

    def reap(self) -> int:
        """Block until the command, or what was to become it, ends; its status as of `wait`."""
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, number: int) -> None:
        """Send the command a signal, unless it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    @property
    def own_files(self) -> Collection[str]:
        """Paths of the files that are the guest's own."""
        return self._files.keys()

    async def change(self, change: Change) -> tuple[str, ...]:
        """Change the guest while its command runs. A file of its own that the guest has changed itself is left alone.

        Returns:
            Sentences about what stays as it was.

        Raises:
            OSError: it is not permitted, or the guest is gone.
            GuestError: an address cannot be had.
        """
        from sansnet_trio.guest.live_change import OwnFile, change_guest

        if self._status is not None:
            raise ProcessLookupError(errno.ESRCH, "the guest has ended")
        texts = dict(file_texts(change.new))
        own = {}
        for path, descriptor in self._files.items():
            untouched = os.fstat(descriptor).st_mtime_ns == self._written[path]
            if path in texts:
                own[path] = OwnFile(descriptor, texts[path], untouched)
        made, problems = await change_guest(change, self._join, f"/proc/{self.pid}/ns/mnt", own)
        for path, file in own.items():
            if path in made:
                os.close(file.descriptor)
                self._files[path] = made[path]
            if path in made or file.changed:
                self._written[path] = os.fstat(self._files[path]).st_mtime_ns
        return problems

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. From `ready` to the command's end; the first call starts a process that makes them."""
        if self._status is not None:
            raise ProcessLookupError(errno.ESRCH, "the guest has ended")
        return self._agents.socket(family, kind)

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return f"/proc/self/fd/{self._directory}"

    def _join(self) -> None:
        with open(f"{self.directory}/ns/net") as network:
            # The command's user namespace is another one, if it keeps its user
            syscalls.setns(syscalls.open_owner(network.fileno()), syscalls.CLONE_NEWUSER)
            syscalls.setns(network.fileno(), syscalls.CLONE_NEWNET)

    async def end_remaining(self) -> None:
        """End the processes that the command left in its network namespace: politely, and after 0.5 s by force.

        Raises:
            OSError: they cannot be looked for.
        """
        import trio

        if self._namespace is None or self._reserve is None:
            return
        self._agents.close()
        with trio.move_on_after(_GRACE):
            # One that is stopped must go on to hear the other signal.
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

    def close(self) -> None:
        """Kill the command and what it left, and close the descriptors. A second call does nothing."""
        if self._pidfd < 0:
            return
        self.send_signal(signal.SIGKILL)
        if self._status is None:
            end_child(self.pid)
        self._agents.close()
        with contextlib.suppress(OSError, MemoryError):  # they cannot be looked for, which `end_remaining` has told
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


# the child's part


def _become(
    command: Sequence[str], prepare: Callable[[], tuple[GuestPlan, object]], channel: Channel, parent: int
) -> None:
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
    execute(command)


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
