"""The common part of UDP and ping sockets: waiting for packets, the error queue, and the options of sent packets."""

from __future__ import annotations

import errno
from select import EPOLLERR, EPOLLIN
from socket import SO_ERROR, SOL_SOCKET, socket
from typing import Final

from sansnet_core import Endpoint, ExtendedError
from sansnet_core.mypyc import mypyc_attr
from sansnet_trio.host import errqueue
from sansnet_trio.host.errqueue import ORIGIN_LOCAL
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import set_fragment, set_tos, set_ttl

__all__ = ["ANCILLARY_SIZE", "NO_ROOM", "PacketSocket"]

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Errors of sending that mean the host has no room for the packet. It is dropped and counted, as by a router."""

ANCILLARY_SIZE: Final = 128
"""Room for the control messages of one received packet, in bytes: TTL, TOS, segment size and local address."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketSocket:
    """Base class of a UDP or ping socket in the epoll set, where it is its own handler.

    A guest can have thousands of them, so each is one object without references to its own methods. It remembers the
    options that it has set, so a packet with the same options costs no system call.

    While the guest's link has no room, the socket is not read: see `SocketContext.blocked`.

    Args:
        context: the state that the sockets share.
        sock: the socket, with an error queue (IP_RECVERR).

    Raises:
        OSError: the epoll set has no room for it.
    """

    __slots__ = ("_context", "_fd", "_may_fragment", "_socket", "_tos", "_ttl")

    def __init__(self, context: SocketContext, sock: socket) -> None:
        self._context = context
        self._socket = sock
        self._fd = sock.fileno()
        self._ttl = self._tos = -1
        self._may_fragment: bool | None = None  # as in a new socket
        context.poller.add(self._fd, EPOLLIN, self)

    def receive(self, now: float) -> None:
        """Read the packets that have arrived; `now` is the time of the batch."""
        raise NotImplementedError

    def failed(self, remote: Endpoint | None, error: ExtendedError, data: bytes, now: float) -> None:
        """Report an error of the queue that came from the network.

        Args:
            remote: the destination of the packet that failed.
            error: why.
            data: the packet's payload as far as it is known.
            now: the time of the batch.
        """
        raise NotImplementedError

    def set_options(self, ttl: int, tos: int, may_fragment: bool | None) -> None:
        """Set the options of the next packets.

        Args:
            ttl: TTL or hop limit.
            tos: TOS or traffic class.
            may_fragment: whether the packets may be sent in fragments; see `set_fragment`.

        Raises:
            OSError: the kernel refused one of them.
        """
        if ttl == self._ttl and tos == self._tos and may_fragment is self._may_fragment:
            return
        family = self._socket.family
        if ttl != self._ttl:
            set_ttl(self._socket, family, ttl)
            self._ttl = ttl
        if tos != self._tos:
            set_tos(self._socket, family, tos)
            self._tos = tos
        if may_fragment is not self._may_fragment:
            set_fragment(self._socket, family, may_fragment)
            self._may_fragment = may_fragment

    def read_errors(self, now: float) -> ExtendedError | None:
        """Read the error queue and report the errors from the network.

        Returns:
            The error that this host's kernel queued for the packet just sent, if there is one.
        """
        reason = None
        for remote, error, data in errqueue.read(self._socket, self._context.scope):
            if error.origin == ORIGIN_LOCAL:
                reason = error  # on an unconnected socket it does not name the destination's port
            else:
                self.failed(remote, error, data, now)
        return reason

    def leave(self) -> None:
        """Leave the epoll set. The socket stays open."""
        self._context.poller.remove(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Leave the epoll set, and close the socket."""
        self._context.poller.retire(self._socket)
        self._fd = -1

    def __call__(self, flags: int, now: float) -> None:
        """Handle events; see `Handler`."""
        if flags & EPOLLERR:
            self.read_errors(now)
            # Clear an error for which the queue had no room: epoll would report it again and again
            self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if flags & EPOLLIN:
            if self._context.blocked:
                self._context.poller.change(self._fd, 0)
                self._context.parked.append(self._resume)
            else:
                self.receive(now)

    def _resume(self) -> None:
        if self._fd >= 0:
            self._context.poller.change(self._fd, EPOLLIN)
