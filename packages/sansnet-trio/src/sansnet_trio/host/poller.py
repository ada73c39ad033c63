"""One epoll set with a handler for each descriptor.

Theory of operation. An epoll descriptor is itself readable while any of its members is ready, so trio waits for all of
them at once: 5 us for each event where a task and a `wait_readable` for each socket cost 12 to 15 us. Members are
level-triggered, and a handler that does not want an event any more must say so with `change` or `remove`: EPOLLERR and
EPOLLHUP cannot be masked, so a member that keeps reporting them has to be removed, or to be made one-shot.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from socket import socket
from typing import Final, TypeAlias

__all__ = ["MAX_EVENTS", "Handler", "Poller"]

Handler: TypeAlias = Callable[[int, float], None]
"""Called with the epoll flags and the time of the batch."""

MAX_EVENTS: Final = 128
"""Most events of one batch."""


class Poller:
    """The descriptors that one driver waits for.

    Attributes:
        handlers: descriptor -> handler. Handlers may be replaced in place.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self._retired: list[socket] = []
        self.poll = self._epoll.poll
        """`poll(timeout in seconds, MAX_EVENTS)`; bound once, it is called for each batch."""

    def fileno(self) -> int:
        """The epoll descriptor: readable while any member is ready."""
        return self._epoll.fileno()

    def add(self, fd: int, interest: int, handler: Handler) -> None:
        """Begin to report `interest` (EPOLLIN, EPOLLOUT) and errors of `fd` to `handler`."""
        self._epoll.register(fd, interest)
        self.handlers[fd] = handler

    def change(self, fd: int, interest: int) -> None:
        """Report other events of `fd` than before."""
        self._epoll.modify(fd, interest)

    def remove(self, fd: int) -> None:
        """Report nothing of `fd` any more. Before it is closed: a child may hold a copy that keeps it in the set."""
        self._epoll.unregister(fd)
        del self.handlers[fd]

    def retire(self, member: socket) -> None:
        """Report nothing of a socket any more, and close it with the next `settle`.

        This is for handlers that end other members than their own: within a batch of events the number of a closed
        descriptor could become another's, which would then be told what was meant for the first one.
        """
        fd = member.fileno()
        self._epoll.unregister(fd)
        self.handlers[fd] = _ignore
        self._retired.append(member)

    def settle(self) -> None:
        """Close what was retired. To be called after each batch of events."""
        while self._retired:
            member = self._retired.pop()
            del self.handlers[member.fileno()]
            member.close()

    def close(self) -> None:
        """Close the epoll descriptor; its members stay open, but those that were retired."""
        self.settle()
        self._epoll.close()
        self.handlers.clear()


def _ignore(flags: int, now: float) -> None:
    """Do nothing about an event of a descriptor that has been retired."""
