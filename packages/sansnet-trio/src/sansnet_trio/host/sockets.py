"""The host's sockets: they carry out the core's orders and report the results.

Theory of operation. `apply` carries out a batch of orders in sequence, except that data are collected per socket and
sent in one system call, at the end of the batch or before an order that must follow them. Results are reported to the
network at once, so carrying out orders may cause new orders; the driver takes orders until there are none.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from socket import SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SocketType
from typing import Any, Final, Protocol, TypeVar

from sansnet_core import (
    Buffer,
    CloseSocket,
    DecideFlow,
    DeliverDatagram,
    FailDatagram,
    KeepAlive,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Order,
    Refuse,
    ResumeStream,
    SendDatagram,
    SendEcho,
    SendStream,
    ServeStream,
    ShutdownStream,
    SocketId,
)
from sansnet_trio.host.datagrams import DatagramSocket, open_datagrams
from sansnet_trio.host.echoes import EchoSocket
from sansnet_trio.host.errqueue import local_error
from sansnet_trio.host.sockaddr import family_of
from sansnet_trio.host.socket_context import READ_AT_ONCE, SocketContext, Unread
from sansnet_trio.host.streams import Stream
from sansnet_trio.linux.descriptors import NO_DESCRIPTOR

__all__ = ["ALL_TURNS", "LINGER", "FlowDecisions", "HostSockets", "StreamOrders"]

_STREAM: Final = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC

LINGER: Final = 60.0
"""Seconds for which a stream that the core has closed may continue to send its data."""

ALL_TURNS: Final = 0.02
"""Seconds in which each stream with much data has its turn. Shorter turns would cost more processor time: what waits in
the kernel for other streams has left the caches of the processor when it is read."""

_SHED: Final = 8
"""One connection in so many is reset at once if memory stays short."""

_log: Final = logging.getLogger("sansnet")

T = TypeVar("T")


class StreamOrders(Protocol):
    """The orders that every stream carries out; see `Stream`."""

    def queue(self, data: Buffer) -> bool: ...

    def flush(self, now: float) -> None: ...

    def shutdown(self, now: float) -> None: ...

    def resume(self, now: float) -> None: ...

    def keep_alive(self, order: KeepAlive) -> None: ...

    def close(self, code: int = 0) -> bool: ...

    def abort(self, code: int = 0) -> None: ...

    def leave(self) -> None: ...


class FlowDecisions(Protocol):
    """Answers the network's questions about new flows; see `sansnet_trio.decisions`."""

    def ask(self, order: DecideFlow) -> None:
        """A new question."""

    def withdraw(self, socket: SocketId) -> None:
        """No verdict about this flow is needed any more; nothing to do if there is none."""


