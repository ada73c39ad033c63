"""UDP sockets of the host. They are unconnected; each serves one endpoint of the guest, or one forwarded port.

Theory of operation. Datagrams of one batch with equal destination, TTL, TOS and size are collected in `_run` and sent
by one `sendmsg` with UDP_SEGMENT; only the last of them may be shorter. Segments must fit the route's MTU, so
`_segment_limit` remembers the smallest size that the kernel refused. Datagrams of that size or more are collected, too,
and sent one by one: each takes the kernel so long that all other code has left the processor's caches meanwhile.

A system call on a UDP socket may fail with the error of an *earlier* packet and then does nothing. So after a failure
the error queue is read first; unless the queue says that this very packet failed, the call is tried once more.

If the kernel refuses to send a datagram, that is reported once per batch and destination, and similar datagrams are
dropped: a guest must not be able to use up our processor time with datagrams that cannot be sent.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from socket import SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket
from typing import Final, TypeAlias

from sansnet_core import Buffer, Endpoint, ExtendedError, OpenDatagram, SendDatagram, SocketId
from sansnet_trio.host.errqueue import local_error
from sansnet_trio.host.packet_socket import ANCILLARY_SIZE, NO_ROOM, PacketSocket
from sansnet_trio.host.sockaddr import decode, encode, encode_once, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import (
    MAX_SEGMENTS,
    NO_RUNS,
    Ancillary,
    prepare_mapping,
    read_ancillary,
    segment_message,
    source_message,
)

__all__ = ["DatagramSocket", "Deliver", "open_datagrams", "report_datagram"]

_MAX_PAYLOAD: Final = 65507  # of one send, whether one datagram or a run: 65535 - IPv4 and UDP headers
_MAX_BURST: Final = 64
_NOTHING: Final[list[Buffer]] = []  # of all sockets without a run, most of which are idle; never changed
_ALWAYS_WHOLE: Final = 1232  # bytes of data that every path takes; whether it may be fragmented does not matter
_PRIVILEGED_PORTS: Final = 1024  # IPPORT_RESERVED in netinet/in.h

_Head: TypeAlias = tuple[Endpoint, int, int, bool | None, bytes | None]
"""Destination, TTL, TOS, whether it may be fragmented (see `set_fragment`), source: equal in all datagrams of a run."""

Deliver: TypeAlias = Callable[[Endpoint, bytes, Ancillary, float], None]
"""Called with the source of a datagram or a run of them, the payload, the control messages, and the time."""


def open_datagrams(context: SocketContext, order: OpenDatagram) -> socket:
    """Open a socket and bind it as ordered, or to another port if that port is in use, privileged or not permitted.

    Args:
        context: the shared state, with the interface that the socket must use.
        order: the order, with the address and port to bind the socket to.

    Raises:
        OSError: it could not be opened or bound.
    """
    address, port = order.local
    family = family_of(address)
    sock = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
    try:
        prepare_mapping(sock, family)
        context.choose_device(sock, address)
        try:
            # A guest must not take the ports of the host's own services if this process runs as root
            sock.bind(encode_once(address, port if port >= _PRIVILEGED_PORTS else 0, context.scope))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            sock.bind(encode(address, 0, context.scope))
    except BaseException:
        sock.close()
        raise
    return sock


def report_datagram(
    context: SocketContext,
    identity: SocketId,
    source: Endpoint,
    data: bytes,
    ancillary: Ancillary,
    now: float,
    local: bytes | None = None,
) -> None:
    """Report a received datagram, or a run of them, to the network.

    Args:
        context: the state that the sockets share.
        identity: the core's name for the socket.
        source: the sender.
        data: the payload.
        ancillary: the control messages that came with it.
        now: seconds.
        local: the host's address that it was sent to, for a forwarded port; see `Network.datagram_received`.
    """
    segment_size, ttl, tos = read_ancillary(ancillary)
    if segment_size >= len(data):
        segment_size = 0
    context.traffic.datagram_received(identity, source, data, segment_size, ttl, tos, now, local)


class DatagramSocket(PacketSocket):
    """One UDP socket of the host.

    Args:
        context: the state that the sockets share.
        identity: the core's name for the socket.
        sock: the socket, bound. This object owns it, unless there is `deliver`.
        deliver: called for each datagram that arrives, or run of them; None reports it to the network. With it, the
            socket belongs to the caller, and `close` leaves it open.

    Raises:
        OSError: the epoll set has no room for it; then the caller still owns the socket.
    """

    __slots__ = ("_burst", "_deliver", "_head", "_id", "_refused", "_room", "_run", "_segment_limit", "_size")

    def __init__(
        self, context: SocketContext, identity: SocketId, sock: socket, *, deliver: Deliver | None = None
    ) -> None:
        self._id: SocketId = identity
        self._deliver = deliver
        self._burst = 1
        self._run = _NOTHING
        self._head: _Head | None = None  # of the run
        self._size = 0  # of each datagram of the run; if that is too large for a run, of the first one
        self._room = 0  # bytes that can be added to the run
        self._segment_limit = _MAX_PAYLOAD
        self._refused: tuple[_Head, float, int] | None = None
        """The datagrams that the kernel refused last, when, and from which size on."""
        super().__init__(context, sock)

    def queue(self, order: SendDatagram, now: float) -> bool:
        """Keep a datagram, or the datagrams of a run, for `flush`.

        Returns:
            Whether no datagram was waiting before.
        """
        first = not self._run
        data, size = order.data, order.segment_size
        may_fragment: bool | None = order.may_fragment
        if not may_fragment and (order.fragment_here or (size or len(data)) <= _ALWAYS_WHOLE):
            may_fragment = None
        head = (order.remote, order.ttl, order.tos, may_fragment, order.local)
        if 0 < size < len(data):
            view = memoryview(data)
            for start in range(0, len(view), size):
                self._append(head, view[start : start + size], now)
        else:
            self._append(head, data, now)
        return first

    def _append(self, head: _Head, data: Buffer, now: float) -> None:
        run, size, limit = self._run, len(data), self._segment_limit
        if run and head == self._head:
            if size >= limit <= self._size:
                run.append(data)
                return
            if 0 < size <= self._size and size <= self._room and len(run) < MAX_SEGMENTS:
                run.append(data)
                self._room = self._room - size if size == self._size else 0
                return
        self.flush(now)
        self._run = [data]
        self._head = head
        self._size = size
        self._room = _MAX_PAYLOAD - size if size < limit else 0

    def flush(self, now: float) -> None:
        """Send the datagrams that wait."""
        run, head = self._run, self._head
        if not run or head is None:
            return
        self._run, self._head, self._room = _NOTHING, None, 0
        if len(run) == 1:
            self._send(head, run, now)
        elif self._size >= self._segment_limit or not self._send(head, run, now):
            self._send_each(head, run, now)

    def _send_each(self, head: _Head, run: list[Buffer], now: float) -> None:
        """Send datagrams one by one. After a failure each one is sent as if it were alone."""
        self._send(head, run[:1], now)
        others = iter(run[1:])
        if head[-1] is None and (self._refused is None or self._refused[:2] != (head, now)):
            send, address = self._socket.sendto, encode(*head[0], self._context.scope)
            data: Buffer = b""
            try:
                for data in others:
                    send(data, address)
            except OSError:
                self._send(head, [data], now)
        for data in others:
            self._send(head, [data], now)

    def _send(self, head: _Head, run: list[Buffer], now: float) -> bool:
        """Send a datagram or a run.

        Returns:
            False if these datagrams must be sent one by one.
        """
        size = len(run[0])
        if self._refused is not None and self._refused[:2] == (head, now) and size >= self._refused[2]:
            if len(run) > 1:
                return False  # the last one may be small enough
            self._context.datagrams_dropped += 1
            return True
        remote, ttl, tos, may_fragment, local = head
        try:
            self.set_options(ttl, tos, may_fragment)
        except OSError as error:
            self._refuse(head, run, local_error(error), now)
            return True
        address = encode(*remote, self._context.scope)
        ancillary: Ancillary = [] if local is None else [source_message(local)]
        if len(run) > 1:
            ancillary.append(segment_message(size))
        again = False
        while True:
            try:
                if ancillary:
                    self._socket.sendmsg(run, ancillary, 0, address)
                else:
                    self._socket.sendto(run[0], address)
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._context.datagrams_dropped += len(run)
                    return True
                reason = self.read_errors(now)
                if reason is None and not again:
                    again = True
                    continue
                if len(run) > 1 and error.errno in NO_RUNS:
                    self._segment_limit = min(self._segment_limit, size)
                    return False
                # `reason` holds more than the error number, such as the MTU
                self._refuse(head, run, reason or local_error(error), now)
            return True

    def _refuse(self, head: _Head, run: list[Buffer], error: ExtendedError, now: float) -> None:
        """Report the first datagram, and drop the rest of the run and similar datagrams of this batch.

        Trying and reporting each one would take 20 to 45 us; one frame of the guest can hold 128 of them.
        """
        self._refused = head, now, len(run[0]) if error.errno == errno.EMSGSIZE else 0
        self._context.datagrams_dropped += len(run) - 1
        self.failed(head[0], error, run[0], now)

    def failed(self, remote: Endpoint | None, error: ExtendedError, data: Buffer, now: float) -> None:
        """See `PacketSocket`."""
        if remote is not None:
            self._context.network.datagram_failed(self._id, remote, error, bytes(data), now)

    def receive(self, now: float) -> None:
        """See `PacketSocket`."""
        context, receive, deliver = self._context, self._socket.recvmsg_into, self._deliver
        view, buffers = context.view, (context.buffer,)
        for count in range(self._burst):
            try:
                size, ancillary, _, address = receive(buffers, ANCILLARY_SIZE)
            except BlockingIOError:
                self._burst = count or 1
                return
            except OSError:
                self.read_errors(now)
                continue
            source, data = decode(address, context.scope), bytes(view[:size])
            if deliver is None:
                report_datagram(context, self._id, source, data, ancillary, now)
            else:
                deliver(source, data, ancillary, now)
        # Only a busy socket is read until it is empty, because a read that finds nothing costs 1 us
        self._burst = min(2 * self._burst, _MAX_BURST)

    def close(self) -> None:
        """Leave the epoll set, and close the socket unless it is the caller's."""
        if self._deliver is None:
            super().close()
        else:
            self.leave()
