"""UDP sockets of the host: unconnected, one for each address and port of the guest, or for a port that is forwarded.

Theory of operation. Datagrams of one batch that go to one place, with equal TTL, TOS and size, wait in `_run` and leave
in one `sendmsg` with UDP_SEGMENT; only the last may be shorter. Not every size can: segments must fit the route's MTU,
so a size that the kernel refuses is remembered, and datagrams of that size or more are sent one by one.

A system call on a UDP socket may report an error of an *earlier* packet, without doing what it was asked. So whenever
one fails the error queue is read first; if that did not say that this very packet failed, it is tried once more.

What the kernel refuses to send is reported once in a batch for each destination, and its like is dropped: a guest must
not gain by datagrams that cannot be sent.
"""

from __future__ import annotations

import errno
from select import EPOLLERR, EPOLLIN
from socket import SO_ERROR, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, socket
from typing import Final, TypeAlias

from sansnet_core import Buffer, Endpoint, ExtendedError, OpenDatagram, SendDatagram, SocketId
from sansnet_trio.host import errqueue
from sansnet_trio.host.errqueue import ORIGIN_LOCAL, local_error
from sansnet_trio.host.sockaddr import decode, encode, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import (
    MAX_SEGMENTS,
    NO_RUNS,
    Ancillary,
    prepare_mapping,
    read_ancillary,
    segment_message,
    set_fragment,
    set_tos,
    set_ttl,
    source_message,
)

__all__ = ["NO_ROOM", "DatagramSocket", "open_datagrams"]

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Send errors by which the host drops a packet as a router with a full queue does: counted, not the guest's affair."""

_MAX_PAYLOAD: Final = 65507  # of one send, whether one datagram or a run: 65535 - IPv4 and UDP headers
_MAX_BURST: Final = 64
_PRIVILEGED_PORTS: Final = 1024  # IPPORT_RESERVED in netinet/in.h
_CONTROL: Final = 128

_Head: TypeAlias = tuple[Endpoint, int, int, bool, bytes | None]
"""Destination, TTL, TOS, may it be fragmented, source: what datagrams of one run have in common."""