class HostSockets:
    """All host sockets of one network.

    Args:
        context: the state that the sockets share: the network, the epoll set and more.
        decisions: gets the questions about new flows; None refuses these flows.
    """

    def __init__(self, context: SocketContext, decisions: FlowDecisions | None = None) -> None:
        self._context = context
        self._streams: dict[SocketId, StreamOrders] = {}
        self._ends: set[SocketId] = set()  # those of `_streams` that are ends of the program, without a socket
        self._decisions = decisions
        self._connecting: dict[SocketId, Stream] = {}  # a part of `_streams`; the oldest first
        self._datagrams: dict[SocketId, DatagramSocket] = {}
        self._unopened: dict[SocketId, OpenDatagram] = {}
        self._echoes: dict[SocketId, EchoSocket] = {}
        self._unopened_echoes: dict[SocketId, OpenEcho] = {}
        # Deadlines of the streams that the core closed, but that have data to send; the earliest first
        self._lingering: dict[SocketId, float] = {}
        self._unsent: list[StreamOrders | DatagramSocket] = []
        self._ending: list[StreamOrders] = []
        self._reading: Unread | None = None  # whose turn it is, and until when
        self._read_until = 0.0
        self._warned = False
        self._close_other: Callable[[CloseSocket, float], None] | None = None
        self._execute: dict[type[Order], Callable[[Any, float], None]] = {
            SendStream: self._send_stream,
            SendDatagram: self._send_datagram,
            OpenStream: self._open_stream,
            ShutdownStream: self._shutdown_stream,
            ResumeStream: self._resume_stream,
            KeepAlive: self._keep_alive,
            CloseSocket: self._close_socket,
            DecideFlow: self._decide_flow,
            OpenDatagram: self._open_datagram,
            OpenEcho: self._open_echo,
            SendEcho: self._send_echo,
        }

    def __len__(self) -> int:
        """Number of open sockets."""
        return len(self._streams) - len(self._ends) + len(self._datagrams) + len(self._echoes)

    def apply(self, orders: Iterable[Order], now: float) -> None:
        """Carry out orders. Failures of the host are reported to the network, and no exception is raised.

        Raises:
            MemoryError: there is too little memory. The flows of some orders have failed; the others are carried out.
        """
        execute, failed = self._execute, False
        for order in orders:
            try:
                execute[type(order)](order, now)
            except MemoryError:
                failed = True
                self._lose(order, now)
        unsent = self._unsent
        if unsent:
            for socket in unsent:
                try:
                    socket.flush(now)
                except MemoryError:
                    failed = True
            unsent.clear()
        if self._ending:
            for stream in self._ending:
                try:
                    stream.shutdown(now)
                except MemoryError:
                    failed = True
            self._ending.clear()
        if failed:
            raise MemoryError

    def _lose(self, order: Order, now: float) -> None:
        """End the flow of an order that there was no memory for. Datagrams and echo requests are lost."""
        network = self._context.network
        if isinstance(order, (OpenDatagram, OpenEcho)):
            unopened: dict[SocketId, Any] = self._unopened if isinstance(order, OpenDatagram) else self._unopened_echoes
            unopened[order.socket] = order  # opened with its first packet
        elif isinstance(order, DecideFlow):
            network.flow_decided(order.socket, Refuse(), now)
        elif (stream := self._streams.get(order.socket)) is not None:
            stream.abort(errno.ENOMEM)  # its data would have a gap
            self.forget(order.socket)
            network.stream_failed(order.socket, errno.ENOMEM, None, now)
        elif isinstance(order, (OpenStream, ServeStream)):
            network.stream_failed(order.socket, errno.ENOMEM, None, now)

    def adopt_stream(self, socket: SocketId, accepted: SocketType, now: float) -> None:
        """Serve a connection that a listener accepted and that the network has named.

        Raises:
            MemoryError: the failure was reported to the network, and the socket is still to be closed.
        """
        try:
            stream = Stream(self._context, socket, self)
            stream.adopt(accepted, now)
            if not stream.closed:
                self._streams[socket] = stream
        except MemoryError:
            self._context.network.stream_failed(socket, errno.ENOMEM, None, now)
            raise

    def serve_program(
        self,
        serve: Callable[[ServeStream, float], None],
        deliver: Callable[[DeliverDatagram, float], None],
        fail: Callable[[FailDatagram, float], None],
        close: Callable[[CloseSocket, float], None],
    ) -> None:
        """Hand over the orders for the program from now on, and those to close what is no socket of the host."""
        self._execute[ServeStream] = serve
        self._execute[DeliverDatagram] = deliver
        self._execute[FailDatagram] = fail
        self._close_other = close

    def adopt_end(self, socket: SocketId, end: StreamOrders) -> None:
        """Carry out the orders for a connection whose other end is the program."""
        self._streams[socket] = end
        self._ends.add(socket)

    def adopt_datagrams(self, socket: SocketId, datagrams: DatagramSocket) -> None:
        """Use a socket of a listener for the orders with this name."""
        self._datagrams[socket] = datagrams

    def release_datagrams(self, socket: SocketId) -> None:
        """Close such a socket, because its listener ends."""
        if (datagrams := self._datagrams.pop(socket, None)) is not None:
            datagrams.close()

    def unpark(self) -> None:
        """Let the sockets and listeners go on that waited until the guest's link has room."""
        parked, self._context.parked = self._context.parked, []
        for resume in parked:
            resume()

    def read_unread(self, now: float) -> None:
        """Read the streams that may hold data which no event will report, by turns and as much as one round may.

        Call this once in each round, not between taking events from the epoll set and handling them.
        """
        context = self._context
        context.allowance = READ_AT_ONCE
        unread = context.unread
        while unread and context.allowance > 0 and not context.blocked:
            stream = unread.pop(0)
            if stream is not self._reading:
                self._reading, self._read_until = stream, now + ALL_TURNS / (len(unread) + 1)
            stream.read(now)
            if now < self._read_until and unread and unread[-1] is stream:
                unread.insert(0, unread.pop())  # its turn goes on
        if not unread:
            self._reading = None  # do not keep it: it may be closed by now
        context.allowance = READ_AT_ONCE

    def report_again(self) -> None:
        """Have the kernel report all events of the streams again, because some may have been lost."""
        for stream in self._streams.values():
            if isinstance(stream, Stream):
                stream.report_again()

    def make_room(self, now: float) -> bool:
        """Free a descriptor when none is left: abort the oldest connection attempt.

        The guest repeats its SYN if it still needs the connection.

        Returns:
            Whether there was such an attempt.
        """
        self._context.report_shortage(now)
        for stream in self._connecting.values():
            stream.fail_for_room(now)
            return True
        return False

    def _with_room(self, make: Callable[[], T], now: float) -> T:
        """Create something that needs a descriptor; if none is left, free one and try again."""
        try:
            return make()
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR or not self.make_room(now):
                raise
        return make()

    def shed(self, now: float) -> None:
        """Reset some connections, because there is no memory for all of them: those that hold most data."""
        held = self._context.network.stream_unacknowledged
        streams = [(held(name) + one.held, name, one) for name, one in self._streams.items() if isinstance(one, Stream)]
        streams.sort(key=itemgetter(0), reverse=True)
        for _, _, stream in streams[: len(streams) // _SHED + 1]:
            stream.fail_for_memory(now)

    def next_deadline(self) -> float | None:
        """The time when `handle_deadline` must be called; None if it need not be."""
        return next(iter(self._lingering.values())) if self._lingering else None

    def handle_deadline(self, now: float) -> None:
        """Abort the streams that have sent for too long after the core closed them."""
        for socket in [socket for socket, deadline in self._lingering.items() if deadline <= now]:
            self._streams[socket].abort()
            self.forget(socket)

    def close(self) -> None:
        """Close all sockets. Connections that have not ended are reset."""
        for stream in list(self._streams.values()):
            stream.leave()
        for datagrams in self._datagrams.values():
            datagrams.close()
        for echoes in self._echoes.values():
            echoes.close()
        self._streams.clear()
        self._ends.clear()
        self._connecting.clear()
        self._datagrams.clear()
        self._echoes.clear()
        self._lingering.clear()

    # streams

    def _open_stream(self, order: OpenStream, now: float) -> None:
        family = family_of(order.remote.address)
        try:
            made = self._with_room(partial(SocketType, family, _STREAM), now)
        except OSError as error:
            self._context.network.stream_failed(order.socket, error.errno or errno.EIO, None, now)
            return
        try:
            stream = Stream(self._context, order.socket, self)
            stream.connect(made, family, order, now)
            if not stream.closed:
                self._streams[order.socket] = self._connecting[order.socket] = stream
        except MemoryError:
            self.forget(order.socket)
            made.close()
            raise

    def note_connected(self, socket: SocketId) -> None:
        """See `StreamOwner`."""
        del self._connecting[socket]

    def forget(self, socket: SocketId) -> None:
        """Carry out no more orders for a stream."""
        self._streams.pop(socket, None)
        self._ends.discard(socket)
        self._connecting.pop(socket, None)
        self._lingering.pop(socket, None)

    def _send_stream(self, order: SendStream, now: float) -> None:
        stream = self._streams.get(order.socket)
        if stream is not None and stream.queue(order.data):
            self._unsent.append(stream)

    def _shutdown_stream(self, order: ShutdownStream, now: float) -> None:
        stream = self._streams.get(order.socket)
        if stream is None:
            return
        if order.socket in self._ends:
            stream.shutdown(now)
        else:
            self._ending.append(stream)  # not now: to close the stream, which may follow, ends it too

    def _resume_stream(self, order: ResumeStream, now: float) -> None:
        if (stream := self._streams.get(order.socket)) is not None:
            stream.resume(now)

    def _keep_alive(self, order: KeepAlive, now: float) -> None:
        if order.socket in self._streams:
            self._streams[order.socket].keep_alive(order)

    # all kinds

    def _close_socket(self, order: CloseSocket, now: float) -> None:
        socket = order.socket
        if (stream := self._streams.get(socket)) is not None:
            if order.abort:
                stream.abort(order.errno)
                self.forget(socket)
            else:
                stream.flush(now)
                if stream.close(order.errno):
                    self._lingering[socket] = now + LINGER
                else:
                    self.forget(socket)
            return
        if (datagrams := self._datagrams.pop(socket, None)) is not None:
            datagrams.flush(now)
            datagrams.close()
        elif (echoes := self._echoes.pop(socket, None)) is not None:
            echoes.close()
        else:
            if self._decisions is not None:
                self._decisions.withdraw(socket)
            if self._close_other is not None:
                self._close_other(order, now)
        self._unopened.pop(socket, None)
        self._unopened_echoes.pop(socket, None)

    def _decide_flow(self, order: DecideFlow, now: float) -> None:
        if self._decisions is None:
            self._context.network.flow_decided(order.socket, Refuse(), now)
        else:
            self._decisions.ask(order)

    # datagrams

    def _open_datagram(self, order: OpenDatagram, now: float) -> None:
        try:
            self._datagrams[order.socket] = self._with_room(partial(self._make_datagrams, order), now)
        except OSError:
            # Reported for the first datagram, which has a destination; by then a descriptor may be free
            self._unopened[order.socket] = order

    def _make_datagrams(self, order: OpenDatagram) -> DatagramSocket:
        made = open_datagrams(self._context, order)
        try:
            return DatagramSocket(self._context, order.socket, made)
        except BaseException:
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
            self._unopened_echoes[order.socket] = order  # reported for the first request, as for datagrams

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
                    "the guest cannot ping: this host allows no group of this process to open ping sockets; "
                    'as root, run: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
                )
            extended = local_error(error)
            self._context.network.echo_failed(order.socket, order.sequence, extended, bytes(order.data), now)
            return None
        del self._unopened_echoes[order.socket]
        self._echoes[order.socket] = socket
        return socket
