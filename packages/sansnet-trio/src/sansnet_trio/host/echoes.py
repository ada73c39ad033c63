"""Ping sockets of the host: ICMP and ICMPv6 echo without privileges (icmp(7), ping_group_range)."""

from __future__ import annotations

from socket import AF_INET, IPPROTO_ICMP, IPPROTO_ICMPV6, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket
from struct import Struct
from typing import Final

from sansnet_core import Endpoint, ExtendedError, OpenEcho, SendEcho, SocketId
from sansnet_trio.host.errqueue import local_error
from sansnet_trio.host.packet_socket import ANCILLARY_SIZE, NO_ROOM, PacketSocket
from sansnet_trio.host.sockaddr import decode, encode, family_of
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockopts import prepare_echo, read_ancillary

__all__ = ["EchoSocket"]

# RFC 792, RFC 4443: type, code, checksum, identifier, sequence. The kernel fills in checksum and identifier, and passes
# on only replies with that identifier, without their IP header.
_HEADER: Final = Struct("!BBHHH")
_REQUEST: Final = {True: 8, False: 128}  # is IPv4 -> type
_REPLY: Final = {True: 0, False: 129}
_BURST: Final = 16


class EchoSocket(PacketSocket):
    """One ping socket of the host.

    Args:
        context: the state that the sockets share.
        order: the family, and where to bind it.

    Raises:
        OSError: it could not be opened (EACCES: `ping_group_range` includes none of the process's groups) or bound, or
            the epoll set has no room for it.
    """

    __slots__ = ("_id", "_is_ipv4")

    def __init__(self, context: SocketContext, order: OpenEcho) -> None:
        family = family_of(order.remote)
        self._id: SocketId = order.socket
        self._is_ipv4 = family == AF_INET
        protocol = IPPROTO_ICMP if self._is_ipv4 else IPPROTO_ICMPV6
        sock = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
        try:
            prepare_echo(sock, family)
            context.choose_device(sock, order.remote)
            if order.local is not None:
                sock.bind(encode(order.local, 0, context.scope))
            super().__init__(context, sock)
        except BaseException:
            sock.close()
            raise

    def send(self, order: SendEcho, now: float) -> None:
        """Send a request. A call may fail with the error of an earlier packet, so it is tried twice."""
        address = encode(order.remote, 0, self._context.scope)
        packet = _HEADER.pack(_REQUEST[self._is_ipv4], 0, 0, 0, order.sequence) + order.data
        for attempt in (1, 2):
            try:
                self.set_options(order.ttl, order.tos, order.may_fragment)
                self._socket.sendto(packet, address)
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._context.datagrams_dropped += 1
                elif reason := self.read_errors(now):
                    self._report(order, reason, now)  # it holds more than the error number, such as the MTU
                elif attempt == 1:
                    continue
                else:
                    self._report(order, local_error(error), now)
            return

    def _report(self, order: SendEcho, error: ExtendedError, now: float) -> None:
        self._context.network.echo_failed(self._id, order.sequence, error, bytes(order.data), now)

    def receive(self, now: float) -> None:
        """See `PacketSocket`."""
        context = self._context
        for _ in range(_BURST):
            try:
                size, ancillary, _, address = self._socket.recvmsg_into((context.buffer,), ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError:
                self.read_errors(now)
                continue
            if size < _HEADER.size or context.buffer[0] != _REPLY[self._is_ipv4]:
                continue
            _, ttl, tos = read_ancillary(ancillary)
            _, _, _, _, sequence = _HEADER.unpack_from(context.buffer)
            data = bytes(context.view[_HEADER.size : size])
            context.network.echo_received(self._id, decode(address).address, sequence, data, ttl, tos, now)

    def failed(self, remote: Endpoint | None, error: ExtendedError, packet: bytes, now: float) -> None:
        """Report an error of the queue, which quotes the packet from its ICMP header on."""
        if len(packet) >= _HEADER.size:
            _, _, _, _, sequence = _HEADER.unpack_from(packet)
            self._context.network.echo_failed(self._id, sequence, error, packet[_HEADER.size :], now)
