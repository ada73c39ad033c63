"""TCP connections of a simulated guest as trio streams."""

from __future__ import annotations

import math
import operator
import os
from collections import deque
from errno import ECONNREFUSED, ECONNRESET, ETIMEDOUT
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import Endpoint

if TYPE_CHECKING:
    from sansnet_core.testing import GuestConnection, GuestStack, GuestTcpOptions
    from sansnet_trio.testing.pump import Pump

__all__ = ["SimulatedListener", "SimulatedStream"]

_SEND_BUFFER: Final = 256 << 10
"""Bytes that are sent or queued and not acknowledged, above which `send_all` waits."""

_USER_TIMEOUT: Final = 924.6
"""Seconds without an acknowledgment after which a connection fails: Linux's tcp_retries2 of 15 (tcp(7))."""
_GONE_AFTER: Final = 60.0
"""Seconds for which a closed connection is kept: Linux's TIME-WAIT, and its tcp_fin_timeout (tcp(7))."""


class SimulatedStream(trio.abc.HalfCloseableStream):
    """One TCP connection of a simulated guest, from the guest's side. It behaves as `trio.SocketStream`.

    Like a socket of the kernel, it resets the connection if it is closed while data wait to be received.

    Attributes:
        connection: the connection as the guest's stack has it, with counters for tests.
    """

    def __init__(self, pump: Pump, connection: GuestConnection) -> None:
        self.connection: Final = connection
        self._pump = pump
        self._changed = trio.lowlevel.ParkingLot()
        self._closed = self._sending = self._receiving = self._ended = False
        self._queued = 0
        self._errno = 0
        self._silent_since = trio.current_time()
        self._gone_at = math.inf
        pump.members.append(self)

    @property
    def guest(self) -> Endpoint:
        """The guest's endpoint."""
        return Endpoint(*self.connection.local)

    @property
    def peer(self) -> Endpoint:
        """The other endpoint, as the guest sees it."""
        return Endpoint(*self.connection.peer)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; see `trio.abc.SendStream.send_all`."""
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_sending()
            with memoryview(data) as view, view.cast("B") as rest:
                sent = 0
                while sent < len(rest):
                    room = self._room()
                    if room <= 0:
                        await self._wait()
                        self._check_sending()
                        continue
                    if self._unacknowledged() == 0:
                        self._silent_since = trio.current_time()
                    self.connection.send(bytes(rest[sent : sent + room]))
                    self._queued += min(room, len(rest) - sent)
                    sent += room
                    self._pump.kick()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room; see `trio.abc.SendStream.wait_send_all_might_not_block`."""
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            while self._room() <= 0 and not self._errno:
                await self._wait()
                if self._closed:
                    raise trio.ClosedResourceError("this stream was closed")
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Send FIN after all data; see `trio.abc.HalfCloseableStream.send_eof`. A second call does nothing."""
        if self._sending:
            raise trio.BusyResourceError("another task sends on this stream")
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._shutdown()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what there is, at most `max_bytes`; see `trio.abc.ReceiveStream.receive_some`."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes: {max_bytes} is less than 1; leave it out to receive all that came")
        if self._receiving:
            raise trio.BusyResourceError("another task receives from this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise trio.ClosedResourceError("this stream was closed")
                data = self.connection.read(len(self.connection.received) if max_bytes is None else max_bytes)
                if data:
                    self._pump.kick()
                    return data
                if self.connection.fin_received:
                    return b""
                self._check_alive()
                await self._wait()
        finally:
            self._receiving = False

    def abort(self) -> None:
        """Reset the connection and close the stream."""
        if not self._closed:
            self._closed = True
            self._reset()
            self._changed.unpark_all()

    async def aclose(self) -> None:
        """Close the stream; see `trio.abc.AsyncResource.aclose`."""
        if not self._closed:
            self._closed = True
            if self.connection.read(1):
                self._reset()
            else:
                self._shutdown()
            self._changed.unpark_all()
        await trio.lowlevel.checkpoint()

    def update(self, now: float) -> bool:
        """Wake the tasks that wait, after frames arrived; see `Member`."""
        connection = self.connection
        if connection.failed:
            self._errno = connection.failed
        elif connection.refused:
            self._errno = ECONNREFUSED
        elif connection.reset:
            self._errno = ECONNRESET
        elif not connection.everything_acknowledged and self._silence(now) > _USER_TIMEOUT:
            self._errno = ETIMEDOUT
            connection.abort(now)
        self._changed.unpark_all()
        return not self._closed or self._linger(now)

    def end(self, errno: int) -> None:
        """Fail with an errno; see `Member`."""
        self._errno = self._errno or errno
        self._changed.unpark_all()

    def fail(self, errno: int) -> None:
        """Give up an attempt to connect: nothing more is sent, and the stream is closed."""
        self.connection.fail(errno)
        self._errno = errno
        self._closed = True
        self._forget()

    def _linger(self, now: float) -> bool:
        """Whether the stack still needs the connection, although the stream is closed."""
        connection = self.connection
        if not connection.closed and connection.read(1):
            connection.abort(now)  # data for a program that has closed its socket
        if connection.reset or connection.refused or connection.failed or now >= self._gone_at:
            self._forget()
            return False
        if connection.fin_acknowledged:
            self._gone_at = min(self._gone_at, now + _GONE_AFTER)
        return True

    def _forget(self) -> None:
        self._pump.stack.connections.pop((*self.connection.local, *self.connection.peer), None)

    async def wait_established(self) -> None:
        """Wait until the handshake is done.

        Raises:
            OSError: it failed, with the errno that `connect` of the kernel has.
        """
        while not self.connection.established:
            if self._errno:
                raise OSError(self._errno, os.strerror(self._errno))
            await self._wait()

    async def _wait(self) -> None:
        await self._changed.park()

    def _silence(self, now: float) -> float:
        """Seconds for which the network acknowledged nothing."""
        return now - max(self._silent_since, self.connection.last_heard) if self.connection.established else 0.0

    def _unacknowledged(self) -> int:
        """Bytes that are queued or sent and not acknowledged."""
        return self._queued - max(0, min(self.connection.una - 1, self._queued))

    def _room(self) -> int:
        return _SEND_BUFFER - self._unacknowledged()

    def _check_sending(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._ended:
            raise trio.ClosedResourceError("the end of this stream was sent")
        self._check_alive()

    def _check_alive(self) -> None:
        if self._errno:
            error = OSError(self._errno, os.strerror(self._errno))
            raise trio.BrokenResourceError(f"the connection failed: {error}") from error

    def _shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            if not self.connection.closed:
                self._silent_since = trio.current_time()
                self.connection.shutdown()
                self._pump.kick()

    def _reset(self) -> None:
        if not self.connection.closed:
            self.connection.abort(trio.current_time())
            self._pump.kick()


class SimulatedListener(trio.abc.Listener[SimulatedStream]):
    """Accepts connections to one port of a simulated guest, as a `trio.SocketListener` does.

    Attributes:
        port: the port.
    """

    def __init__(
        self, pump: Pump, port: int, options: GuestTcpOptions, backlog: int, registry: dict[int, SimulatedListener]
    ) -> None:
        self.port: Final = port
        self._pump = pump
        self._options = options
        self._backlog = backlog
        self._pending: deque[SimulatedStream] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        self._closed = False
        self._errno = 0
        self._registry = registry
        registry[port] = self
        self._listen(True)
        pump.members.append(self)

    @property
    def full(self) -> bool:
        """So many connections wait for `accept` that a further SYN is ignored."""
        return len(self._pending) >= self._backlog

    def update(self, now: float) -> bool:
        """Take the connections that the stack accepted; see `Member`."""
        stack = self._pump.stack
        mine = [each for each in stack.accepted if each.local[1] == self.port]
        if mine:
            stack.accepted = [each for each in stack.accepted if each.local[1] != self.port]
            self._pending.extend(SimulatedStream(self._pump, each) for each in mine)
            self._listen(not self.full)
        if any(stream.connection.closed and not self._is_ready(stream) for stream in self._pending):
            self._pending = deque(stream for stream in self._pending if not stream.connection.closed)
            self._listen(not self.full)
        if any(self._is_ready(stream) for stream in self._pending):
            self._changed.unpark_all()
        return not self._closed

    async def accept(self) -> SimulatedStream:
        """Accept a connection; see `trio.abc.Listener.accept`."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed")
            for stream in list(self._pending):
                if self._is_ready(stream):
                    self._pending.remove(stream)
                    self._listen(True)
                    return stream
            if self._errno:
                raise OSError(self._errno, os.strerror(self._errno))
            await self._changed.park()

    async def aclose(self) -> None:
        """Stop listening; connections that were not accepted are reset."""
        if not self._closed:
            self._closed = True
            del self._registry[self.port]
            self._listen(False)
            for stream in self._pending:
                stream.abort()
            self._pending.clear()
            self._changed.unpark_all()
        await trio.lowlevel.checkpoint()

    def end(self, errno: int) -> None:
        """Fail with an errno; see `Member`."""
        self._errno = errno
        self._changed.unpark_all()

    def _is_ready(self, stream: SimulatedStream) -> bool:
        return stream.connection.established

    def _listen(self, wanted: bool) -> None:
        stack: GuestStack = self._pump.stack
        if wanted and not self._closed:
            stack.listening[self.port] = self._options
        else:
            stack.listening.pop(self.port, None)
