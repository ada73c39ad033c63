"""TCP sockets of the host.

Theory of operation. A stream is connecting, open, or closing; each state has its own handler in the epoll set. A stream
that a listening socket accepted is open from the beginning.

- *Connecting*: it waits for EPOLLOUT. SO_ERROR tells the result, and the error queue tells which ICMP error caused it.
- *Open*: it reads once per event, at most as much as the core's `receive_budget`, and keeps the core's data that the
  socket did not take. `_interest` is the set of events that are reported: EPOLLIN unless the core's budget was 0, the
  guest's link is blocked or the end was read; EPOLLOUT if data wait. EPOLLHUP and EPOLLERR can only be disabled by
  EPOLLONESHOT, after one more report. So a stream that cannot handle them is watched with EPOLLONESHOT alone until it
  can. It does not leave the epoll set instead, because the kernel may have no room for it later.
- *Closing*: the core has closed it, but data wait; they are sent until a time limit.

After `stream_failed` was reported the socket is closed, and orders for it have no effect.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT
from socket import SHUT_WR, SO_ERROR, SOL_SOCKET, socket
from typing import Final

from sansnet_core import Buffer, ExtendedError, KeepAlive, OpenStream, SocketId
from sansnet_trio.host import errqueue
from sansnet_trio.host.poller import Handler
from sansnet_trio.host.sockaddr import encode
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import (
    bind_source,
    forget_icmp_errors,
    keep_alive,
    prepare_accepted,
    prepare_stream,
    reset_when_closed,
)

__all__ = ["Stream"]

_READ_SIZE: Final = 256 * 1024
_MAX_VECTORS: Final = 1024  # IOV_MAX (limits.h)
_JOIN_BELOW: Final = 2048
"""Bytes of chunks that are joined: a single byte in a chunk of its own takes a hundred bytes of memory."""
_ERRORS_ONCE: Final = EPOLLONESHOT


class Stream:
    """One TCP connection of the host. Call `connect` or `adopt` first.

    Args:
        context: the state that the sockets share.
        identity: the core's name for the socket.
        family: AF_INET or AF_INET6.
        connected: called when `connect` has succeeded.
        finished: called after the socket was closed without an order to close it.

    Attributes:
        closed: the socket is closed.
    """

    __slots__ = (
        "_chunks",
        "_connected",
        "_context",
        "_ended",
        "_family",
        "_fd",
        "_finished",
        "_id",
        "_interest",
        "_shutting",
        "_socket",
        "closed",
    )

    def __init__(
        self,
        context: SocketContext,
        identity: SocketId,
        family: int,
        connected: Callable[[SocketId], None],
        finished: Callable[[SocketId], None],
    ) -> None:
        self._context = context
        self._connected = connected
        self._id: SocketId = identity
        self._finished = finished
        self._family = family
        self._chunks: list[Buffer] = []  # an empty deque would take 10 times the memory, for each idle connection
        self._ended = False
        self._shutting = False  # SHUT_WR was called, or will be after the chunks are sent
        self._interest = 0
        self.closed = False

    def connect(self, made: socket, order: OpenStream, now: float) -> None:
        """Connect a new socket. Success and failure are both reported."""
        self._socket = made
        self._fd = made.fileno()
        try:
            code = self._connect(order)
            if code in (0, errno.EINPROGRESS):
                self._enter(EPOLLOUT, self._ready_connecting)
                return
        except OSError as error:
            code = error.errno or errno.EIO
        self._give_up(code, now)

    def adopt(self, accepted: socket, now: float) -> None:
        """Use a socket that is connected. Nothing is read until `resume`."""
        self._socket = accepted
        self._fd = accepted.fileno()
        try:
            prepare_accepted(accepted)
            self._enter(0, self._ready)
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

    def _enter(self, interest: int, handler: Handler) -> None:
        self._interest = interest
        self._context.poller.add(self._fd, interest, handler)

    def _give_up(self, code: int, now: float) -> None:
        """Report a failure of a socket that is not in the epoll set."""
        self.closed = True
        self._socket.close()
        self._context.network.stream_failed(self._id, code, None, now)

    # orders

    def queue(self, data: Buffer) -> bool:
        """Keep data for `flush`; whether no data waited before."""
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= _JOIN_BELOW:
            chunks[-1] = b"".join((chunks[-1], data))
            return False
        chunks.append(data)
        return len(chunks) == 1

    def flush(self, now: float) -> None:
        """Send the waiting data as far as the socket takes them; the rest follows when it is writable."""
        if self._chunks and not self.closed and not self._interest & EPOLLOUT:
            self._send(now)

    def shutdown(self, now: float) -> None:
        """End the outgoing stream after the queued data."""
        self._shutting = True
        if self._chunks:
            self.flush(now)
        elif not self.closed:
            self._finish_sending()

    def resume(self) -> None:
        """Read again, because the core's budget is not 0 any more."""
        if not self.closed and not self._ended:
            self._watch(EPOLLIN | EPOLLOUT if self._chunks else EPOLLIN)

    def keep_alive(self, order: KeepAlive) -> None:
        """Make the kernel probe the peer."""
        if not self.closed:
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
        self.abort()
        self._finished(self._id)

    @property
    def held(self) -> int:
        """Bytes of the guest that the socket has not taken."""
        return sum(map(len, self._chunks))

    def close(self) -> bool:
        """Close as soon as the waiting data are sent, and report nothing more.

        Returns:
            Whether there are such data.
        """
        if not self._chunks:
            self.abandon()
            return False
        self._ended = True  # do not read any more, even if the stream waits for room in the link
        self._watch(EPOLLOUT)
        self._context.poller.handlers[self._fd] = self._ready_closing
        return True

    def abort(self, code: int = 0) -> None:
        """Close with RST and discard the waiting data, whatever the reason."""
        if not self.closed:
            reset_when_closed(self._socket)
            self.abandon()

    def abandon(self) -> None:
        """Close the socket."""
        if not self.closed:
            self.closed = True
            self._context.poller.remove(self._fd)
            self._socket.close()
            self._chunks.clear()

    def leave(self) -> None:
        """Close because the driver ends: with RST, since a FIN would mean that the guest has sent all its data.

        If the guest has ended its stream and the kernel has all of it, close normally: the kernel sends the stream to
        its end, however slow the remote is, and answers data from the remote with RST.
        """
        if self._shutting and not self._chunks:
            self.abandon()
        else:
            self.abort()

    # events

    def _ready_connecting(self, flags: int, now: float) -> None:
        # In this order, since taking an ICMP error from the queue clears SO_ERROR
        code = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        found = errqueue.read(self._socket) if flags & EPOLLERR else []
        if not code and flags & EPOLLHUP:
            code = found[-1][1].errno if found else errno.ECONNABORTED
        if code:
            self._fail(code, now, found[-1][1] if found else None)
        elif flags & EPOLLOUT:
            forget_icmp_errors(self._socket, self._family)
            self._watch(EPOLLIN)
            self._context.poller.handlers[self._fd] = self._ready
            self._connected(self._id)
            self._context.network.stream_connected(self._id, now)

    def _ready(self, flags: int, now: float) -> None:
        if flags & EPOLLOUT and self._interest & EPOLLOUT:
            self._send(now)
            if self.closed:
                return
        if flags & (EPOLLIN | EPOLLERR | EPOLLHUP):
            if self._ended:
                self._handle_error(now)
            else:
                self._read(flags, now)

    def _read(self, flags: int, now: float) -> None:
        context = self._context
        budget = 0 if context.blocked else context.network.receive_budget(self._id)
        if budget <= 0:
            self._stop_reading(flags)
            return
        if not self._interest & EPOLLIN:  # after an event of the end or an error: no order to resume follows
            self.resume()
        try:
            data = self._socket.recv(budget if budget < _READ_SIZE else _READ_SIZE)
        except BlockingIOError:
            if flags & EPOLLERR:
                errqueue.read(self._socket)
            return
        except OSError as error:
            self._fail(error.errno or errno.EIO, now)
            return
        if data:
            context.network.stream_received(self._id, data, now)
        else:
            self._ended = True
            self._watch(self._interest & ~EPOLLIN)
            context.network.stream_ended(self._id, now)

    def _stop_reading(self, flags: int) -> None:
        if self._context.blocked:
            self._context.parked.append(self.resume)
        # An error waits too: it is reported after the data that arrived before it
        self._watch(_ERRORS_ONCE if flags & (EPOLLERR | EPOLLHUP) else self._interest & ~EPOLLIN)

    def _handle_error(self, now: float) -> None:
        """Handle EPOLLERR or EPOLLHUP after the end was read: a reset, or both directions are shut down."""
        code = self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            self._fail(code, now)
        else:
            self._watch(_ERRORS_ONCE)

    def _ready_closing(self, flags: int, now: float) -> None:
        try:
            self._write()
            over = not self._chunks or flags & (EPOLLERR | EPOLLHUP) != 0
        except OSError:
            over = True
        if over:
            self.abandon()
            self._finished(self._id)

    # sending

    def _send(self, now: float) -> None:
        try:
            sent = self._write()
        except OSError as error:
            self._drain(now)
            self._fail(error.errno or errno.EIO, now)
            return
        if self._chunks:
            self._watch(self._interest & ~_ERRORS_ONCE | EPOLLOUT)
        else:
            self._watch(self._interest & ~EPOLLOUT)
        if sent:
            self._context.network.stream_sent(self._id, sent, now)
        if self._shutting and not self._chunks:
            self._finish_sending()

    def _write(self) -> int:
        """Send as much as the socket takes; the number of bytes that it took."""
        chunks = self._chunks
        total = 0
        while chunks:
            try:
                sent = self._socket.sendmsg(chunks[:_MAX_VECTORS]) if len(chunks) > 1 else self._socket.send(chunks[0])
            except BlockingIOError:
                break
            total += sent
            whole = 0
            while whole < len(chunks) and sent >= len(chunks[whole]):
                sent -= len(chunks[whole])
                whole += 1
            del chunks[:whole]
            if sent:
                chunks[0] = memoryview(chunks[0])[sent:]
                break  # the socket is full
        return total

    def _finish_sending(self) -> None:
        with suppress(OSError):  # ENOTCONN: reset by the remote, which an event will report
            self._socket.shutdown(SHUT_WR)

    # failing

    def _drain(self, now: float) -> None:
        """Read what arrived before sending failed: the guest must get it."""
        network = self._context.network
        try:
            while not self._ended and (budget := network.receive_budget(self._id)) > 0:
                data = self._socket.recv(min(budget, _READ_SIZE))
                if not data:
                    break
                network.stream_received(self._id, data, now)
        except OSError:
            pass  # the same error, or nothing to read

    def _fail(self, code: int, now: float, error: ExtendedError | None = None) -> None:
        self.abandon()
        self._finished(self._id)
        self._context.network.stream_failed(self._id, code, error, now)

    def _watch(self, interest: int) -> None:
        """Make the epoll set report these events from now on."""
        if interest != self._interest:
            self._interest = interest
            self._context.poller.change(self._fd, interest)
