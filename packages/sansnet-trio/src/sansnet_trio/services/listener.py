"""A listener for the guest's connections.

Theory of operation. A connection is offered when the guest's SYN has arrived; `stream_connected` lets the SYN be
answered. From then on until a task accepts it, the connection counts against the backlog. While the backlog is full,
further ones wait without an answer; the guest repeats its SYN, or gives up. Each driver has a backlog of its own, so
that one guest cannot keep another one out. A task gets a connection when the handshake is complete.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Abort, Task

from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.services.exclusive import Exclusive
from sansnet_trio.services.streams import GuestStream
from sansnet_trio.services.unclosed import close_unclosed

if TYPE_CHECKING:
    from sansnet_trio.services.carrier import Carrier
    from sansnet_trio.services.places import Place
    from sansnet_trio.services.stream_end import StreamEnd

__all__ = ["AcceptQueue", "GuestListener"]


class _Backlog:
    """The connections of one driver that no task has accepted."""

    def __init__(self, queue: AcceptQueue, carrier: Carrier, size: int) -> None:
        self._queue = queue
        self._carrier = carrier
        self._room = size
        self._waiting: dict[StreamEnd, None] = {}  # not answered; the oldest first
        self._answered: set[StreamEnd] = set()

    def offer(self, end: StreamEnd, now: float) -> None:
        """Answer a new connection, or let it wait."""
        end.backlog = self
        if self._room:
            self._answer(end, now)
        else:
            self._waiting[end] = None

    def _answer(self, end: StreamEnd, now: float) -> None:
        self._room -= 1
        self._answered.add(end)
        end.admit(now)

    def established(self, end: StreamEnd) -> None:
        """The handshake is complete: a task may accept the connection."""
        self._queue.put(self, end)

    def vanished(self, end: StreamEnd) -> None:
        """The core has closed a connection that no task has accepted."""
        if end in self._waiting:
            del self._waiting[end]
            return
        self._answered.discard(end)
        self._queue.withdraw(end)
        self._room += 1
        if self._waiting and self._carrier.running:
            self._carrier.tell(self._fill)

    def accept(self, end: StreamEnd) -> GuestStream:
        """A task accepts a connection."""
        end.backlog = None
        self._answered.discard(end)
        self._room += 1
        if self._waiting and self._carrier.running:
            self._carrier.tell(self._fill)
        return GuestStream(end)

    def _fill(self, now: float) -> None:
        while self._room and self._waiting:
            end = next(iter(self._waiting))
            del self._waiting[end]
            self._answer(end, now)

    def close(self) -> None:
        """Refuse the connections that wait, and reset those that were answered."""
        ends = [*self._waiting, *self._answered]
        refused = set(self._waiting)
        self._waiting.clear()
        self._answered.clear()
        for end in ends:
            end.backlog = None
            end.fail(errno.ECONNREFUSED if end in refused else errno.ECONNRESET)


class AcceptQueue:
    """The connections of all guests to one place that a task may accept.

    Args:
        place: the place.
        backlog: how many connections of each guest may wait.
        closed: called when it is closed.

    Attributes:
        place: see above.
        closed: whether it was closed.
        drivers: how many drivers use it.
        token: the token of the trio in which they run; None until then.
    """

    def __init__(self, place: Place, backlog: int, closed: Callable[[], None]) -> None:
        self.place = place
        self.closed = False
        self.drivers = 0
        self.token: trio.lowlevel.TrioToken | None = None
        self._size = backlog
        self._when_closed = closed
        self._backlogs: dict[Carrier, _Backlog] = {}
        self._queue: deque[tuple[_Backlog, StreamEnd]] = deque()
        self._acceptor: Task | None = None

    def used(self) -> None:
        """Called by a driver that begins to use it."""
        self.drivers += 1
        self.token = trio.lowlevel.current_trio_token()

    async def accept(self) -> GuestStream:
        """Wait for a connection; see `GuestListener.accept`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not self._queue and not self.closed:
            waited = True
            self._acceptor = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._accepting_cancelled)
        if self.closed:
            if not waited:
                await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this listener was closed")
        backlog, end = self._queue.popleft()
        stream = backlog.accept(end)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return stream

    def _accepting_cancelled(self, _: object) -> Abort:
        self._acceptor = None
        return Abort.SUCCEEDED

    def _wake(self) -> None:
        if self._acceptor is not None:
            trio.lowlevel.reschedule(self._acceptor)
            self._acceptor = None

    def close(self) -> None:
        """See `GuestListener.aclose`."""
        if not self.closed:
            self.closed = True
            self._when_closed()
            self._queue.clear()
            for backlog in self._backlogs.values():
                backlog.close()
            self._backlogs.clear()
            self._wake()

    def put(self, backlog: _Backlog, end: StreamEnd) -> None:
        """Let a task accept a connection."""
        self._queue.append((backlog, end))
        end.carrier.context.woken = True
        self._wake()

    def withdraw(self, end: StreamEnd) -> None:
        """A connection that no task has accepted is over."""
        for place, (_, queued) in enumerate(self._queue):
            if queued is end:
                del self._queue[place]
                return

    def offered(self, end: StreamEnd, now: float) -> None:
        """Called by a driver: its guest opens a connection."""
        backlog = self._backlogs.get(end.carrier)
        if backlog is None:
            backlog = self._backlogs[end.carrier] = _Backlog(self, end.carrier, self._size)
        backlog.offer(end, now)

    def ended(self, carrier: Carrier) -> None:
        """Called by a driver that has ended, and its streams before it."""
        self.drivers -= 1
        self._backlogs.pop(carrier, None)


class GuestListener(Uncopyable, trio.abc.Listener[GuestStream]):
    """Accepts the guest's connections to one place; see `Services.listen_tcp`. It behaves as `trio.SocketListener`.

    It stays usable when a guest's network ends: it also accepts the connections of the next one. A listener that is
    dropped without being closed is closed, and causes a `ResourceWarning` while a network uses it.
    """

    def __init__(self, queue: AcceptQueue) -> None:
        self._queue = queue
        self._accepting = Exclusive("another task is accepting connections of this listener")

    def __del__(self) -> None:
        if not self._queue.closed:
            close_unclosed(self, self._queue.token, self._queue.close, used=self._queue.drivers > 0)

    def __repr__(self) -> str:
        return f"<GuestListener {self._queue.place}>"

    async def accept(self) -> GuestStream:
        """Wait for a connection of the guest.

        Raises:
            trio.ClosedResourceError: the listener was closed.
            trio.BusyResourceError: another task is accepting.
        """
        with self._accepting:
            return await self._queue.accept()

    async def aclose(self) -> None:
        """Stop listening, and refuse the connections that no task has accepted."""
        self._queue.close()
        await trio.lowlevel.checkpoint()
