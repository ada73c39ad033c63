"""The host's sockets: carries out the core's orders and reports what comes of them.

Theory of operation. `apply` executes a batch of orders in their sequence, but for data: those are gathered by socket
and leave in one system call each, at the end of the batch or before an order that must come after them. Reports go to
the network at once, so that carrying out orders may cause new ones; the driver asks for them until there are none.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from functools import partial
from socket import SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM
from socket import socket as Socket
from typing import Any, Final, TypeVar

from sansnet_core import (
    CloseSocket,
    KeepAlive,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Order,
    ResumeStream,
    SendDatagram,
    SendEcho,
    SendStream,
    ShutdownStream,
    SocketId,
)
from sansnet_trio.host.datagrams import DatagramSocket, open_datagrams
from sansnet_trio.host.echoes import EchoSocket
from sansnet_trio.host.errqueue import local_error
from sansnet_trio.host.sockaddr import family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.streams import Stream
from sansnet_trio.linux.descriptors import NO_DESCRIPTOR

__all__ = ["LINGER", "HostSockets"]

LINGER: Final = 60.0
"""Seconds for which a stream that the core closed may go on sending what it was given."""

_log: Final = logging.getLogger("sansnet")

T = TypeVar("T")


class HostSockets:
    """All host sockets of one network.

    Args:
        context: the network, the epoll set and what else sockets share.
    """

    def __init__(self, context: SocketContext) -> None:
        self._context = context
        self._streams: dict[SocketId, Stream] = {}
        self._connecting: dict[SocketId, Stream] = {}  # of those, the oldest first
        self._datagrams: dict[SocketId, DatagramSocket] = {}
        self._unopened: dict[SocketId, OpenDatagram] = {}
        self._echoes: dict[SocketId, EchoSocket] = {}
        self._unopened_echoes: dict[SocketId, OpenEcho] = {}
        self._lingering: dict[SocketId, float] = {}  # closed by the core, but with data to send; deadlines, in order
        self._unsent: list[Stream | DatagramSocket] = []
        self._warned = False
        self._execute: dict[type[Order], Callable[[Any, float], None]] = {
            SendStream: self._send_stream,
            SendDatagram: self._send_datagram,
            OpenStream: self._open_stream,
            ShutdownStream: self._shutdown_stream,
            ResumeStream: self._resume_stream,
            KeepAlive: self._keep_alive,
            CloseSocket: self._close_socket,
            OpenDatagram: self._open_datagram,
            OpenEcho: self._open_echo,
            SendEcho: self._send_echo,
        }

    def __len__(self) -> int:
        """How many sockets are open."""
        return len(self._streams) + len(self._datagrams) + len(self._echoes)

    def apply(self, orders: Iterable[Order], now: float) -> None:
        """Carry out orders. What the host refuses is reported to the network; nothing is raised."""
        execute = self._execute
        for order in orders:
            execute[type(order)](order, now)
        unsent = self._unsent
        if unsent:
            for socket in unsent:
                socket.flush(now)
            unsent.clear()

    def adopt_stream(self, socket: SocketId, accepted: Socket, now: float) -> None:
        """Serve a connection that somebody made to the host and that the network has given a name."""
        stream = Stream(self._context, socket, accepted.family, self._note_connected, self._forget)
        stream.adopt(accepted, now)
        if not stream.closed:
            self._streams[socket] = stream

    def adopt_datagrams(self, socket: SocketId, datagrams: DatagramSocket) -> None:
        """Have a socket obey the orders for this name."""
        self._datagrams[socket] = datagrams

    def release_datagrams(self, socket: SocketId) -> None:
        """Close such a socket, which is there no more."""
        if (datagrams := self._datagrams.pop(socket, None)) is not None:
            datagrams.close()

    def unpark(self) -> None:
        """The guest's link has room again: read the sockets that waited for it."""
        parked, self._context.parked = self._context.parked, []
        for resume in parked:
            resume()

    def make_room(self, now: float) -> bool:
        """No descriptor is left: give up the connect that has waited longest, if there is one, and say whether.

        The guest repeats its SYN if it still wants the connection.
        """
        self._context.report_shortage(now)
        for stream in self._connecting.values():
            stream.give_way(now)
            return True
        return False

    def _with_room(self, make: Callable[[], T], now: float) -> T:
        """Make something that takes a descriptor, for which room is made where there is none left."""
        try:
            return make()
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR or not self.make_room(now):
                raise
        return make()

    def next_deadline(self) -> float | None:
        """When `handle_deadline` must be called."""
        return next(iter(self._lingering.values())) if self._lingering else None

    def handle_deadline(self, now: float) -> None:
        """Give up streams that were closed too long ago."""
        for socket in [socket for socket, deadline in self._lingering.items() if deadline <= now]:
            self._streams[socket].abort()
            self._forget(socket)

    def close(self) -> None:
        """Close all sockets. Connections that are not over are reset."""
        for stream in self._streams.values():
            stream.leave()
        for datagrams in self._datagrams.values():
            datagrams.close()
        for echoes in self._echoes.values():
            echoes.close()
        self._streams.clear()
        self._connecting.clear()
        self._datagrams.clear()
        self._echoes.clear()
        self._lingering.clear()

    # streams

    def _open_stream(self, order: OpenStream, now: float) -> None:
        family = family_of(order.remote.address)
        try:
            made = self._with_room(partial(Socket, family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC), now)
        except OSError as error:
            self._context.network.stream_failed(order.socket, error.errno or errno.EIO, None, now)
            return
        stream = Stream(self._context, order.socket, family, self._note_connected, self._forget)
        stream.connect(made, order, now)
        if not stream.closed:
            self._streams[order.socket] = self._connecting[order.socket] = stream

    def _note_connected(self, socket: SocketId) -> None:
        del self._connecting[socket]

    def _forget(self, socket: SocketId) -> None:
        self._streams.pop(socket, None)
        self._connecting.pop(socket, None)
        self._lingering.pop(socket, None)

    def _send_stream(self, order: SendStream, now: float) -> None:
        stream = self._streams.get(order.socket)
        if stream is not None and stream.queue(order.data):
            self._unsent.append(stream)

    def _shutdown_stream(self, order: ShutdownStream, now: float) -> None:
        if order.socket in self._streams:
            self._streams[order.socket].shutdown(now)

    def _resume_stream(self, order: ResumeStream, now: float) -> None:
        if order.socket in self._streams:
            self._streams[order.socket].resume()

    def _keep_alive(self, order: KeepAlive, now: float) -> None:
        if order.socket in self._streams:
            self._streams[order.socket].keep_alive(order)

    # all kinds

    def _close_socket(self, order: CloseSocket, now: float) -> None:
        socket = order.socket
        if (stream := self._streams.get(socket)) is not None:
            if order.abort:
                stream.abort()
                self._forget(socket)
            else:
                stream.flush(now)
                if stream.close():
                    self._lingering[socket] = now + LINGER
                else:
                    self._forget(socket)
        elif (datagrams := self._datagrams.pop(socket, None)) is not None:
            datagrams.flush(now)
            datagrams.close()
        elif (echoes := self._echoes.pop(socket, None)) is not None:
            echoes.close()
        self._unopened.pop(socket, None)
        self._unopened_echoes.pop(socket, None)

    # datagrams

    def _open_datagram(self, order: OpenDatagram, now: float) -> None:
        try:
            self._datagrams[order.socket] = self._with_room(partial(self._make_datagrams, order), now)
        except OSError:
            # Reported for the first datagram, when it is known whom it was for; by then there may be a descriptor.
            self._unopened[order.socket] = order

    def _make_datagrams(self, order: OpenDatagram) -> DatagramSocket:
        made = open_datagrams(self._context, order)
        try:
            return DatagramSocket(self._context, order.socket, made)
        except OSError:
            made.close()
            raise

    def _send_datagram(self, order: SendDatagram, now: float) -> None:
        socket = self._datagrams.get(order.socket) or self._open_late(order, now)
        if socket is not None and socket.queue(order, now):
            self._unsent.append(socket)

    def _open_late(self, order: SendDatagram, now: float) -> DatagramSocket | None:
        if order.socket not in self._unopened:
            return None
        try:
            socket = self._with_room(partial(self._make_datagrams, self._unopened[order.socket]), now)
        except OSError as error:
            extended = local_error(error)
            self._context.network.datagram_failed(order.socket, order.remote, extended, bytes(order.data), now)
            return None
        del self._unopened[order.socket]
        self._datagrams[order.socket] = socket
        return socket

    # echoes

    def _open_echo(self, order: OpenEcho, now: float) -> None:
        try:
            self._echoes[order.socket] = self._with_room(partial(EchoSocket, self._context, order), now)
        except OSError:
            self._unopened_echoes[order.socket] = order  # reported for the first request, as with datagrams

    def _send_echo(self, order: SendEcho, now: float) -> None:
        socket = self._echoes.get(order.socket) or self._open_echo_late(order, now)
        if socket is not None:
            socket.send(order, now)

    def _open_echo_late(self, order: SendEcho, now: float) -> EchoSocket | None:
        if order.socket not in self._unopened_echoes:
            return None
        try:
            socket = self._with_room(partial(EchoSocket, self._context, self._unopened_echoes[order.socket]), now)
        except OSError as error:
            if error.errno == errno.EACCES and not self._warned:
                self._warned = True
                _log.warning(
                    "the guest cannot ping: this host allows ping sockets to no group of this process; "
                    'as root, run: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
                )
            extended = local_error(error)
            self._context.network.echo_failed(order.socket, order.sequence, extended, bytes(order.data), now)
            return None
        del self._unopened_echoes[order.socket]
        self._echoes[order.socket] = socket
        return socket
