"""One epoll set with a handler for each descriptor.

Theory of operation. An epoll descriptor is itself readable while any of its members is ready, so trio waits for all
members at once. That costs 5 us per event; a task and a `wait_readable` for each socket would cost 12 to 15 us. Members
are level-triggered unless they ask for EPOLLET: a handler that does not want an event any more must call `change` or
`remove`. EPOLLERR and EPOLLHUP cannot be masked, so such a member that keeps reporting them must be removed or made
one-shot. An event of a member with EPOLLET is lost if it is taken from the set and no handler is called.

A handler may remove or close any member, although the rest of the batch may have an event of it: events of a member
that was removed are ignored, and no member's descriptor is closed before the batch is over (`Poller.retire`).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from socket import SocketType
from typing import Final, TypeAlias

from sansnet_core.mypyc import mypyc_attr

__all__ = ["MAX_EVENTS", "Handler", "Poller"]

Handler: TypeAlias = Callable[[int, float], None]
"""Called with the epoll flags and the time of the batch in seconds."""

MAX_EVENTS: Final = 128
"""Most events of one batch."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Poller:
    """The descriptors that one driver waits for.

    Attributes:
        handlers: the handler of each descriptor. Handlers may be replaced in place.
        closed: how many members `retire` has closed so far. Each of them freed a descriptor.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self.closed = 0
        self._in_batch = False
        self._retired: list[SocketType] = []
        self.poll = self._epoll.poll
        """`poll(timeout in seconds, MAX_EVENTS)`; bound once, because it is called for each batch."""

    def fileno(self) -> int:
        """The epoll descriptor: readable while any member is ready."""
        return self._epoll.fileno()

    def add(self, fd: int, interest: int, handler: Handler) -> None:
        """Report the events `interest` (EPOLLIN, EPOLLOUT) and errors of `fd` to `handler` from now on."""
        self.handlers[fd] = handler  # first: without memory for it, the set must not get this member
        try:
            self._epoll.register(fd, interest)
        except OSError:
            del self.handlers[fd]
            raise

    def change(self, fd: int, interest: int) -> None:
        """Report the events `interest` of `fd` instead of the previous ones."""
        self._epoll.modify(fd, interest)

    def remove(self, fd: int) -> None:
        """Stop reporting events of `fd`, which stays open until the batch is over.

        Call this before closing it: a child's copy would keep it in the set.
        """
        self._epoll.unregister(fd)
        del self.handlers[fd]

    def retire(self, member: SocketType) -> None:
        """Stop reporting events of a socket, and close it; within a batch of events, at its end.

        Otherwise a socket that is opened in the same batch could get the number of the closed descriptor, and then the
        events of the old one.
        """
        fd = member.fileno()
        if self._in_batch:
            self._retired.append(member)
        self._epoll.unregister(fd)
        del self.handlers[fd]
        if not self._in_batch:
            self._close(member)

    def handle(self, events: list[tuple[int, int]], now: float) -> None:
        """Call the handlers of a batch of events.

        An exception of a handler ends the batch, and its other events are lost.

        Args:
            events: from `poll`.
            now: the time of the batch in seconds.
        """
        handlers = self.handlers
        self._in_batch = True
        try:
            for fd, flags in events:
                handler = handlers.get(fd)
                if handler is not None:  # a handler of this batch may have removed it
                    handler(flags, now)
        finally:
            self._in_batch = False
            while self._retired:
                self._close(self._retired.pop())

    def _close(self, member: SocketType) -> None:
        member.close()
        self.closed += 1

    def close(self) -> None:
        """Close the epoll descriptor. The members stay open."""
        self._epoll.close()
        self.handlers.clear()
