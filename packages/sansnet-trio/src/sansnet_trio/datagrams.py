"""UDP sockets of the host: unconnected, one for each address and port of the guest.

Theory of operation. Datagrams of one batch that go to one place, with equal TTL, TOS and size, wait in `_run` and leave
in one `sendmsg` with UDP_SEGMENT; only the last may be shorter. Not every size can: segments must fit the route's MTU,
so a size that the kernel refuses is remembered, and datagrams of that size or more are sent one by one.

A system call on a UDP socket may report an error of an *earlier* packet, without doing what it was asked. So whenever
one fails the error queue is read first; if that did not say that this very packet failed, it is tried once more.
"""

from __future__ import annotations

import errno
from select import EPOLLERR, EPOLLIN
from socket import IPPROTO_UDP, SO_ERROR, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, socket
from struct import Struct
from typing import Final

from sansnet_core import Buffer, Endpoint, ExtendedError, OpenDatagram, SendDatagram, SocketId
from sansnet_trio import errqueue
from sansnet_trio.errqueue import ORIGIN_LOCAL, local_error
from sansnet_trio.options import (
    MAX_SEGMENTS,
    UDP_SEGMENT,
    prepare_datagram,
    read_ancillary,
    set_fragment,
    set_tos,
    set_ttl,
)
from sansnet_trio.shell import Shell
from sansnet_trio.sockaddr import decode, encode, family_of

__all__ = ["NO_ROOM", "DatagramSocket"]

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Send errors by which the host drops a packet as a router with a full queue does: counted, not the guest's affair."""

_NO_RUNS: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP})
_MAX_PAYLOAD: Final = 65507  # of one send, whether one datagram or a run: 65535 - IPv4 and UDP headers
_MAX_BURST: Final = 64
_CONTROL: Final = 128
_SEGMENT_SIZE: Final = Struct("=H")


class DatagramSocket:
    """One UDP socket of the host.

    Args:
        shell: what sockets share.
        order: where to bind it; another port is taken if that one is in use or not ours to use.

    Raises:
        OSError: it could not be opened or bound.
    """

    __slots__ = (
        "_burst",
        "_family",
        "_fd",
        "_fragment",
        "_head",
        "_id",
        "_room",
        "_run",
        "_segment_limit",
        "_shell",
        "_size",
        "_socket",
        "_tos",
        "_ttl",
    )

    def __init__(self, shell: Shell, order: OpenDatagram) -> None:
        self._shell = shell
        self._id: SocketId = order.socket
        self._family = family_of(order.local.address)
        self._burst = 1
        self._run: list[Buffer] = []
        self._head: tuple[Endpoint, int, int, bool] | None = None  # remote, TTL, TOS of the run, may it be fragmented
        self._size = 0  # of its datagrams
        self._room = 0  # bytes that may be added to it
        self._segment_limit = _MAX_PAYLOAD
        self._ttl = self._tos = -1
        self._fragment: bool | None = None
        self._socket = socket(self._family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            prepare_datagram(self._socket, self._family)
            self._bind(order.local)
        except OSError:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()
        shell.poller.add(self._fd, EPOLLIN, self._ready)

    def _bind(self, local: Endpoint) -> None:
        try:
            self._socket.bind(encode(local.address, local.port, self._shell.scope))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            self._socket.bind(encode(local.address, 0, self._shell.scope))

    def queue(self, order: SendDatagram, now: float) -> bool:
        """Keep a datagram, or the datagrams of a run, for `flush`; whether there were none before."""
        first = not self._run
        head = (order.remote, order.ttl, order.tos, order.fragment)
        data, size = order.data, order.segment_size
        if 0 < size < len(data):
            view = memoryview(data)
            for start in range(0, len(view), size):
                self._append(head, view[start : start + size], now)
        else:
            self._append(head, data, now)
        return first

    def _append(self, head: tuple[Endpoint, int, int, bool], data: Buffer, now: float) -> None:
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
        remote, ttl, tos, fragment = self._head
        try:
            if ttl != self._ttl:
                set_ttl(self._socket, self._family, ttl)
                self._ttl = ttl
            if tos != self._tos:
                set_tos(self._socket, self._family, tos)
                self._tos = tos
            if fragment is not self._fragment:
                set_fragment(self._socket, self._family, fragment)
                self._fragment = fragment
            if len(run) > 1 and self._send_run(remote, run, now):
                return
        except OSError as error:
            for data in run:
                self._report(remote, local_error(error), data, now)
            return
        for data in run:
            self._send(remote, data, now)

    def _send_run(self, remote: Endpoint, run: list[Buffer], now: float) -> bool:
        """Whether all are done with; otherwise none is."""
        segment = (IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(self._size))
        try:
            self._socket.sendmsg(run, (segment,), 0, encode(*remote, self._shell.scope))
        except OSError as error:
            if error.errno in NO_ROOM:
                self._shell.datagrams_dropped += len(run)
                return True
            if error.errno in _NO_RUNS:
                self._segment_limit = min(self._segment_limit, self._size)
            self._read_errors(now)
            return False
        return True

    def _send(self, remote: Endpoint, data: Buffer, now: float) -> None:
        address = encode(*remote, self._shell.scope)
        for attempt in (1, 2):
            try:
                self._socket.sendto(data, address)
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._shell.datagrams_dropped += 1
                elif reason := self._read_errors(now):
                    self._report(remote, reason, data, now)  # with all that the kernel knows, such as the MTU
                elif attempt == 1:
                    continue
                else:
                    self._report(remote, local_error(error), data, now)
            return

    def _report(self, remote: Endpoint, error: ExtendedError, data: Buffer, now: float) -> None:
        self._shell.machine.datagram_failed(self._id, remote, error, bytes(data), now)

    # events

    def _ready(self, flags: int, now: float) -> None:
        if flags & EPOLLERR:
            self._read_errors(now)
            # An error that did not fit the queue would be reported for ever.
            self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if flags & EPOLLIN:
            if self._shell.blocked:
                self._shell.poller.change(self._fd, 0)
                self._shell.parked.append(self._resume)
            else:
                self._receive(now)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._shell.poller.change(self._fd, EPOLLIN)

    def _receive(self, now: float) -> None:
        shell, receive = self._shell, self._socket.recvmsg_into
        buffers = (shell.buffer,)
        for count in range(self._burst):
            try:
                size, ancillary, _, address = receive(buffers, _CONTROL)
            except BlockingIOError:
                self._burst = count or 1
                return
            except OSError:
                self._read_errors(now)
                continue
            segment_size, ttl, tos = read_ancillary(ancillary)
            if segment_size >= size:
                segment_size = 0
            data = bytes(shell.view[:size])
            shell.machine.datagram_received(self._id, decode(address), data, segment_size, ttl, tos, now)
        # Only where much comes is it worth while to try until there is no more: a read in vain costs 1 us.
        self._burst = min(2 * self._burst, _MAX_BURST)

    def _read_errors(self, now: float) -> ExtendedError | None:
        """Report what came from the network; the answer is what this host's kernel says of the packet just sent."""
        reason = None
        for remote, error, data in errqueue.read(self._socket):
            if error.origin == ORIGIN_LOCAL:
                reason = error  # on an unconnected socket it does not name the destination's port
            elif remote is not None:
                self._report(remote, error, data, now)
        return reason

    def close(self) -> None:
        """Close the socket."""
        self._shell.poller.remove(self._fd)
        self._socket.close()
