"""One epoll set with a handler for each descriptor.

Theory of operation. An epoll descriptor is itself readable while any of its members is ready, so trio waits for all
members at once. That costs 5 us per event; a task and a `wait_readable` for each socket would cost 12 to 15 us. Members
are level-triggered unless they ask for EPOLLET: a handler that does not want an event any more must call `change` or
`remove`. EPOLLERR and EPOLLHUP cannot be masked, so such a member that keeps reporting them must be removed or made
one-shot. An event of a member with EPOLLET is lost if it is taken from the set and no handler is called.
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
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self._retired: list[SocketType] = []
        self.poll = self._epoll.poll
        """`poll(timeout in seconds, MAX_EVENTS)`; bound once, because it is called for each batch."""

    def fileno(self) -> int:
        """The epoll descriptor: readable while any member is ready."""
        return self._epoll.fileno()

    def add(self, fd: int, interest: int, handler: Handler) -> None:
        """Report the events `interest` (EPOLLIN, EPOLLOUT) and errors of `fd` to `handler` from now on."""
        self.handlers[fd] = handler  # first, because an event of a member without a handler would end the driver
        try:
            self._epoll.register(fd, interest)
        except OSError:
            del self.handlers[fd]
            raise

    def change(self, fd: int, interest: int) -> None:
        """Report the events `interest` of `fd` instead of the previous ones."""
        self._epoll.modify(fd, interest)

    def remove(self, fd: int) -> None:
        """Stop reporting events of `fd`. Call this before closing it: a child's copy would keep it in the set."""
        self._epoll.unregister(fd)
        del self.handlers[fd]

    def retire(self, member: SocketType) -> None:
        """Stop reporting events of a socket, and close it in the next `settle`.

        For handlers that end another member than their own: within a batch of events, the number of a closed descriptor
        could be reused, and the new descriptor would get the events of the old one.
        """
        fd = member.fileno()
        self._epoll.unregister(fd)
        self.handlers[fd] = _ignore
        self._retired.append(member)

    def settle(self) -> None:
        """Close the retired sockets. Call this after each batch of events."""
        while self._retired:
            member = self._retired.pop()
            del self.handlers[member.fileno()]
            member.close()

    def close(self) -> None:
        """Close the epoll descriptor and the retired sockets. The other members stay open."""
        self.settle()
        self._epoll.close()
        self.handlers.clear()


def _ignore(flags: int, now: float) -> None:
    """Ignore an event of a retired socket."""
