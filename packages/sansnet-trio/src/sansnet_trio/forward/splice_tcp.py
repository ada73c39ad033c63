"""TCP from loopback to loopback: two connections between which the kernel moves the bytes (splice(2)).

Theory of operation. A splice has two ends: an accepted connection, and one that is connecting or connected. Bytes from
one end pass through a pipe to the other. Between two events the pipe is empty, unless the receiving end takes no more:
then the pipe keeps its bytes, the sending end is not read, and the sender's window closes as over a direct connection.
So a splice needs a pipe only while bytes are on their way, and borrows it from a pool. An idle splice has none; it
costs two descriptors. An end that gets no pipe, because no descriptor is left, is not read until there is one.

After a FIN from one end, and once the pipe is empty, the other end sends a FIN. A reset of one end, or a failure to
connect it, resets the other, but only after the bytes that came before the reset: a server may refuse a large request
by a short answer and a reset. Only EPOLLONESHOT turns off EPOLLHUP and EPOLLERR. So an end that reports them while its
last bytes still wait, for the other end or a pipe, is watched with EPOLLONESHOT alone until they go on.

At an urgent byte splice(2) stops for good, as if there were no more data or the connection had ended. So if a readable
end yields nothing, one byte is read and written: only the urgent mark is lost.

A program's keepalive probes end at our end of its connection, where we cannot see them. So both ends of a splice have a
keepalive of their own, in case a loopback connection dies without a FIN or a reset, as when a filter drops packets.

A program that connects to localhost tries ::1 first. Since we accept that connection, it never tries 127.0.0.1, the
only address on which many services listen. So an end that is refused may have a fallback to connect to.

When sansnet ends, bytes from the guest may be in pipes and receive buffers, acknowledged already: `spliced` counts
them. An end that has got the FIN of the other one has everything. It is closed normally, and the kernel sends the rest.
Others are reset, so that no receiver takes a part for the whole.

An event at one end may close the other end, too, of which the same batch may have an event: see `Poller.retire`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT
from socket import MSG_PEEK, SHUT_WR, SO_ERROR, SOL_SOCKET, SocketType
from typing import Final, NamedTuple, TypeAlias

from sansnet_trio.forward.descriptor_queue import DescriptorQueue
from sansnet_trio.host.sockaddr import SocketAddress, decode
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import keep_alive, prepare_accepted, reset_when_closed
from sansnet_trio.linux.descriptors import SHORTAGE

__all__ = ["Fallback", "Spliced", "Splices", "reset"]

Fallback: TypeAlias = Callable[[], tuple[SocketType, SocketAddress]]
"""Makes a new socket, and returns it with the address to connect it to. Raises OSError."""

_PIPE_SIZE: Final = 1 << 20
"""Bytes: the default of /proc/sys/fs/pipe-max-size."""
_SPARE_PIPES: Final = 4
_MAX_ROUNDS: Final = 2
"""How often a pipe is filled and emptied for one event; the epoll set reports remaining bytes again."""
_SMALL: Final = 1 << 16
"""Bytes. After a smaller read, more have rarely arrived, and a splice(2) without result costs as much as an event."""
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_ERRORS_ONCE: Final = EPOLLONESHOT
_IDLE: Final = 30
_INTERVAL: Final = 10
_COUNT: Final = 6
"""Keepalive: an end that is silent for 30 seconds is probed, and reset after 60 more without an answer."""


class Spliced(NamedTuple):
    """The guest's part in the connections on the loopback path.

    Attributes:
        connections: how many the guest has not ended.
        undelivered: bytes from the guest that the host has not taken: those in pipes and in receive buffers.
        lost: bytes from the guest that sansnet had received when a connection was reset, from the start on.
    """

    connections: int
    undelivered: int
    lost: int


def reset(connection: SocketType) -> None:
    """Close with RST."""
    with suppress(OSError):  # the other side has reset it already
        reset_when_closed(connection)
    connection.close()


def _prepare(made: SocketType) -> None:
    prepare_accepted(made)
    keep_alive(made, _IDLE, _INTERVAL, _COUNT)


class _Pipe:
    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # beyond /proc/sys/fs/pipe-user-pages-soft pipes stay small
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class _End:
    """One connection of a splice, and the bytes from it that the other end has not taken yet."""

    __slots__ = (
        "broken",
        "connecting",
        "ended",
        "fallback",
        "fd",
        "held",
        "interest",
        "of_guest",
        "other",
        "pipe",
        "socket",
        "splices",
        "waits",
    )

    def __init__(self, splices: Splices, made: SocketType, *, of_guest: bool) -> None:
        self.splices = splices
        self.socket = made
        self.of_guest = of_guest
        self.fd = made.fileno()
        self.other: _End = self
        self.pipe: _Pipe | None = None
        self.held = 0
        self.waits = False  # for a pipe
        self.broken = False  # by a reset: it takes no bytes any more
        self.ended = False
        self.connecting = False
        self.fallback: Fallback | None = None
        self.interest = 0

    def ready(self, flags: int, now: float) -> None:
        if self.connecting:
            self._ready_connecting(flags)
            return
        if self.other.connecting:  # only a reset is reported now
            self.splices.abort(self)
            return
        try:
            if self.other.held and flags & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                self.other.move(now)
            if self._is_read() and flags & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self.move(now)
            elif flags & EPOLLERR and not self.held and (code := self.socket.getsockopt(SOL_SOCKET, SO_ERROR)):
                raise OSError(code, os.strerror(code))
        except OSError:
            self.splices.abort(self)
            return
        if self.ended and self.other.ended and not (self.held or self.other.held):
            self.splices.finish(self)
            return
        self.watch(flags)
        self.other.watch(0)

    def _ready_connecting(self, flags: int) -> None:
        failure = self.socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if failure == errno.ECONNREFUSED and self.fallback is not None:
            self.splices.connect_fallback(self, self.fallback)
        elif failure or flags & (EPOLLERR | EPOLLHUP):
            self.splices.abort(self)
        elif flags & EPOLLOUT:
            self.connecting = False
            self.watch(0)
            self.other.watch(0)

    def move(self, now: float) -> None:
        """Move bytes from this end to the other, as far as the other takes them."""
        for count in range(_MAX_ROUNDS):
            if not self.held and not self._fill(now, again=count > 0):
                return
            small = self.held < _SMALL
            self._empty()
            if self.held or small or self.other.broken:
                return

    def _fill(self, now: float, *, again: bool) -> bool:
        """Read bytes into a pipe; whether there were any. Unless `again`, the end is known to be readable."""
        try:
            pipe = self.pipe = self.splices.borrow()
        except OSError as error:
            if error.errno not in SHORTAGE:
                raise
            self.waits = True
            self.splices.wait(self._go_on, now)
            return False
        try:
            try:
                self.held = os.splice(self.fd, pipe.writer, _PIPE_SIZE, flags=_FLAGS)
            except BlockingIOError:
                if again:
                    raise
            if not self.held:
                self.held = os.write(pipe.writer, self.socket.recv(1))
        except BlockingIOError:
            return False
        finally:
            if not self.held:
                self._give_back()
        if not self.held:
            if self.broken:
                raise ConnectionResetError
            self.ended = True
            self._finish_other()
        return bool(self.held)

    def _empty(self) -> None:
        assert self.pipe is not None
        try:
            while self.held:
                self.held -= os.splice(self.pipe.reader, self.other.fd, self.held, flags=_FLAGS)
        except BlockingIOError:
            return
        except OSError:
            if self.other.ended or self.broken:
                raise
            self.drop()
            self.other.broken = True
            return
        self._give_back()

    def drop(self) -> None:
        """Give up the bytes that the other end has not taken."""
        if self.of_guest:
            self.splices.count_lost(self.undelivered())
        self.held = 0
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None

    def _is_read(self) -> bool:
        """Whether bytes are read from it when there are some."""
        return not (self.ended or self.held or self.waits or self.other.broken)

    def _go_on(self) -> None:
        self.waits = False
        if self in self.splices:
            self.watch(0)

    def _give_back(self) -> None:
        if self.pipe is not None:
            self.splices.give_back(self.pipe)
            self.pipe = None

    def _finish_other(self) -> None:
        with suppress(OSError):  # ENOTCONN: it was reset, which an event will report
            self.other.socket.shutdown(SHUT_WR)

    def is_open(self) -> bool:
        """Whether there may be more bytes for the other end."""
        return not (self.ended or self.other.broken)

    def undelivered(self) -> int:
        """How many received bytes the other end has not taken."""
        return self.held + self._queued(termios.FIONREAD) if self.is_open() else 0

    def kernel_sends_rest(self) -> bool:
        """Whether the other end has ended, and the kernel still has bytes from it to send here."""
        return self.other.ended and self._queued(termios.TIOCOUTQ) > 0

    def _queued(self, queue: int) -> int:
        """How many bytes a queue of the kernel has: those to read, or those that are not acknowledged."""
        return int.from_bytes(fcntl.ioctl(self.fd, queue, bytes(4)), sys.byteorder)

    def notice_end(self) -> None:
        """Pass a FIN on, if it is all that is left: its event may not have been handled yet."""
        if self.ended or self.held or self.other.connecting:
            return
        with suppress(OSError):  # it goes on, or was reset
            if not self.socket.recv(1, MSG_PEEK):
                self.ended = True
                self._finish_other()

    def watch(self, flags: int) -> None:
        """Watch for the events that can be handled now; `flags` were just reported."""
        readable = self._is_read() and not (self.other.connecting or self.connecting)
        interest = (EPOLLIN if readable else 0) | (EPOLLOUT if self.other.held or self.connecting else 0)
        reported = flags & (EPOLLERR | EPOLLHUP) or self.interest == _ERRORS_ONCE
        if reported and not interest and (self.held or self.waits):
            interest = _ERRORS_ONCE
        if interest != self.interest:
            self.interest = interest
            self.splices.poller.change(self.fd, interest)


class Splices:
    """All spliced connections of one driver.

    Args:
        context: the epoll set, and the reports of a shortage.

    Attributes:
        poller: the epoll set.
        waiting: the ends that wait for a pipe.
    """

    def __init__(self, context: SocketContext) -> None:
        self._context = context
        self.poller = context.poller
        self.waiting = DescriptorQueue(context.poller)
        self._ends: set[_End] = set()
        self._pipes: list[_Pipe] = []
        self._lost = 0

    def __len__(self) -> int:
        """The number of splices."""
        return len(self._ends) // 2

    def __contains__(self, end: _End) -> bool:
        """Whether this end is one of a splice."""
        return end in self._ends

    def peers(self) -> Iterator[bytes]:
        """The addresses to which the connections lead, on both sides."""
        for end in self._ends:
            with suppress(OSError):  # it is not connected yet, or not any more
                yield decode(end.socket.getpeername()).address

    def join(
        self,
        accepted: SocketType,
        connecting: SocketType,
        address: SocketAddress,
        fallback: Fallback | None = None,
        *,
        inbound: bool,
    ) -> None:
        """Connect a socket, and then move bytes between it and an accepted connection.

        This takes over both sockets. If they cannot be joined, both are closed, the accepted one with a reset.

        Args:
            accepted: the accepted connection, non-blocking.
            connecting: a new socket, non-blocking.
            address: address to connect it to.
            fallback: makes another socket if the connection is refused.
            inbound: whether the connection leads from the host to the guest.
        """
        one = _End(self, accepted, of_guest=not inbound)
        try:
            _prepare(accepted)
            self.poller.add(one.fd, 0, one.ready)
        except OSError:
            connecting.close()
            reset(accepted)
        except MemoryError:
            connecting.close()
            raise
        else:
            self._ends.add(one)
            self._connect(one, connecting, address, fallback)

    def connect_fallback(self, end: _End, fallback: Fallback) -> None:
        """Replace an end whose connection was refused by its fallback."""
        self._leave(end)
        self._fall_back(end.other, fallback)

    def _fall_back(self, one: _End, fallback: Fallback) -> None:
        try:
            connecting, address = fallback()
        except OSError:
            self._reset(one)
        except MemoryError:
            self._reset(one)
            raise
        else:
            self._connect(one, connecting, address, None)

    def _connect(self, one: _End, connecting: SocketType, address: SocketAddress, fallback: Fallback | None) -> None:
        """Connect a socket, which becomes the other end of an accepted connection."""
        other = _End(self, connecting, of_guest=not one.of_guest)
        one.other, other.other = other, one
        other.connecting = True
        other.fallback = fallback
        other.interest = EPOLLOUT
        try:
            _prepare(connecting)
            code = connecting.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self.poller.add(other.fd, EPOLLOUT, other.ready)
        except OSError as error:
            connecting.close()
            if error.errno == errno.ECONNREFUSED and fallback is not None:
                self._fall_back(one, fallback)
            else:
                self._reset(one)
        except MemoryError:
            connecting.close()
            self._reset(one)
            raise
        else:
            self._ends.add(other)

    def abort(self, end: _End) -> None:
        """Reset both connections, except for one to which the kernel still sends the last bytes, and FIN."""
        for one in (end, end.other):
            if one.kernel_sends_rest():
                self._leave(one)
            else:
                self._reset(one)

    def finish(self, end: _End) -> None:
        """Close both ends."""
        self._leave(end)
        self._leave(end.other)

    def _reset(self, end: _End) -> None:
        with suppress(OSError):  # the other side has reset it already
            reset_when_closed(end.socket)
        self._leave(end)

    def _leave(self, end: _End) -> None:
        end.drop()
        self._ends.discard(end)
        self.poller.retire(end.socket)

    def borrow(self) -> _Pipe:
        """Take an empty pipe from the pool, or make one.

        Raises:
            OSError: no descriptor is left.
        """
        return self._pipes.pop() if self._pipes else _Pipe()

    def wait(self, go_on: Callable[[], None], now: float) -> None:
        """Call `go_on` when there may be a pipe again."""
        self._context.report_shortage(now)
        self.waiting.wait(go_on, now)

    def give_back(self, pipe: _Pipe) -> None:
        """Return an empty pipe to the pool."""
        if len(self._pipes) < _SPARE_PIPES:
            self._pipes.append(pipe)
        else:
            pipe.close()
        self.waiting.go_on(1)

    def count_lost(self, count: int) -> None:
        """Count bytes from the guest that are given up."""
        self._lost += count

    def spliced(self) -> Spliced:
        """The guest's part. This asks the kernel about each connection that the guest has not ended."""
        ends = [end for end in self._ends if end.of_guest and not end.connecting and end.is_open()]
        return Spliced(len(ends), sum(end.undelivered() for end in ends), self._lost)

    def close(self) -> None:
        """Close all connections, and the pipes. Those whose other end has not sent a FIN are reset."""
        ends = list(self._ends)
        for end in ends:
            end.notice_end()
        for end in ends:
            if end.other.ended:
                self._leave(end)
            else:
                self._reset(end)
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
