"""TCP sockets of the host.

Theory of operation. A stream is watched once, for all events, and edge-triggered (EPOLLET): the kernel reports what is
new, and the stream remembers what it has not handled yet. So a connection takes two epoll_ctl(2) in its life, whatever
happens to it, and nothing that must wait is reported again. Its phases:

- *Connecting*: EPOLLOUT alone means success. Otherwise SO_ERROR tells the result, and the error queue tells which ICMP
  error caused it.
- *Open*: it reads once per event, at most as much as the core's `receive_budget`, and keeps the core's data that the
  socket did not take until EPOLLOUT. Data that the socket may still hold (`_unread`) are read when the core orders to
  resume, or in the next round (`SocketContext.unread`): if other streams wait for that already, if a read was full, if
  the guest's link is blocked, or if the other streams have read enough in this round.
- *Ended*: the end was read. Only errors are handled, and sending goes on.
- *Closing*: the core has closed it, but data wait; they are sent until a time limit.
- *Closed*: after `stream_failed` was reported, or an order to close. Orders have no effect.

EPOLLRDHUP tells that the remote's FIN has arrived. Then a read that is shorter than asked has taken the last data, and
the core learns of the end at the same time, so that its FIN can go with them; no read is needed to find the end alone.
But a read also stops before an urgent byte (EPOLLPRI), and errors come after the data: then it is read until the call
itself says what follows.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP
from socket import MSG_DONTWAIT, SHUT_WR, SO_ERROR, SOL_SOCKET, SocketType
from typing import Final, Protocol

from sansnet_core import Buffer, ExtendedError, KeepAlive, OpenStream, SocketId
from sansnet_trio.host import errqueue
from sansnet_trio.host.sockaddr import encode
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import (
    bind_source,
    forget_icmp_errors,
    keep_alive,
    prepare_stream,
    reset_when_closed,
)

__all__ = ["Stream", "StreamOwner"]

_MAX_VECTORS: Final = 1024  # IOV_MAX (limits.h)
_JOIN_BELOW: Final = 2048
"""Bytes of chunks that are joined: a single byte in a chunk of its own takes a hundred bytes of memory."""

_WATCHED: Final = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET
_TO_READ: Final = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP

# The phases of a stream; see above
_CONNECTING: Final = 0
_OPEN: Final = 1
_ENDED: Final = 2
_CLOSING: Final = 3
_CLOSED: Final = 4

# The data that the socket may hold; an event can only raise it
_NOTHING: Final = 0
_DATA: Final = 1
_LAST_DATA: Final = 2
"""The remote has sent FIN: a short read takes the last data."""
_UNKNOWN: Final = 3
"""A short read tells nothing: it may have stopped before an urgent byte, or an error follows."""


class StreamOwner(Protocol):
    """The owner of streams, which they report to."""

    def note_connected(self, socket: SocketId) -> None:
        """The stream's connect has succeeded."""

    def forget(self, socket: SocketId) -> None:
        """The stream's socket was closed without an order to close it."""


