"""The network's own sockets of the host: the resolver's to name servers, and those for datagrams through proxies."""

from __future__ import annotations

from typing import Protocol

from sansnet_core.orders import Endpoint, ExtendedError, SocketId
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.udp.handler import Udp

__all__ = ["HostFacts", "OwnSocket"]


class OwnSocket(Protocol):
    """A socket of the network's own. It gets the facts about it."""

    def connected(self) -> None:
        """A stream is connected."""

    def received(self, data: bytes) -> None:
        """Bytes came from a stream, at most `budget` of them."""

    def budget(self) -> int:
        """How many bytes may be read from a stream."""

    def datagram(self, source: Endpoint, data: bytes) -> None:
        """A datagram came."""

    def failed(self) -> None:
        """The socket failed, or its stream ended; the driver has closed a stream that failed."""


class HostFacts:
    """Receives the facts about all sockets of the host, in place of `Tcp` and `Udp`.

    Args:
        tcp, udp: get the facts about their sockets.

    Attributes:
        sockets: the network's own.
    """

    __slots__ = ("_tcp", "_udp", "sockets")

    def __init__(self, tcp: Tcp, udp: Udp) -> None:
        self._tcp = tcp
        self._udp = udp
        self.sockets: dict[SocketId, OwnSocket] = {}

    def add(self, socket: SocketId, own: OwnSocket) -> None:
        """Deliver the facts about a socket to `own` from now on."""
        self.sockets[socket] = own

    def remove(self, socket: SocketId) -> bool:
        """Deliver them no longer; whether the socket is open still."""
        return self.sockets.pop(socket, None) is not None

    def stream_connected(self, socket: SocketId) -> None:
        """See `Network.stream_connected`."""
        if own := self.sockets.get(socket):
            own.connected()
        else:
            self._tcp.stream_connected(socket)

    def stream_received(self, socket: SocketId, data: bytes) -> None:
        """See `Network.stream_received`."""
        if own := self.sockets.get(socket):
            own.received(data)
        else:
            self._tcp.stream_received(socket, data)

    def stream_sent(self, socket: SocketId, count: int) -> None:
        """See `Network.stream_sent`."""
        if socket not in self.sockets:
            self._tcp.stream_sent(socket, count)

    def stream_ended(self, socket: SocketId) -> None:
        """See `Network.stream_ended`."""
        if own := self.sockets.get(socket):
            own.failed()
        else:
            self._tcp.stream_ended(socket)

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None) -> None:
        """See `Network.stream_failed`."""
        if own := self.sockets.pop(socket, None):  # it is closed already: no order may name it
            own.failed()
        else:
            self._tcp.stream_failed(socket, errno, error)

    def receive_budget(self, socket: SocketId) -> int:
        """See `Network.receive_budget`."""
        own = self.sockets.get(socket)
        return own.budget() if own else self._tcp.receive_budget(socket)

    def datagram_received(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        segment_size: int,
        ttl: int,
        tos: int,
        local: bytes | None = None,
    ) -> None:
        """See `Network.datagram_received`."""
        own = self.sockets.get(socket)
        if own is None:
            self._udp.datagram_received(socket, source, data, segment_size, ttl, tos, local)
            return
        size = segment_size or len(data) or 1
        for start in range(0, len(data) or 1, size):
            if self.sockets.get(socket) is not own:
                break  # the first was the answer
            own.datagram(source, data[start : start + size])

    def datagram_failed(self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes) -> None:
        """See `Network.datagram_failed`."""
        if own := self.sockets.get(socket):
            own.failed()
        else:
            self._udp.datagram_failed(socket, remote, error, data)
