"""A guest whose network namespace exists already: a container's, or one that has a name.

A forked child enters it, opens the tap there and configures it, as `Guest.fork` does it in new ones; the tap comes
here. Then the child ends, or stays for changes (`resident`). Nothing else of the namespace is touched, and when the tap
is closed, the interface is gone with all that it had.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from sansnet_trio.guest.child import Channel, fork
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.interface import configure, open_interface
from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
from sansnet_trio.guest.socket_agent import Socket, SocketAgents
from sansnet_trio.guest.target import ExistingNamespace
from sansnet_trio.linux import syscalls
from sansnet_trio.linux.children import end_child
from sansnet_trio.linux.rtnetlink import load_alone, subscribe

if TYPE_CHECKING:
    from sansnet_trio.guest.live_change import Change

__all__ = ["AttachedGuest"]

T = TypeVar("T")


class AttachedGuest(Generic[T]):
    """A guest in a namespace that exists. Made by `fork`; a context manager.

    It makes sockets of the guest's network (`GuestSockets`).

    Attributes:
        namespace: the guest's.
        host_changes: of `netlink.subscribe`, since before the host was read.
    """

    def __init__(
        self,
        namespace: ExistingNamespace,
        pid: int,
        channel: Channel,
        host_changes: socket.socket,
        resident: socket.socket | None = None,
    ) -> None:
        self.namespace = namespace
        self.host_changes = host_changes
        self._child: int | None = pid
        self._channel = channel
        self._resident = resident
        """To the child, if that stays."""
        self._agents = SocketAgents(namespace.join)

    @classmethod
    def fork(
        cls, namespace: ExistingNamespace, prepare: Callable[[], tuple[GuestPlan, T]], *, stays: bool = False
    ) -> AttachedGuest[T]:
        """Fork a child that prepares the guest. As always with fork, the program should have one thread only.

        Args:
            namespace: the guest's; closed by `close`.
            prepare: says what the guest is to have; see `Guest.fork`. Its files and its host name are left alone.
            stays: whether the child stays for `change`, since this process will not be allowed to enter the namespace.
        """
        ours = theirs = None
        with contextlib.ExitStack() as stack:
            host_changes = stack.enter_context(subscribe())
            if stays:
                ours, theirs = socket.socketpair()
                stack.enter_context(ours)
                stack.enter_context(theirs)
            pid, channel = fork(partial(_attach_in_child, namespace, prepare, theirs))
            stack.pop_all()
        if theirs is not None:
            theirs.close()
        return cls(namespace, pid, channel, host_changes, ours)

    async def ready(self) -> ReadyGuest[T]:
        """Wait until the guest has its interface.

        Raises:
            GuestError: it cannot have it.
            EOFError: a signal ended the child.
            Exception: whatever `prepare` raised.
        """
        import trio

        await trio.lowlevel.wait_readable(self._channel)
        return self.receive_ready()

    def receive_ready(self) -> ReadyGuest[T]:
        """The same for programs that do not run trio yet: it blocks until then."""
        try:
            message, tap = self._channel.receive_with_descriptor()
        except BaseException:
            self._end_child()
            raise
        if self._resident is None:
            self._end_child()
        return ReadyGuest(tap, *message)

    @property
    def directory(self) -> str:
        """See `GuestSockets`."""
        return self._agents.directory

    def socket(self, family: int, kind: int) -> Socket:
        """See `GuestSockets`. The first one starts a process, which makes them."""
        return self._agents.socket(family, kind)

    async def change(self, change: Change) -> tuple[str, ...]:
        """Change addresses and routes of the guest's interface.

        Returns:
            Sentences about what stays as it was.

        Raises:
            OSError: it is not permitted, or the guest is gone.
            GuestError: an address cannot be had.
        """
        from sansnet_trio.guest import live_change, resident

        if self._resident is None:
            return (await live_change.change_guest(change, self.namespace.join))[1]
        if not change.new.configure:
            return ()
        try:
            if self._child is None:
                raise EOFError
            await resident.request_change(change, self._resident)
        except EOFError:
            self._end_child()
            raise GuestError(
                "the process that changes its addresses and routes was killed, or does not answer; "
                "name servers follow, and after another start all does"
            ) from None
        return ()

    def start_agent(self) -> None:
        """Start that process now: maybe we are not allowed to enter the namespace later.

        Raises:
            OSError: there can be none.
        """
        self._agents.start()

    def close(self) -> None:
        """Leave the namespace alone. A second call does nothing."""
        self._end_child()
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
        if self._child is not None:
            child, self._child = self._child, None
            end_child(child)


def _attach_in_child(
    namespace: ExistingNamespace,
    prepare: Callable[[], tuple[GuestPlan, object]],
    resident: socket.socket | None,
    channel: Channel,
    parent: int,
) -> None:
    """What the child does."""
    load_alone()
    plan, prepared = prepare()
    syscalls.forbid_dump()  # all that this process has is ours: the guest's must not trace it
    try:
        namespace.join()
    except OSError as error:
        raise namespace.entry_error(error) from error
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.forbid_dump()  # entering a user namespace may have allowed it again (fs.suid_dumpable)
    if os.getppid() != parent:
        return
    warnings: list[str] = []
    tap, link = open_interface(plan)
    configure(plan, warnings)
    channel.send((link, prepared, tuple(warnings)), [tap])
    if resident is not None and plan.configure:
        from sansnet_trio.guest.resident import serve_changes

        serve_changes(resident, plan, lambda: os.getppid() != parent)