class Stream:
    """One TCP connection of the host. Call `connect` or `adopt` first.

    Args:
        context: the state that the sockets share.
        identity: the core's name for the socket.
        owner: see above.
    """

    __slots__ = (
        "_chunks",
        "_context",
        "_family",
        "_fd",
        "_full",
        "_id",
        "_owner",
        "_phase",
        "_queued",
        "_shutting",
        "_socket",
        "_unread",
    )

    def __init__(self, context: SocketContext, identity: SocketId, owner: StreamOwner) -> None:
        self._context = context
        self._owner = owner
        self._id: SocketId = identity
        self._phase = _CONNECTING
        self._chunks: list[Buffer] | None = None  # a list only while data wait: even an empty one takes memory
        self._full = True  # the socket takes no data until EPOLLOUT
        self._unread = _NOTHING
        self._queued = False  # a member of `SocketContext.unread`
        self._shutting = False  # SHUT_WR was called, or will be after the chunks are sent

    @property
    def closed(self) -> bool:
        """The socket is closed."""
        return self._phase == _CLOSED

    def connect(self, made: SocketType, family: int, order: OpenStream, now: float) -> None:
        """Connect a new socket of this family. Success and failure are both reported."""
        self._socket = made
        self._family = family
        self._fd = made.fileno()
        try:
            code = self._connect(order)
            if code in (0, errno.EINPROGRESS):
                self._context.poller.add(self._fd, _WATCHED, self)
                return
        except OSError as error:
            code = error.errno or errno.EIO
        self._give_up(code, now)

    def adopt(self, accepted: SocketType, now: float) -> None:
        """Use a socket that is connected and that `prepare_accepted` was called for. It need not be non-blocking."""
        self._socket = accepted
        self._fd = accepted.fileno()
        self._phase = _OPEN
        self._full = False
        try:
            self._context.poller.add(self._fd, _WATCHED, self)
        except OSError as error:
            self._give_up(error.errno or errno.EIO, now)

    def _connect(self, order: OpenStream) -> int:
        prepare_stream(self._socket, self._family)
        self._context.choose_device(self._socket, order.remote.address)
        scope = self._context.scope
        if order.local is not None:
            bind_source(self._socket)
            self._socket.bind(encode(order.local, 0, scope))
        return self._socket.connect_ex(encode(order.remote.address, order.remote.port, scope))

    def _give_up(self, code: int, now: float) -> None:
        """Report a failure of a socket that is not in the epoll set."""
        self._phase = _CLOSED
        self._socket.close()
        self._context.network.stream_failed(self._id, code, None, now)

    # orders

    def queue(self, data: Buffer) -> bool:
        """Keep data for `flush`; whether no data waited before."""
        chunks = self._chunks
        if chunks is None:
            self._chunks = [data]
            return True
        if len(chunks[-1]) + len(data) <= _JOIN_BELOW:
            chunks[-1] = b"".join((chunks[-1], data))
        else:
            chunks.append(data)
        return False

    def flush(self, now: float) -> None:
        """Send the waiting data as far as the socket takes them; the rest follows when it is writable."""
        if self._chunks is not None and not self._full and self._phase != _CLOSED:
            self._send(now)

    def shutdown(self, now: float) -> None:
        """End the outgoing stream after the queued data. Nothing to do for a stream that is being closed."""
        if self._phase >= _CLOSING:
            return
        self._shutting = True
        if self._chunks is None:
            self._finish_sending()
        else:
            self.flush(now)

    def resume(self, now: float) -> None:
        """Read what the socket holds, because the core's budget is not 0 any more.

        If no other stream waits for that, it is read now, so that acknowledgments to the guest ride on the data.
        """
        if self._unread and self._phase == _OPEN and not self._queued:
            if self._context.unread:
                self._queue()
            else:
                self._read(now)

    def keep_alive(self, order: KeepAlive) -> None:
        """Make the kernel probe the peer."""
        if self._phase != _CLOSED:
            with suppress(OSError):  # the socket has failed, which an event will report
                keep_alive(self._socket, order.idle, order.interval, order.count)

    def fail_for_room(self, now: float) -> None:
        """Fail with EMFILE while connecting, to free the descriptor for another socket."""
        self._fail(errno.EMFILE, now)

    def fail_for_memory(self, now: float) -> None:
        """Fail with ENOMEM, to free the data of the connection. The remote gets RST.

        Raises:
            MemoryError: not even that is possible; the stream goes on.
        """
        self._context.network.stream_failed(self._id, errno.ENOMEM, None, now)
        self._finish_with_reset()

    def _lose(self, now: float) -> None:
        """Fail with ENOMEM, since memory was short in a step after which a part of the data may be missing."""
        self._finish_with_reset()
        self._context.network.stream_failed(self._id, errno.ENOMEM, None, now)

    @property
    def held(self) -> int:
        """Bytes of the guest that the socket has not taken."""
        return 0 if self._chunks is None else sum(map(len, self._chunks))

    def close(self, code: int = 0) -> bool:
        """Close as soon as the waiting data are sent, and report nothing more, whatever the reason.

        Returns:
            Whether there are such data.
        """
        if self._chunks is None:
            self.abandon()
            return False
        self._phase = _CLOSING
        return True

    def abort(self, code: int = 0) -> None:
        """Close with RST and discard the waiting data, whatever the reason."""
        if self._phase != _CLOSED:
            reset_when_closed(self._socket)
            self.abandon()

    def abandon(self) -> None:
        """Close the socket."""
        if self._phase != _CLOSED:
            self._phase = _CLOSED
            self._context.poller.retire(self._socket)
            self._chunks = None

    def leave(self) -> None:
        """Close because the driver ends: with RST, since a FIN would mean that the guest has sent all its data.

        If the guest has ended its stream and the kernel has all of it, close normally: the kernel sends the stream to
        its end, however slow the remote is, and answers data from the remote with RST.
        """
        if self._shutting and self._chunks is None:
            self.abandon()
        else:
            self.abort()

    # events

    def __call__(self, flags: int, now: float) -> None:
        if self._phase == _CONNECTING:
            self._ready_connecting(flags, now)
        elif flags & EPOLLOUT and self._full:
            self._full = False
            if self._phase == _CLOSING:
                self._send_rest()
            elif self._chunks is not None:
                self._send(now)
        if flags & _TO_READ:
            if self._phase == _OPEN:
                if flags & (EPOLLERR | EPOLLHUP | EPOLLPRI):
                    self._unread = _UNKNOWN
                elif self._unread < _LAST_DATA:
                    self._unread = _LAST_DATA if flags & EPOLLRDHUP else _DATA
                if not self._queued:
                    self._read(now)
            elif flags & (EPOLLERR | EPOLLHUP):
                self._handle_error(now)

    def _ready_connecting(self, flags: int, now: float) -> None:
        if flags & (EPOLLERR | EPOLLHUP):
            # In this order, since taking an ICMP error from the queue clears SO_ERROR
            code = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
            found = errqueue.read(self._socket) if flags & EPOLLERR else []
            if not code and flags & EPOLLHUP:
                code = found[-1][1].errno if found else errno.ECONNABORTED
            if code:
                self._fail(code, now, found[-1][1] if found else None)
                return
        if flags & EPOLLOUT:
            forget_icmp_errors(self._socket, self._family)
            self._phase = _OPEN
            self._full = False
            self._owner.note_connected(self._id)
            self._context.traffic.stream_connected(self._id, now)

    def _handle_error(self, now: float) -> None:
        """Handle EPOLLERR or EPOLLHUP when nothing is read: a reset, or both directions are shut down."""
        if self._phase == _CLOSING:
            self._finish()
        elif self._phase == _ENDED and (code := self._socket.getsockopt(SOL_SOCKET, SO_ERROR)):
            self._fail(code, now)

    def report_again(self) -> None:
        """Have the kernel report again what the socket is ready for, because an event may have been lost."""
        if self._phase != _CLOSED:
            self._context.poller.change(self._fd, _WATCHED)

    # receiving

    def read(self, now: float) -> None:
        """Read what the socket holds, as a member of `SocketContext.unread`."""
        self._queued = False
        if self._phase == _OPEN:
            self._read(now)

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._context.unread.append(self)

    def _read(self, now: float) -> None:
        context = self._context
        if context.blocked or context.allowance <= 0:
            self._queue()
            return
        traffic = context.traffic
        size = traffic.receive_budget(self._id)
        if size <= 0:
            return  # an order to resume follows
        try:
            data = self._socket.recv(size, MSG_DONTWAIT)
        except BlockingIOError:
            if self._unread == _UNKNOWN:
                errqueue.read(self._socket)  # otherwise each event would report EPOLLERR
            self._unread = _NOTHING
            return
        except OSError as error:
            self._fail(error.errno or errno.EIO, now)
            return
        count = len(data)
        if count:
            context.allowance -= count
            try:
                traffic.stream_received(self._id, data, now)
            except MemoryError:
                self._lose(now)
                raise
            if count == size or self._unread == _UNKNOWN:
                self._queue()
                return
        if not count or self._unread == _LAST_DATA:
            self._phase = _ENDED
            traffic.stream_ended(self._id, now)
        self._unread = _NOTHING

    # sending

    def _send(self, now: float) -> None:
        try:
            sent = self._write()
        except OSError as error:
            self._drain(now)
            self._fail(error.errno or errno.EIO, now)
            return
        except MemoryError:
            self._lose(now)
            raise
        if sent:
            self._context.traffic.stream_sent(self._id, sent, now)
        if self._shutting and self._chunks is None:
            self._finish_sending()

    def _send_rest(self) -> None:
        """Send the data of a stream that the core has closed."""
        try:
            self._write()
        except OSError:
            self._chunks = None
        except MemoryError:
            self._finish_with_reset()
            raise
        if self._chunks is None:
            self._finish()

    def _write(self) -> int:
        """Send as much as the socket takes; the number of bytes that it took."""
        chunks = self._chunks
        assert chunks is not None
        total = 0
        try:
            while len(chunks) > 1:
                sent = self._socket.sendmsg(chunks[:_MAX_VECTORS], (), MSG_DONTWAIT)
                total += sent
                whole = 0
                while whole < len(chunks) and sent >= len(chunks[whole]):
                    sent -= len(chunks[whole])
                    whole += 1
                del chunks[:whole]
                if sent:
                    chunks[0] = memoryview(chunks[0])[sent:]
                    self._full = True
                    return total
            if chunks:
                data = chunks[0]
                sent = self._socket.send(data, MSG_DONTWAIT)
                total += sent
                if sent < len(data):
                    chunks[0] = memoryview(data)[sent:]
                    self._full = True
                    return total
        except BlockingIOError:
            self._full = True
            return total
        self._chunks = None
        return total

    def _finish_sending(self) -> None:
        try:
            self._socket.shutdown(SHUT_WR)
        except OSError:
            return  # ENOTCONN: reset by the remote, which an event will report

    # failing

    def _drain(self, now: float) -> None:
        """Read what arrived before sending failed: the guest must get it."""
        traffic = self._context.traffic
        try:
            while self._phase == _OPEN and (budget := traffic.receive_budget(self._id)) > 0:
                data = self._socket.recv(budget, MSG_DONTWAIT)
                if not data:
                    break
                traffic.stream_received(self._id, data, now)
        except OSError:
            pass  # the same error, or nothing to read

    def _fail(self, code: int, now: float, error: ExtendedError | None = None) -> None:
        self._finish()
        self._context.network.stream_failed(self._id, code, error, now)

    def _finish(self) -> None:
        self.abandon()
        self._owner.forget(self._id)

    def _finish_with_reset(self) -> None:
        self.abort()
        self._owner.forget(self._id)