def open_datagrams(context: SocketContext, order: OpenDatagram) -> socket:
    """A socket bound as ordered; another port is taken if that one is in use, privileged or not ours to use.

    Args:
        context: which interface it is to use.
        order: where to bind it.

    Raises:
        OSError: it could not be opened or bound.
    """
    address, port = order.local
    made = socket(family_of(address), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
    try:
        prepare_mapping(made, made.family)
        context.choose_device(made, address)
        try:
            # A guest must not take the ports of the host's own services where this runs as root
            made.bind(encode(address, port if port >= _PRIVILEGED_PORTS else 0, context.scope))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            made.bind(encode(address, 0, context.scope))
    except OSError:
        made.close()
        raise
    return made


class DatagramSocket:
    """One UDP socket of the host.

    Args:
        context: what sockets share.
        identity: the core's name for it.
        made: it, bound; this owns it from now on.

    Raises:
        OSError: it cannot be waited for; then it stays the caller's.
    """

    __slots__ = (
        "_burst",
        "_context",
        "_family",
        "_fd",
        "_fragment",
        "_head",
        "_id",
        "_refused",
        "_refused_at",
        "_refused_size",
        "_room",
        "_run",
        "_segment_limit",
        "_size",
        "_socket",
        "_tos",
        "_ttl",
    )

    def __init__(self, context: SocketContext, identity: SocketId, made: socket) -> None:
        self._context = context
        self._id: SocketId = identity
        self._socket = made
        self._family = made.family
        self._fd = made.fileno()
        self._burst = 1
        self._run: list[Buffer] = []
        self._head: _Head | None = None  # of the run
        self._size = 0  # of its datagrams
        self._room = 0  # bytes that may be added to it
        self._segment_limit = _MAX_PAYLOAD
        self._refused: _Head | None = None  # what the kernel did not send, when, and from which size on
        self._refused_at = 0.0
        self._refused_size = 0
        self._ttl = self._tos = -1
        self._fragment: bool | None = None
        context.poller.add(self._fd, EPOLLIN, self._ready)

    def queue(self, order: SendDatagram, now: float) -> bool:
        """Keep a datagram, or the datagrams of a run, for `flush`; whether there were none before."""
        first = not self._run
        head = (order.remote, order.ttl, order.tos, order.fragment, order.local)
        data, size = order.data, order.segment_size
        if 0 < size < len(data):
            view = memoryview(data)
            for start in range(0, len(view), size):
                self._append(head, view[start : start + size], now)
        else:
            self._append(head, data, now)
        return first

    def _append(self, head: _Head, data: Buffer, now: float) -> None:
        run, size = self._run, len(data)
        if run and 0 < size <= self._size and size <= self._room and len(run) < MAX_SEGMENTS and head == self._head:
            run.append(data)
            self._room = self._room - size if size == self._size else 0
            return
        self.flush(now)
        self._run.append(data)
        self._head = head
        self._size = size
        self._room = _MAX_PAYLOAD - size if size < self._segment_limit else 0

    def flush(self, now: float) -> None:
        """Send what waits."""
        if not self._run or self._head is None:
            return
        run, self._run = self._run, []
        if len(run) == 1 or not self._send(self._head, run, now):
            for data in run:
                self._send(self._head, [data], now)

    def _send(self, head: _Head, run: list[Buffer], now: float) -> bool:
        """Send a datagram or a run; False if these datagrams must be sent one by one."""
        size = len(run[0])
        if now == self._refused_at and head == self._refused and size >= self._refused_size:
            if len(run) > 1:
                return False  # the last one may be smaller
            self._context.datagrams_dropped += 1
            return True
        remote, ttl, tos, fragment, local = head
        try:
            self._set_options(ttl, tos, fragment)
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
                reason = self._read_errors(now)
                if reason is None and not again:
                    again = True
                    continue
                if len(run) > 1 and error.errno in NO_RUNS:
                    self._segment_limit = min(self._segment_limit, size)
                    return False
                # `reason` has all that the kernel knows, such as the MTU
                self._refuse(head, run, reason or local_error(error), now)
            return True

    def _set_options(self, ttl: int, tos: int, fragment: bool) -> None:
        if ttl != self._ttl:
            set_ttl(self._socket, self._family, ttl)
            self._ttl = ttl
        if tos != self._tos:
            set_tos(self._socket, self._family, tos)
            self._tos = tos
        if fragment is not self._fragment:
            set_fragment(self._socket, self._family, fragment)
            self._fragment = fragment

    def _refuse(self, head: _Head, run: list[Buffer], error: ExtendedError, now: float) -> None:
        """Report the first datagram, and drop the others and what is like them in this batch.

        Trying each of them and telling why it failed would take 20 to 45 us; a frame of the guest may hold 128.
        """
        self._refused, self._refused_at = head, now
        self._refused_size = len(run[0]) if error.errno == errno.EMSGSIZE else 0
        self._context.datagrams_dropped += len(run) - 1
        self._report(head[0], error, run[0], now)

    def _report(self, remote: Endpoint, error: ExtendedError, data: Buffer, now: float) -> None:
        self._context.machine.datagram_failed(self._id, remote, error, bytes(data), now)

    # events

    def _ready(self, flags: int, now: float) -> None:
        if flags & EPOLLERR:
            self._read_errors(now)
            # An error that did not fit the queue would be reported for ever.
            self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if flags & EPOLLIN:
            if self._context.blocked:
                self._context.poller.change(self._fd, 0)
                self._context.parked.append(self._resume)
            else:
                self._receive(now)

    def _resume(self) -> None:
        if self._fd >= 0:
            self._context.poller.change(self._fd, EPOLLIN)

    def _receive(self, now: float) -> None:
        view, receive = self._context.view, self._socket.recvmsg_into
        buffers = (self._context.buffer,)
        for count in range(self._burst):
            try:
                size, ancillary, _, address = receive(buffers, _CONTROL)
            except BlockingIOError:
                self._burst = count or 1
                return
            except OSError:
                self._read_errors(now)
                continue
            self._deliver(decode(address, self._context.scope), bytes(view[:size]), ancillary, now)
        # Only where much comes is it worth while to try until there is no more: a read in vain costs 1 us.
        self._burst = min(2 * self._burst, _MAX_BURST)

    def _deliver(
        self, source: Endpoint, data: bytes, ancillary: Ancillary, now: float, local: bytes | None = None
    ) -> None:
        """Tell the network what came; `local` is the host's address that it was sent to, if that is of interest."""
        segment_size, ttl, tos = read_ancillary(ancillary)
        if segment_size >= len(data):
            segment_size = 0
        self._context.machine.datagram_received(self._id, source, data, segment_size, ttl, tos, now, local)

    def _read_errors(self, now: float) -> ExtendedError | None:
        """Report what came from the network; the answer is what this host's kernel says of the packet just sent."""
        reason = None
        for remote, error, data in errqueue.read(self._socket, self._context.scope):
            if error.origin == ORIGIN_LOCAL:
                reason = error  # on an unconnected socket it does not name the destination's port
            elif remote is not None:
                self._report(remote, error, data, now)
        return reason

    def close(self) -> None:
        """Close the socket."""
        self._leave()
        self._socket.close()

    def _leave(self) -> None:
        self._context.poller.remove(self._fd)
        self._fd = -1
