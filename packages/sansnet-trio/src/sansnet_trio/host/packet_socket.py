"""The common part of UDP and ping sockets: waiting for packets, the error queue, and the options of sent packets."""

from __future__ import annotations

import errno
from collections.abc import Callable
from select import EPOLLERR, EPOLLIN
from socket import SO_ERROR, SOL_SOCKET, socket
from typing import Final, TypeAlias

from sansnet_core import Endpoint, ExtendedError
from sansnet_trio.host import errqueue
from sansnet_trio.host.errqueue import ORIGIN_LOCAL
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import set_fragment, set_tos, set_ttl

__all__ = ["ANCILLARY_SIZE", "NO_ROOM", "OnError", "OnReadable", "PacketOptions", "PacketSocket"]

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Errors of sending that mean the host has no room for the packet. It is dropped and counted, as by a router."""

ANCILLARY_SIZE: Final = 128
"""Room for the control messages of one received packet, in bytes: TTL, TOS, segment size and local address."""

OnReadable: TypeAlias = Callable[[float], None]
"""Called with the time of the batch."""

OnError: TypeAlias = Callable[[Endpoint | None, ExtendedError, bytes, float], None]
"""Called with the destination of the packet that failed, the error, the packet's payload as far as it is known, and the
time of the batch."""


class PacketOptions:
    """TTL, TOS and fragmentation of the packets that a socket sends.

    It remembers the options that it has set, so a packet with the same options costs no system call.

    Args:
        sock: the socket.
    """

    __slots__ = ("_family", "_may_fragment", "_socket", "_tos", "_ttl")

    def __init__(self, sock: socket) -> None:
        self._socket = sock
        self._family = sock.family
        self._ttl = self._tos = -1
        self._may_fragment: bool | None = None  # as in a new socket

    def set(self, ttl: int, tos: int, may_fragment: bool | None) -> None:
        """Use these options for the next packets.

        Args:
            ttl: TTL or hop limit.
            tos: TOS or traffic class.
            may_fragment: whether the packets may be sent in fragments; see `set_fragment`.

        Raises:
            OSError: the kernel refused one of them.
        """
        if ttl != self._ttl:
            set_ttl(self._socket, self._family, ttl)
            self._ttl = ttl
        if tos != self._tos:
            set_tos(self._socket, self._family, tos)
            self._tos = tos
        if may_fragment is not self._may_fragment:
            set_fragment(self._socket, self._family, may_fragment)
            self._may_fragment = may_fragment


class PacketSocket:
    """A UDP or ping socket in the epoll set.

    While the guest's link has no room, the socket is not read: see `SocketContext.blocked`.

    Args:
        context: the state that the sockets share.
        sock: the socket, with an error queue (IP_RECVERR).
        on_readable: called when a packet has arrived.
        on_error: called for each error of the queue that came from the network.

    Attributes:
        options: TTL, TOS and fragmentation of the packets that the socket sends.

    Raises:
        OSError: the epoll set has no room for it.
    """

    __slots__ = ("_context", "_fd", "_on_error", "_on_readable", "_socket", "options")

    def __init__(self, context: SocketContext, sock: socket, on_readable: OnReadable, on_error: OnError) -> None:
        self.options = PacketOptions(sock)
        self._context = context
        self._socket = sock
        self._fd = sock.fileno()
        self._on_readable = on_readable
        self._on_error = on_error
        context.poller.add(self._fd, EPOLLIN, self._ready)

    def read_errors(self, now: float) -> ExtendedError | None:
        """Read the error queue and pass the errors from the network to `on_error`.

        Returns:
            The error that this host's kernel queued for the packet just sent, if there is one.
        """
        reason = None
        for remote, error, data in errqueue.read(self._socket, self._context.scope):
            if error.origin == ORIGIN_LOCAL:
                reason = error  # on an unconnected socket it does not name the destination's port
            else:
                self._on_error(remote, error, data, now)
        return reason

    def leave(self) -> None:
        """Leave the epoll set. The socket stays open."""
        self._context.poller.remove(self._fd)
        self._fd = -1
        # These are methods of our owner: without them there is no reference cycle, so both are freed at once
        self._on_readable, self._on_error = _ignore_readable, _ignore_error

    def _ready(self, flags: int, now: float) -> None:
        if flags & EPOLLERR:
            self.read_errors(now)
            # Clear an error for which the queue had no room: epoll would report it again and again
            self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if flags & EPOLLIN:
            if self._context.blocked:
                self._context.poller.change(self._fd, 0)
                self._context.parked.append(self._resume)
            else:
                self._on_readable(now)

    def _resume(self) -> None:
        if self._fd >= 0:
            self._context.poller.change(self._fd, EPOLLIN)


def _ignore_readable(now: float) -> None:
    """After `leave` the socket is not read."""


def _ignore_error(remote: Endpoint | None, error: ExtendedError, data: bytes, now: float) -> None:
    """After `leave` no error is reported."""
