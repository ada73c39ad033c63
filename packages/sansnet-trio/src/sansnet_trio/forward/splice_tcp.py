"""TCP from loopback to loopback: two connections whose bytes the kernel moves from one to the other (splice(2)).

Theory of operation. A splice is two ends, of which one was accepted and the other is connecting or connected. What one
end receives goes through a pipe into the other end. The pipe is empty between two events, but where an end takes no
more: then it keeps what it holds, the other end is not read, and the sender's window closes as over a direct
connection. So a pipe is needed only while bytes are on their way, and all splices borrow theirs from one pool. An idle
connection has none; it costs two descriptors.

Each end that said FIN has the other one say FIN, once the pipe is empty. A reset, or an end that could not be
connected, resets the other one. EPOLLHUP and EPOLLERR cannot be turned off but by EPOLLONESHOT, so an end that reports
them while nothing can be done about it (its last bytes wait for the other end) is deaf until something can.

At a byte that is marked urgent splice(2) stops for good, as if there were no more or even an end. So where a readable
end gives nothing, one byte is read and written: the mark is lost, but nothing else.

A keepalive of a program ends at our end of its connection, and cannot be seen. So both ends of every splice have one,
in case a connection over loopback ceases without a FIN or a reset, as when a filter drops packets.

A program that knows its service as localhost tries ::1 first, and our acceptance keeps it from trying 127.0.0.1, where
many services listen alone. So an end that is refused may have a second place to be connected to.

An event at one end may close the other one as well, so ends are not closed but retired (`Poller.retire`).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT
from socket import SHUT_WR, SO_ERROR, SOL_SOCKET, socket
from typing import Final, TypeAlias

from sansnet_trio.host.poller import Poller
from sansnet_trio.host.sockaddr import SocketAddress
from sansnet_trio.host.sockopts import keep_alive, prepare_accepted, reset_when_closed

__all__ = ["Fallback", "Splices", "reset"]

Fallback: TypeAlias = Callable[[], tuple[socket, SocketAddress]]
"""Makes a new socket, and says where to connect it; or raises OSError."""

_PIPE_SIZE: Final = 1 << 20
"""Bytes; what /proc/sys/fs/pipe-max-size allows to everybody by default."""
_SPARE_PIPES: Final = 4
_MAX_ROUNDS: Final = 2
"""Times that a pipe is filled and emptied for one event; what is left is reported again."""
_SMALL: Final = 1 << 16
"""Bytes; after fewer there are hardly more already, and to ask in vain costs as much as to be told."""
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_ERRORS_ONCE: Final = EPOLLONESHOT
_IDLE: Final = 30
_INTERVAL: Final = 10
_COUNT: Final = 6
"""Of the keepalive: an end that is silent for 30 seconds is asked, and reset after 60 more without an answer."""


def reset(connection: socket) -> None:
    """Close with RST."""
    with suppress(OSError):  # reset by the other side already
        reset_when_closed(connection)
    connection.close()


class _Pipe:
    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # beyond /proc/sys/fs/pipe-user-pages-soft there are small ones only
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class _End:
    """One connection of a splice, and what it sent that the other one did not take yet."""

    __slots__ = ("connecting", "ended", "fallback", "fd", "held", "interest", "other", "pipe", "socket", "splices")

    def __init__(self, splices: Splices, made: socket) -> None:
        self.splices = splices
        self.socket = made
        self.fd = made.fileno()
        self.other: _End = self
        self.pipe: _Pipe | None = None
        self.held = 0
        self.ended = False
        self.connecting = False
        self.fallback: Fallback | None = None
        self.interest = 0

    def ready(self, flags: int, now: float) -> None:
        if self.connecting:
            self._ready_connecting(flags)
            return
        if self.other.connecting:  # all that is reported now is that it was reset
            self.splices.abort(self)
            return
        try:
            if self.other.held and flags & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                self.other.move()
            if not (self.ended or self.held) and flags & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self.move()
            elif flags & EPOLLERR and not self.held and (code := self.socket.getsockopt(SOL_SOCKET, SO_ERROR)):
                raise OSError(code, os.strerror(code))
        except OSError:
            self.splices.abort(self)
            return
        if self.ended and self.other.ended and not (self.held or self.other.held):
            self.splices.finish(self)
            return
        self.report(flags)
        self.other.report(0)

    def _ready_connecting(self, flags: int) -> None:
        failure = self.socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if failure == errno.ECONNREFUSED and self.fallback is not None:
            self.splices.connect_fallback(self, self.fallback)
        elif failure or flags & (EPOLLERR | EPOLLHUP):
            self.splices.abort(self)
        elif flags & EPOLLOUT:
            self.connecting = False
            self.report(0)
            self.other.report(0)

    def move(self) -> None:
        """Have the other end take what this one sent, as far as it does."""
        for count in range(_MAX_ROUNDS):
            if not self.held and not self._fill(again=count > 0):
                return
            small = self.held < _SMALL
            self._empty()
            if self.held or small:
                return

    def _fill(self, *, again: bool) -> bool:
        """Take bytes into a pipe; whether there were some. If not `again`, the end is readable by all that is known."""
        pipe = self.pipe = self.splices.borrow()
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
        self._give_back()

    def _give_back(self) -> None:
        if self.pipe is not None:
            self.splices.give_back(self.pipe)
            self.pipe = None

    def _finish_other(self) -> None:
        with suppress(OSError):  # ENOTCONN: reset; that is on its way as an event
            self.other.socket.shutdown(SHUT_WR)

    def report(self, flags: int) -> None:
        """Have the epoll set report what can be worked on; `flags` are what it has just reported."""
        readable = not (self.ended or self.held or self.other.connecting or self.connecting)
        interest = (EPOLLIN if readable else 0) | (EPOLLOUT if self.other.held or self.connecting else 0)
        if self.held and not interest and (flags & (EPOLLERR | EPOLLHUP) or self.interest == _ERRORS_ONCE):
            interest = _ERRORS_ONCE
        if interest != self.interest:
            self.interest = interest
            self.splices.poller.change(self.fd, interest)


class Splices:
    """All spliced connections of one driver.

    Args:
        poller: the epoll set.
    """

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self._ends: set[_End] = set()
        self._pipes: list[_Pipe] = []

    def __len__(self) -> int:
        """How many connections there are, each of them with two ends."""
        return len(self._ends) // 2

    def join(
        self, accepted: socket, connecting: socket, address: SocketAddress, fallback: Fallback | None = None
    ) -> None:
        """Connect one socket, and from then on move bytes between it and the other one, which is connected.

        Both are owned by this from now on. If they cannot be joined both are closed, the accepted one with a reset.

        Args:
            accepted: non-blocking.
            connecting: likewise, a new one.
            address: where to connect it.
            fallback: where to connect another one if this one is refused; None is nowhere.
        """
        one, other = _End(self, accepted), _End(self, connecting)
        one.other, other.other = other, one
        other.connecting = True
        other.fallback = fallback
        try:
            for made in (accepted, connecting):
                prepare_accepted(made)
                keep_alive(made, _IDLE, _INTERVAL, _COUNT)
            code = connecting.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            other.interest = EPOLLOUT
            self.poller.add(other.fd, EPOLLOUT, other.ready)
            try:
                self.poller.add(one.fd, 0, one.ready)
            except OSError:
                self.poller.remove(other.fd)
                raise
        except OSError as error:
            connecting.close()
            if error.errno == errno.ECONNREFUSED and fallback is not None:
                self._join_fallback(accepted, fallback)
            else:
                reset(accepted)
            return
        self._ends |= {one, other}

    def connect_fallback(self, end: _End, fallback: Fallback) -> None:
        """Give up an end that was refused, and join the one that was accepted to another."""
        one = end.other
        self._ends -= {one, end}
        self.poller.retire(end.socket)
        self.poller.remove(one.fd)
        self._join_fallback(one.socket, fallback)

    def _join_fallback(self, accepted: socket, fallback: Fallback) -> None:
        try:
            connecting, address = fallback()
        except OSError:
            reset(accepted)
            return
        self.join(accepted, connecting, address)

    def abort(self, end: _End) -> None:
        """Reset both connections."""
        for each in (end, end.other):
            with suppress(OSError):
                reset_when_closed(each.socket)
            if each.pipe is not None:
                each.pipe.close()  # it holds bytes that nobody wants
                each.pipe = None
        self.finish(end)

    def finish(self, end: _End) -> None:
        """Close both ends."""
        for each in (end, end.other):
            self._ends.discard(each)
            self.poller.retire(each.socket)

    def borrow(self) -> _Pipe:
        """An empty pipe.

        Raises:
            OSError: there is no descriptor left.
        """
        return self._pipes.pop() if self._pipes else _Pipe()

    def give_back(self, pipe: _Pipe) -> None:
        """A pipe that is empty again."""
        if len(self._pipes) < _SPARE_PIPES:
            self._pipes.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        """Reset all connections, and close the pipes."""
        while self._ends:
            self.abort(next(iter(self._ends)))
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
