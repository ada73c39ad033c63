"""Ping sockets of the host: ICMP and ICMPv6 echo without privileges (icmp(7), ping_group_range)."""

from __future__ import annotations

from select import EPOLLERR, EPOLLIN
from socket import (
    AF_INET,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    socket,
)
from struct import Struct
from typing import Final

from sansnet_core import ExtendedError, OpenEcho, SendEcho, SocketId
from sansnet_trio.host import errqueue
from sansnet_trio.host.datagrams import NO_ROOM
from sansnet_trio.host.errqueue import ORIGIN_LOCAL, local_error
from sansnet_trio.host.sockaddr import decode, encode, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import prepare_echo, read_ancillary, set_fragment, set_tos, set_ttl

__all__ = ["EchoSocket"]

# RFC 792, RFC 4443: type, code, checksum, identifier, sequence. The kernel fills in checksum and identifier, and lets
# replies with that identifier through, without their IP header.
_HEADER: Final = Struct("!BBHHH")
_REQUEST: Final = {True: 8, False: 128}  # is IPv4 -> type
_REPLY: Final = {True: 0, False: 129}
_BURST: Final = 16
_CONTROL: Final = 128


class EchoSocket:
    """One ping socket of the host.

    Args:
        context: what sockets share.
        order: the family, and where to bind it.

    Raises:
        OSError: it could not be opened (EACCES: `ping_group_range` leaves out all of the process's groups), bound or
            waited for.
    """

    __slots__ = ("_context", "_family", "_fd", "_fragment", "_id", "_socket", "_tos", "_ttl")

    def __init__(self, context: SocketContext, order: OpenEcho) -> None:
        self._context = context
        self._id: SocketId = order.socket
        self._family = family_of(order.remote)
        self._ttl = self._tos = -1
        self._fragment: bool | None = None
        protocol = IPPROTO_ICMP if self._family == AF_INET else IPPROTO_ICMPV6
        self._socket = socket(self._family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
        try:
            prepare_echo(self._socket, self._family)
            context.choose_device(self._socket, order.remote)
            if order.local is not None:
                self._socket.bind(encode(order.local, 0, context.scope))
            self._fd = self._socket.fileno()
            context.poller.add(self._fd, EPOLLIN, self._ready)
        except OSError:
            self._socket.close()
            raise

    def send(self, order: SendEcho, now: float) -> None:
        """Send a request. As with datagrams, an error may be an earlier packet's: it is tried twice."""
        address = encode(order.remote, 0, self._context.scope)
        packet = _HEADER.pack(_REQUEST[self._family == AF_INET], 0, 0, 0, order.sequence) + order.data
        for attempt in (1, 2):
            try:
                if order.ttl != self._ttl:
                    set_ttl(self._socket, self._family, order.ttl)
                    self._ttl = order.ttl
                if order.tos != self._tos:
                    set_tos(self._socket, self._family, order.tos)
                    self._tos = order.tos
                if order.fragment is not self._fragment:
                    set_fragment(self._socket, self._family, order.fragment)
                    self._fragment = order.fragment
                self._socket.sendto(packet, address)
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._context.datagrams_dropped += 1
                elif reason := self._read_errors(now):
                    self._report(order, reason, now)  # with all that the kernel knows, such as the MTU
                elif attempt == 1:
                    continue
                else:
                    self._report(order, local_error(error), now)
            return

    def _report(self, order: SendEcho, error: ExtendedError, now: float) -> None:
        self._context.machine.echo_failed(self._id, order.sequence, error, bytes(order.data), now)

    def _ready(self, flags: int, now: float) -> None:
        if flags & EPOLLERR:
            self._read_errors(now)
            self._socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if flags & EPOLLIN:
            if self._context.blocked:
                self._context.poller.change(self._fd, 0)
                self._context.parked.append(self._resume)
            else:
                self._receive(now)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._context.poller.change(self._fd, EPOLLIN)

    def _receive(self, now: float) -> None:
        context = self._context
        for _ in range(_BURST):
            try:
                size, ancillary, _, address = self._socket.recvmsg_into((context.buffer,), _CONTROL)
            except BlockingIOError:
                return
            except OSError:
                self._read_errors(now)
                continue
            if size < _HEADER.size or context.buffer[0] != _REPLY[self._family == AF_INET]:
                continue
            _, ttl, tos = read_ancillary(ancillary)
            _, _, _, _, sequence = _HEADER.unpack_from(context.buffer)
            data = bytes(context.view[_HEADER.size : size])
            context.machine.echo_received(self._id, decode(address).address, sequence, data, ttl, tos, now)

    def _read_errors(self, now: float) -> ExtendedError | None:
        """Report what came from the network; the answer is what this host's kernel says of the request just sent."""
        reason = None
        for _, error, packet in errqueue.read(self._socket):
            if error.origin == ORIGIN_LOCAL:
                reason = error
            elif len(packet) >= _HEADER.size:  # as it was quoted, from its ICMP header on
                _, _, _, _, sequence = _HEADER.unpack_from(packet)
                self._context.machine.echo_failed(self._id, sequence, error, packet[_HEADER.size :], now)
        return reason

    def close(self) -> None:
        """Close the socket."""
        self._context.poller.remove(self._fd)
        self._socket.close()
