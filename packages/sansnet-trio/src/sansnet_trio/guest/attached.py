"""A guest whose network namespace exists already: a container's, or a named one.

A child process enters it, opens a tap there, configures it and sends us its descriptor. Then the child ends, or stays
to make changes (`resident`). Nothing else in the namespace is touched. When the tap is closed, the kernel removes the
interface with its addresses and routes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from sansnet_core.errors import expect
from sansnet_trio.guest.child import Channel, start_child, wait_answer
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.interface import configure, open_interface
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.guest.target import ExistingNamespace, NamespaceFiles
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.children import ProcessHandle
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.linux.rtnetlink import subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import GuestChange, LiveGuest
    from sansnet_trio.guest.socket_agent import Socket, SocketAgents

__all__ = ["AttachedGuest"]

T = TypeVar("T")


class AttachedGuest(Uncopyable, Generic[T]):
    """A guest in an existing namespace. Made by `fork`; a context manager.

    It makes sockets in the guest's network (`GuestSockets`).

    Attributes:
        namespace: the guest's namespace.
        host_changes: a socket from `rtnetlink.subscribe`, made before the host was read.
    """

    def __init__(
        self,
        namespace: ExistingNamespace,
        child: ProcessHandle,
        channel: Channel,
        host_changes: socket.socket,
        resident: socket.socket | None = None,
    ) -> None:
        self.namespace = namespace
        self.host_changes = host_changes
        self._child = child
        self._channel = channel
        self._resident = resident
        """Channel to the child, if it stays."""
        self._agents: SocketAgents | None = None

    @classmethod
    def fork(
        cls,
        namespace: ExistingNamespace,
        prepare: Callable[[], tuple[GuestPlan, T]],
        *,
        stays: bool = False,
        host_changes: socket.socket | None = None,
    ) -> AttachedGuest[T]:
        """Start a child that prepares the guest: by fork, or in a new Python if this process has several threads.

        Args:
            namespace: the guest's namespace; closed by `close`.
            prepare: returns the plan of the guest, see `CommandGuest.fork`. The guest's files and host name stay as
                they are.
            stays: whether the child stays for `change`: necessary if this process may not enter the namespace later.
            host_changes: a socket from `rtnetlink.subscribe`, made before the host was read, if that is done already;
                closed by `close`.

        Raises:
            GuestError: this process has several threads, and `prepare` cannot be pickled.
            OSError: no process can be started, or no descriptor is left.
        """
        expect(
            "namespace", namespace, ExistingNamespace, "an ExistingNamespace, such as ExistingNamespace.named('blue')"
        )
        ours = theirs = None
        with contextlib.ExitStack() as stack:
            host_changes = stack.enter_context(host_changes or subscribe())
            if stays:
                ours, theirs = socket.socketpair()
                stack.enter_context(ours)
                stack.enter_context(theirs)
            files = namespace.files
            resident = None if theirs is None else theirs.fileno()
            needed = files.descriptors if resident is None else (*files.descriptors, resident)
            pid, channel = start_child(partial(_attach_in_child, files, prepare, resident), needed)
            stack.callback(channel.close)
            child = ProcessHandle.of_child(pid)
            stack.pop_all()
        if theirs is not None:
            theirs.close()
        return cls(namespace, child, channel, host_changes, ours)

    async def ready(self) -> ReadyGuest[T]:
        """Wait until the guest has its interface.

        Raises:
            GuestError: the interface cannot be made.
            EOFError: a signal ended the child.
            Exception: `prepare` raised it.
        """
        try:
            await wait_answer(self._channel)
        except BaseException:
            self._end_child()
            raise
        return self.receive_ready()

    def receive_ready(self) -> ReadyGuest[T]:
        """Like `ready`, but blocking: for programs that do not run trio yet."""
        try:
            message, tap = self._channel.receive_with_descriptor()
        except BaseException:
            self._end_child()
            raise
        if self._resident is None:
            self._end_child()
        return ReadyGuest(tap, *message)

    @property
    def agents(self) -> SocketAgents:
        """The socket agents. They are made at the first use, since few guests need them before they have a network."""
        if self._agents is None:
            from sansnet_trio.guest.socket_agent import SocketAgents

            files = self.namespace.files
            self._agents = SocketAgents(files.join, files.descriptors)
        return self._agents

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return self.agents.directory

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. The first call starts the socket agent."""
        return self.agents.socket(family, kind)

    async def prepare_sockets(self) -> None:
        """See `GuestSockets`: starts the socket agent."""
        await self.agents.begin()

    async def change(self, change: GuestChange) -> tuple[str, ...]:
        """Change addresses and routes of the guest's interface.

        Returns:
            No sentences, since the guest's files stay as they are; see `CommandGuest.change`.

        Raises:
            OSError: the change is not permitted, or the guest is gone.
            GuestError: the interface cannot have an address, or the child that stayed does not answer.
        """
        from sansnet_trio.guest.change_message import request_change
        from sansnet_trio.guest.live_change import change_guest

        if (live := self.live()) is not None:
            return await change_guest(live, change)
        assert self._resident is not None
        if not change.new.configure:
            return ()
        try:
            if not self._child.is_running():
                raise EOFError
            await request_change(change, self._resident)
        except EOFError:
            self._end_child()
            raise GuestError(
                "the process that changes its addresses and routes was killed, or does not answer; only its name "
                "servers follow now; start sansnet again"
            ) from None
        return ()

    def live(self) -> LiveGuest | None:
        """The guest, to be changed by this process, or by a fork of it; None if a child stayed for that."""
        from sansnet_trio.guest.live_change import LiveGuest

        if self._resident is not None:
            return None
        files = self.namespace.files
        return LiveGuest(files.join, files.descriptors)

    def start_agent(self) -> None:
        """Start the socket agent now, since we may not be allowed to enter the namespace later.

        Raises:
            OSError: it cannot be started.
        """
        self.agents.start()

    def close(self) -> None:
        """End the processes in the namespace, and close all descriptors. A second call does nothing."""
        self._end_child()
        if self._agents is not None:
            self._agents.close()
        self._channel.close()
        self.host_changes.close()
        self.namespace.close()

    def __enter__(self) -> AttachedGuest[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_child(self) -> None:
        if self._resident is not None:
            self._resident.close()
        self._child.end()


def _attach_in_child(
    namespace: NamespaceFiles,
    prepare: Callable[[], tuple[GuestPlan, object]],
    resident: int | None,
    channel: Channel,
    parent: int,
) -> None:
    """The child's part."""
    plan, prepared = prepare()
    syscalls.forbid_dump()  # its memory is a copy of ours, so the guest's processes must not trace it
    try:
        namespace.join()
    except OSError as error:
        raise namespace.entry_error(error) from error
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.forbid_dump()  # entering a user namespace may reset it (fs.suid_dumpable)
    if os.getppid() != parent:
        return
    warnings: list[str] = []
    tap, link = open_interface(plan)
    configure(plan, warnings)
    channel.send((link, prepared, tuple(warnings)), [tap])
    if resident is not None and plan.configure:
        from sansnet_trio.guest.resident import serve_changes

        serve_changes(socket.socket(fileno=resident), plan, lambda: os.getppid() != parent)
