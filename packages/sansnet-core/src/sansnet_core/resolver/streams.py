"""The guest's TCP connections to the resolver, which end in the core (RFC 7766).

Theory of operation. A connection is a `TcpFlow` as any other, whose host side is this module: `take_own_orders` takes
the orders for it before the driver does, and answers with the facts that a driver would report. Questions of one
connection are answered in any order. Data that is not needed yet is not acknowledged to TCP, so that its window closes:
a guest that asks without reading the answers waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import ECONNRESET
from math import inf
from typing import Final, TypeAlias

from sansnet_core.context import Context
from sansnet_core.orders import Buffer, Endpoint, Order, ResumeStream, SendStream, ShutdownStream, SocketId
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.tcp.send_buffer import append_chunk

__all__ = ["Reply", "Serve", "Streams"]

Reply: TypeAlias = Callable[[bytes | None], None]
"""Sends the answer to a question; None if there is none."""
Serve: TypeAlias = Callable[[Endpoint, Endpoint, bytes, Reply], None]
"""Answers a message of the guest: its endpoint, ours, the message, and what to call once with the answer."""

IDLE: Final = 20.0
"""Seconds without a question or an answer, after which a connection is ended (RFC 7766, 6.2.3)."""
MAX_WAITING: Final = 8
"""Most questions of one connection that wait for their answers; more are not read (RFC 7766, 6.2.1.1)."""
MAX_AT_ONCE: Final = 32
"""Most messages that are read at once: a frame can have thousands, and all else must not wait for them."""
PAUSE: Final = 0.001
"""Seconds until the next ones are read."""
MAX_UNSENT: Final = 16384
"""Bytes of answers that TCP has not taken, above which no more questions are read."""


class Streams:
    """The connections to the resolver.

    Args:
        context: of the network.
        tcp: all connections of the guest.
        serve: answers a message.
    """

    __slots__ = ("_closed", "_open", "context", "serve", "tcp")

    def __init__(self, context: Context, tcp: Tcp, serve: Serve) -> None:
        self.context = context
        self.tcp = tcp
        self.serve = serve
        self._open: dict[SocketId, _Connection] = {}
        """The oldest first."""
        self._closed: set[SocketId] = set()
        """Connections that were reset, of which there may still be orders."""

    def __len__(self) -> int:
        return len(self._open)

    def stream_opened(self, socket: SocketId, guest: Endpoint, remote: Endpoint) -> None:
        """The guest has connected; if there are too many connections, the oldest is reset."""
        if len(self._open) >= self.context.config.limits.name_streams:
            next(iter(self._open.values())).reset()
        self._open[socket] = _Connection(self, socket, guest, remote)

    def take_own_orders(self) -> bool:
        """Take the orders for connections to the resolver from those for the driver; whether there were any."""
        found = False
        while self._open or self._closed:
            out = self.context.out
            own: list[Order] = []
            others: list[Order] = []
            for order in out.orders:
                mine = order.socket in self._open or order.socket in self._closed
                (own if mine else others).append(order)
            if not own:
                self._closed.clear()
                break
            found = True
            out.orders = others
            for order in own:
                if connection := self._open.get(order.socket):
                    connection.obey(order)
        return found

    def forget(self, socket: SocketId, *, reset: bool = False) -> None:
        """A connection is over; with `reset`, TCP does not know it yet."""
        connection = self._open.pop(socket, None)
        if connection is None:
            return
        self.context.timers.forget(connection)
        if reset:
            self._closed.add(socket)
            self.tcp.stream_failed(socket, ECONNRESET, None)


class _Connection:
    """One connection; the host's side of a `TcpFlow`."""

    __slots__ = (
        "_answers",
        "_buffer",
        "_chunks",
        "_ended",
        "_guest",
        "_guest_ended",
        "_more",
        "_reading",
        "_remote",
        "_socket",
        "_streams",
        "_unsent",
        "_waiting",
        "deadline",
        "queued",
        "ticket",
    )

    def __init__(self, streams: Streams, socket: SocketId, guest: Endpoint, remote: Endpoint) -> None:
        self._streams = streams
        self._socket = socket
        self._guest, self._remote = guest, remote
        self._chunks: deque[Buffer] = deque()
        """Data that TCP still counts as unsent."""
        self._buffer = b""
        """The beginning of the next message, behind its length of two bytes (RFC 1035, 4.2.2)."""
        self._answers: deque[bytes] = deque()
        self._unsent = 0
        self._waiting = 0
        self._ended = self._guest_ended = self._reading = False
        self._more = False
        """There may be more messages to read after a pause."""
        self.deadline = self.queued = inf
        self.ticket = 0
        self._touch()

    def _touch(self) -> None:
        timers, now = self._streams.context.timers, self._streams.context.now
        timers.arm(self, now + (PAUSE if self._more else IDLE))

    def obey(self, order: Order) -> None:
        """Do what a driver would do."""
        if isinstance(order, SendStream):
            self._touch()
            append_chunk(self._chunks, order.data)
            self._read()
        elif isinstance(order, ResumeStream):
            self._write()
        elif isinstance(order, ShutdownStream):
            self._guest_ended = True
            self._check_end()
        else:  # CloseSocket
            self._streams.forget(self._socket)

    def _read(self) -> None:
        """Begin to answer the questions that have come."""
        if self._reading or self._more:
            return  # the answer to one came at once, or it is called again
        self._reading = True
        count = 0
        while self._waiting < MAX_WAITING and self._unsent < MAX_UNSENT:
            size = len(self._buffer)
            missing = 2 - size if size < 2 else 2 + int.from_bytes(self._buffer[:2], "big") - size
            if not missing:
                message, self._buffer = self._buffer[2:], b""
                self._waiting += 1
                self._streams.serve(self._guest, self._remote, message, self._reply)
                count += 1
                if count == MAX_AT_ONCE:
                    self._more = True
                    self._touch()
                    break
            elif self._chunks:
                data = memoryview(self._chunks.popleft())
                if len(data) > missing:
                    self._chunks.appendleft(data[missing:])
                    data = data[:missing]
                self._buffer += data
                self._streams.tcp.stream_sent(self._socket, len(data))
            else:
                break
        self._reading = False

    def _reply(self, message: bytes | None) -> None:
        self._waiting -= 1
        if message is not None and not self._ended:
            self._touch()
            framed = len(message).to_bytes(2, "big") + message
            self._answers.append(framed)
            self._unsent += len(framed)
        self._write()

    def _write(self) -> None:
        """Give TCP the answers, as many bytes as it takes now; a `ResumeStream` order follows if that is not all."""
        tcp = self._streams.tcp
        while self._answers and (budget := tcp.receive_budget(self._socket)):
            data = self._answers.popleft()
            if len(data) > budget:
                self._answers.appendleft(data[budget:])
                data = data[:budget]
            self._unsent -= len(data)
            tcp.stream_received(self._socket, data)
        if self._chunks or self._buffer:
            self._read()
        self._check_end()

    def _check_end(self) -> None:
        if self._guest_ended and not (self._chunks or self._waiting or self._answers or self._ended):
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._streams.tcp.stream_ended(self._socket)

    def reset(self) -> None:
        """Reset the connection."""
        self._streams.forget(self._socket, reset=True)

    def expire(self) -> None:
        """Read more, or the connection is idle: end it, and reset it if the guest does not end it as well."""
        if self._more:
            self._more = False
            self._touch()
            self._write()
            return
        if self._ended:
            self.reset()
            return
        self._answers.clear()
        self._end()
        self._touch()
