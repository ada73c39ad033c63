"""A guest that is a command in its own namespaces: making, configuring, starting it and waiting for its end.

Theory of operation. `CommandGuest.fork` starts a child that becomes the command. The two talk over a socket:

    parent                                child
    start ------------------------------> enter new user and PID namespaces, as their root; start the reaper
    map the user into it <--------------- "made"
    "mapped" ---------------------------> call prepare(), still in the host's network: it returns the guest's plan
    (free to do something else)           enter new network, mount and IPC namespaces; open and configure the tap
                                          enter a second user namespace, as the original user
    ready() <---------------------------- the tap's descriptor and properties, the result of prepare()
    start() ----------------------------> exec
    wait() <----------------------------- exit

The child has one thread and no event loop; an exception in it is raised in the parent. A new user namespace gives an
ordinary user privileges over the other new namespaces, and over nothing else. Root gets one too, so that both take the
same path; root stays root in it, and all users are mapped. The command of an ordinary user has that user's id and no
privileges, unless the plan makes it root. Namespaces, mounts and interface have no names, so the kernel removes them
with the last process that uses them. The child has our session, our terminal, and, if there is one, our process group.
Its parent is the reaper, process 1 of its PID namespace, which reports how it ends. The reaper ends when it is asked
to, or when our process ends, and all processes of the guest with it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sansnet_core.errors import UsageError
from sansnet_trio.guest.child import TIMEOUT, Channel, start_child, wait_answer
from sansnet_trio.guest.command_child import Start, Started, become
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.execute import Program
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.guest.reaper import GRACE, Reaper
from sansnet_trio.guest.user_namespace import map_identity
from sansnet_trio.linux import proc, syscalls
from sansnet_trio.linux.children import end_child, wait_child
from sansnet_trio.linux.descriptors import Uncopyable, is_readable
from sansnet_trio.linux.rtnetlink import subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import GuestChange, LiveGuest
    from sansnet_trio.guest.socket_agent import Socket, SocketAgents

__all__ = ["CommandGuest"]

T = TypeVar("T")

_TIMEOUTS: Final = (1.0, 4.0)
"""Seconds that the reaper may take to report the end of the command, which takes it a millisecond; after the first ones
it is continued, in case another process has stopped it."""
_END_TIMEOUTS: Final = (GRACE + 1.0, 5.0, 5.0)
"""Seconds that it may take to end; after the first ones it is continued, then killed."""


class CommandGuest(Uncopyable, Generic[T]):
    """A command in its own user, PID, IPC, network and mount namespaces. Made by `fork`.

    Close it, or use it as a context manager: that kills the command if it still runs, and the processes that it left.
    It makes sockets in the guest's network (`GuestSockets`).

    Attributes:
        pid: process id of the command.
        host_changes: a socket from `rtnetlink.subscribe`, made before the host was read.
        agents: the socket agents; None before `ready`.
        on_stop: called by `wait` when the command has stopped, and its process group is not ours; None does nothing.
    """

    def __init__(self, pid: int, channel: Channel, host_changes: socket.socket) -> None:
        self.pid = pid
        self.host_changes = host_changes
        self.on_stop: Callable[[], None] | None = None
        self._channel = channel
        self._child: int | None = pid
        """The first child, until it has ended."""
        self._reaper: Reaper | None = None
        self._pidfd: int | None = None
        self._events: select.epoll | None = None
        """Readable when there is a report of the reaper, or the command has ended."""
        self._problem: str | None = None
        self._closed = False
        self._directory: int | None = None
        self._status: int | None = None
        self.agents: SocketAgents | None = None
        self._files: dict[str, int] = {}
        """Descriptors of the guest's own files, by path."""
        self._live: LiveGuest | None = None
        self._namespaces: list[int] = []
        """Descriptors of its user namespace, network and mounts."""

    @classmethod
    def fork(
        cls,
        command: Sequence[str],
        prepare: Callable[[], tuple[GuestPlan, T]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        streams: tuple[int | None, int | None, int | None] = (None, None, None),
        host_processes: bool = False,
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
            host_processes: whether the command shares the PID and IPC namespaces of this process. Then it sees the
                processes of the host, and may send signals to those of its user. It also does if there can be no PID
                namespace here; then there is a warning.

        Raises:
            GuestError: we may not make user namespaces, or `prepare` cannot be pickled.
            UsageError: the command is empty, or one string.
            OSError: no process can be started, or no descriptor is left.
        """
        guest = cls._start(Program(command, env, cwd, streams), prepare, host_processes)
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
        host_processes: bool = False,
    ) -> CommandGuest[T]:
        """Like `fork`, for programs that run trio: other tasks run while a new Python starts.

        Args:
            command: see `fork`.
            prepare: see `fork`.
            env: see `fork`.
            cwd: see `fork`.
            streams: see `fork`.
            host_processes: see `fork`.

        Raises:
            GuestError, UsageError, OSError: see `fork`.
        """
        guest = cls._start(Program(command, env, cwd, streams), prepare, host_processes)
        try:
            await wait_answer(guest._channel)
            guest._map_user()
        except BaseException:
            guest.close()
            raise
        return guest

    @classmethod
    def _start(
        cls, program: Program, prepare: Callable[[], tuple[GuestPlan, T]], host_processes: bool
    ) -> CommandGuest[T]:
        if isinstance(program.command, str):
            raise UsageError("a guest's command is a list of words; give [program, argument, ...]")
        if not program.command:
            raise UsageError("a guest needs a command: the name of a program, and its arguments")
        host_changes = subscribe()
        try:
            pid, channel = start_child(partial(become, program, prepare, host_processes), program.descriptors)
        except BaseException:
            host_changes.close()
            raise
        return cls(pid, channel, host_changes)

    def _map_user(self) -> None:
        """Answer the first messages of the child, and of the second one, which becomes the command."""
        try:
            started: Started
            started, channel = self._channel.receive_with_descriptor()
            self._reaper = Reaper(started.reaper, socket.socket(fileno=channel), alone=started.alone)
            self._problem = started.problem
            if started.alone:
                self._end_first_child()
            else:
                self._child = None  # it is the reaper
            _, descriptors = self._channel.receive_with_descriptors()
            self._directory, self._pidfd = [*descriptors, None, None][:2]
            if self._pidfd is None:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self.pid = proc.id_of(self._pidfd)
            self._events = select.epoll()
            for descriptor in (self._reaper.fileno(), self._pidfd):
                self._events.register(descriptor, select.EPOLLIN)
            assert self._directory is not None
            map_identity(self._directory)
            self._channel.send("mapped")
        except (EOFError, ProcessLookupError):
            raise GuestError.killed() from None

    def _end_first_child(self) -> None:
        if self._child is not None:
            wait_child(self._child, TIMEOUT)
            self._child = None

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
        from sansnet_trio.guest.live_change import LiveGuest  # the child needs neither
        from sansnet_trio.guest.socket_agent import SocketAgents

        (paths, link, prepared, warnings, notes), descriptors = self._channel.receive_with_descriptors()
        self._namespaces, opened = descriptors[1:4], descriptors[4:]
        if len(self._namespaces) < 3:
            for descriptor in descriptors:
                os.close(descriptor)
            self._namespaces = []
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        tap, (user, network, mounts) = descriptors[0], self._namespaces
        self._files = dict(zip(paths, opened, strict=False))  # a file without a descriptor stays as it is
        join = partial(_join, user, network)
        self.agents = SocketAgents(join, (user, network))
        self._live = LiveGuest(join, (user, network, mounts), mounts, self._files)
        try:
            assert self._reaper is not None
            self._reaper.wait_ready(TIMEOUT)
        except BaseException:
            os.close(tap)
            raise
        problems = () if self._problem is None else (self._problem,)
        return ReadyGuest(tap, link, prepared, (*problems, *warnings), notes)

    def start(self, *, foreground: bool = False) -> None:
        """Start the command.

        Args:
            foreground: whether it gets a process group of its own, which becomes the foreground one of the terminal at
                its stdin. The caller must do what a shell does then for its jobs; see `on_stop`.
        """
        self._channel.send(Start(foreground))

    async def started(self) -> None:
        """Wait until the command runs, after `start`. A command that could not begin has ended after that.

        Raises:
            CommandNotFound: there is no such program.
            CommandNotExecutable: the file cannot be executed.
            GuestError: the working directory cannot be entered.
        """
        await wait_answer(self._channel)
        self.started_now()

    def started_now(self) -> None:
        """Like `started`, but blocking: for programs that do not run trio yet."""
        with contextlib.suppress(EOFError):  # the socket closes on exec, so EOF means that the command started
            self._channel.receive_with_descriptors()

    @property
    def returncode(self) -> int | None:
        """The command's status as in `wait`, if `wait` or `reap` has returned it already; otherwise None."""
        return self._status

    async def wait(self) -> int:
        """Wait until the command ends.

        Returns:
            Its exit status, or the negative number of the signal that ended it.

        Raises:
            CommandNotFound, CommandNotExecutable, GuestError: the command did not start; see `started`.
        """
        import trio

        for descriptor, seconds in self._awaited():
            with trio.move_on_after(seconds):
                await trio.lowlevel.wait_readable(descriptor)
        return self.wait_now()

    def wait_now(self) -> int:
        """Like `wait`, but blocking: for programs that do not run trio."""
        status = self.reap()
        self.started_now()
        return status

    def reap(self) -> int:
        """Block until the command, or the child before exec, ends; its status as in `wait`.

        Raises:
            GuestError: the status cannot be known.
        """
        for descriptor, seconds in self._awaited():
            _wait_for(descriptor, seconds)
        assert self._status is not None
        return self._status

    @property
    def events(self) -> int:
        """A descriptor that is readable when the command may have ended; see `has_ended`. From `start` on."""
        if self._events is None:
            raise GuestError.killed()
        return self._events.fileno()

    def has_ended(self) -> bool:
        """Whether the command has ended, so that `reap` does not block. Calls `on_stop` if it has stopped."""
        if self._pidfd is None:
            raise GuestError.killed()
        return self._take_reports() is not None or is_readable(self._pidfd)

    def _awaited(self) -> Iterator[tuple[int, float]]:
        """Descriptors to wait for until the status is known, and for how many seconds at most."""
        events = self.events
        while not self.has_ended():
            yield events, math.inf
        assert self._reaper is not None
        for seconds in _TIMEOUTS:
            if self._take_reports() is None:
                yield self._reaper.fileno(), seconds
                self._reaper.wake()
        if self._take_reports() is None:
            raise GuestError(
                "the command has ended, but its status is not known, since the process that waits for it does not "
                "answer; end the program that stops it"
            )

    def _take_reports(self) -> int | None:
        """Handle the reports of the reaper; the command's status, if it is known then."""
        assert self._reaper is not None
        if self._status is None:
            reports = self._reaper.reports()
            self._status = next((each.status for each in reports if each.status is not None), None)
            if reports and reports[-1].kind == os.CLD_STOPPED and self.on_stop is not None:
                self.on_stop()
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self._status is None and self._pidfd is not None:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass
            except PermissionError:  # it has become another user, and we have no privileges
                assert self._reaper is not None
                self._reaper.send_signal(number)

    def continue_group(self) -> None:
        """Continue the process group of the command after `on_stop`."""
        if self._reaper is not None:
            self._reaper.continue_command()

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
        from sansnet_trio.guest.live_change import change_guest

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
        assert self.agents is not None
        return self.agents

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return f"/proc/self/fd/{self._directory}"

    async def end_remaining(self) -> None:
        """End the processes that the command left: with SIGTERM, and after 0.5 s SIGKILL.

        Raises:
            OSError: they do not end.
        """
        import trio

        for descriptor, seconds in self._ending():
            with trio.move_on_after(seconds):
                await trio.lowlevel.wait_readable(descriptor)
                return

    def has_remaining(self) -> bool:
        """Whether the command, which has ended, may have left processes."""
        return self._reaper is None or self._reaper.has_others()

    def end_remaining_now(self) -> None:
        """Like `end_remaining`, but blocking: for programs that do not run trio yet."""
        for descriptor, seconds in self._ending():
            if _wait_for(descriptor, seconds):
                return

    def _ending(self) -> Iterator[tuple[int, float]]:
        """End the processes that the command left: a descriptor to wait for, and for how many seconds at most."""
        if self._reaper is None or self._reaper.end_descriptor < 0:
            return
        self._close_agents()
        self._reaper.end()
        for seconds in _END_TIMEOUTS:
            yield self._reaper.end_descriptor, seconds
            self._reaper.wake()
            if seconds == _END_TIMEOUTS[-2]:
                self._reaper.kill()
        raise OSError(errno.ETIMEDOUT, "they do not end")

    def _close_agents(self) -> None:
        if self.agents is not None:
            self.agents.close()

    def close(self) -> None:
        """Kill the command and the processes that it left, and close all descriptors. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._close_agents()
        self._channel.close()
        if self._child is not None:
            end_child(self._child)
        for each in (self._events, self._reaper, self.host_changes):
            if each is not None:
                each.close()
        while self._files:
            os.close(self._files.popitem()[1])
        for descriptor in (self._pidfd, self._directory, *self._namespaces):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._directory = None

    def __enter__(self) -> CommandGuest[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _join(user: int, network: int) -> None:
    """Enter a guest's user and network namespaces, by descriptors of them."""
    syscalls.setns(user, syscalls.CLONE_NEWUSER)
    syscalls.setns(network, syscalls.CLONE_NEWNET)


def _wait_for(descriptor: int, seconds: float) -> bool:
    """Block until a descriptor is readable; whether it is in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds == math.inf else seconds * 1000))
