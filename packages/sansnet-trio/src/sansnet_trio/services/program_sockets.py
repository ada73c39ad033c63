"""The services and connections of the program in one driver.

Theory of operation. The driver hands over the core's orders for the program, and `tell` tells the core the program's
facts. The streams live among those of the host's sockets, which know them by the same methods.

A connection that the program has closed goes on until the guest has ended its part. The guest may take its time as long
as something moves. If it has taken less than `_LEAST` in `LINGER` seconds, the connection is reset.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from sansnet_core import CloseSocket, DeliverDatagram, Endpoint, FailDatagram, Prefix, ServeStream, SocketId
from sansnet_trio.host.sockets import LINGER, HostSockets
from sansnet_trio.services.carrier import Carrier
from sansnet_trio.services.datagrams import (
    ChannelEnd,
    DatagramQueue,
    DatagramSockets,
    GuestDatagramChannel,
    GuestDatagrams,
    Peer,
)
from sansnet_trio.services.decided import DecidedStream
from sansnet_trio.services.places import UDP, Place, in_use
from sansnet_trio.services.stream_end import StreamEnd
from sansnet_trio.services.streams import GuestStream

if TYPE_CHECKING:
    from sansnet_trio.host.socket_context import SocketContext
    from sansnet_trio.services.carrier import Tell
    from sansnet_trio.services.listener import AcceptQueue

__all__ = ["ProgramSockets"]

_EPHEMERAL: Final = range(49152, 65536)
"""Dynamic ports (RFC 6335, 6)."""
_LEAST: Final = 1024
"""Bytes. A guest that does not read may still take single bytes, which probe its closed window."""
_SEND_TIMEOUT: Final = 1.0
"""Seconds for which a datagram waits until the guest's link has room."""
_MAX_PAYLOAD: Final = {4: 65535 - 20 - 8, 16: 65535 - 8}
"""Longest payload of a UDP datagram, by size of the address (RFC 768, RFC 791, RFC 8200)."""


class _StreamService(Protocol):
    def offered(self, end: StreamEnd, now: float) -> None: ...

    def ended(self, carrier: Carrier) -> None: ...


class _DatagramService(Protocol):
    def delivered(self, sockets: DatagramSockets, order: DeliverDatagram) -> None: ...

    def failed(self, order: FailDatagram) -> None: ...

    def ended(self, sockets: DatagramSockets, code: int) -> None: ...


class _Closed(NamedTuple):
    """A connection that the program has closed."""

    end: StreamEnd
    deadline: float
    left: int


class ProgramSockets:
    """All services and connections of the program in one driver.

    Args:
        context: the state that the host's sockets share.
        sockets: the host's sockets.
        tell: `Driver.tell`.

    Attributes:
        carrier: the driver, as streams use it.
    """

    def __init__(self, context: SocketContext, sockets: HostSockets, tell: Tell) -> None:
        self.carrier: Final = Carrier(context, tell)
        self._network = context.network
        self._sockets = sockets
        self._streams: dict[SocketId, _StreamService] = {}
        self._datagrams: dict[SocketId, _DatagramService] = {}
        self._names: dict[Place, SocketId] = {}
        self._decided: dict[SocketId, DecidedStream] = {}
        self._closed: dict[SocketId, _Closed] = {}  # the earliest deadline first
        self._room = trio.lowlevel.ParkingLot()
        self._parked = False
        sockets.serve_program(self._serve, self._deliver, self._fail, self._close)

    # services

    def serves(self, place: Place) -> bool:
        """Whether there is a service at this place."""
        return place in self._names

    def socket_of(self, place: Place) -> SocketId | None:
        """The core's name for the service at a place."""
        return self._names.get(place)

    def add_streams(self, place: Place, service: AcceptQueue) -> None:
        """Serve the guest's connections to a place that is free."""
        self._streams[self._add(place)] = service
        service.used()

    def add_datagrams(self, place: Place, service: DatagramQueue) -> None:
        """Serve the guest's datagrams to a place that is free."""
        self._datagrams[self._add(place)] = service
        service.used()

    def _add(self, place: Place) -> SocketId:
        def fact(now: float) -> None:
            self._names[place] = self._network.service_added(*place, now)

        self.carrier.tell(fact)
        return self._names[place]

    def remove(self, place: Place) -> None:
        """End a service; its connections go on."""
        socket = self._names.pop(place, None)
        if socket is not None:
            self._streams.pop(socket, None)
            self._datagrams.pop(socket, None)
            if self.carrier.running:
                self.carrier.tell(lambda now: self._network.service_removed(socket, now))

    def end(self) -> None:
        """The driver has ended, and its streams with it."""
        self._closed.clear()
        for service in self._streams.values():
            service.ended(self.carrier)
        for datagrams in self._datagrams.values():
            datagrams.ended(self, errno.ENETDOWN)
        self._room.unpark_all()

    # flows whose verdict is to serve them

    @contextmanager
    def stream_expected(self, socket: SocketId, start: Callable[[GuestStream], None]) -> Iterator[None]:
        """In the block, the core may order to serve this connection; `start` is called when it is established."""
        self._decided[socket] = DecidedStream(start)
        try:
            yield
        finally:
            self._decided.pop(socket, None)

    def open_flow(self, socket: SocketId, guest: Endpoint, destination: Endpoint) -> GuestDatagramChannel:
        """A channel for the datagrams of a flow with this name. Closing it ends the flow."""
        end = ChannelEnd(self, socket, guest, destination, lambda: self._end_flow(socket))
        self._datagrams[socket] = end
        return GuestDatagramChannel(end)

    def _end_flow(self, socket: SocketId) -> None:
        if self._datagrams.pop(socket, None) is not None and self.carrier.running:
            self.carrier.tell(lambda now: self._network.service_removed(socket, now))

    # orders

    def _serve(self, order: ServeStream, now: float) -> None:
        service: _StreamService | None = self._decided.pop(order.socket, None)
        if order.service is not None:
            service = self._streams.get(order.service)
        if service is None:
            self._network.stream_failed(order.socket, errno.ECONNREFUSED, None, now)
        else:
            service.offered(self.make_end(order.socket, order.guest, order.destination), now)

    def make_end(self, socket: SocketId, guest: Endpoint, destination: Endpoint) -> StreamEnd:
        """Make the program's end of a connection: a service may take it, or a stream.

        Args:
            socket: the core's name for the connection.
            guest: the guest's endpoint.
            destination: the program's endpoint.
        """
        end = StreamEnd(self.carrier, socket, guest, destination, self)
        self._sockets.adopt_end(socket, end)
        return end

    def forget(self, socket: SocketId) -> None:
        """The core has forgotten a connection."""
        self._sockets.forget(socket)
        self._closed.pop(socket, None)

    def _deliver(self, order: DeliverDatagram, now: float) -> None:
        service = self._datagrams.get(order.socket)
        if service is not None:
            service.delivered(self, order)
            self.carrier.context.woken = True

    def _fail(self, order: FailDatagram, now: float) -> None:
        service = self._datagrams.get(order.socket)
        if service is not None:
            service.failed(order)
            self.carrier.context.woken = True

    def _close(self, order: CloseSocket, now: float) -> None:
        service = self._datagrams.pop(order.socket, None)
        if service is not None:
            service.ended(self, order.errno)

    # streams

    async def open_stream(self, source: Endpoint | None, address: bytes | None, port: int) -> GuestStream:
        """Connect to a server in the guest.

        Raises:
            OSError: as connect() does.
        """
        await trio.lowlevel.checkpoint()
        self._check_running()
        ends: list[StreamEnd] = []

        def fact(now: float) -> None:
            made = self._network.stream_opened(source, address, port, now)
            if made < 0:
                raise OSError(-made, os.strerror(-made))
            socket = SocketId(made)
            endpoints = self._network.stream_endpoints(socket)
            assert endpoints is not None, "a connection that has just been made"
            ends.append(self.make_end(socket, *endpoints))

        self.carrier.tell(fact)
        end = ends[0]
        try:
            await end.wait_established()
        except BaseException:
            end.release(abort=True)
            raise
        return GuestStream(end)

    def _check_running(self) -> None:
        if not self.carrier.running:
            raise OSError(errno.ENETDOWN, f"{os.strerror(errno.ENETDOWN)}: the guest's network does not run")

    def watch(self, end: StreamEnd) -> None:
        """Reset a connection that the program has closed if the guest does not end its part in time."""
        left = self._network.stream_unacknowledged(end.socket)
        # By `tell`, so that the driver waits for the deadline
        self.carrier.tell(lambda now: self._closed.update({end.socket: _Closed(end, now + LINGER, left)}))

    def next_deadline(self) -> float | None:
        """The time when `handle_deadline` must be called; None if it need not be."""
        return next(iter(self._closed.values())).deadline if self._closed else None

    def handle_deadline(self, now: float) -> None:
        """Reset the connections that the program has closed and in which nothing moves."""
        for socket, (end, _, before) in [item for item in self._closed.items() if item[1].deadline <= now]:
            del self._closed[socket]
            left = self._network.stream_unacknowledged(socket)
            if before - left < max(1, min(before, _LEAST)):
                end.fail(errno.ETIMEDOUT)
            else:
                self._closed[socket] = _Closed(end, now + LINGER, left)

    # datagrams

    async def send_datagram(self, socket: SocketId | None, guest: Endpoint, source: Endpoint, data: bytes) -> None:
        """Send the guest a datagram. It is dropped if the driver or the service has ended, or if the link has no room.

        Raises:
            OSError: EMSGSIZE: it is too long.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(data) > _MAX_PAYLOAD[len(guest.address)]:
            raise OSError(errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: {len(data)} bytes")
        context = self.carrier.context
        if context.blocked and self.carrier.running:
            with trio.move_on_after(_SEND_TIMEOUT):
                await self._wait_for_room()
        if socket is not None and self.carrier.running and not context.blocked:
            self.carrier.tell(lambda now: self._network.service_sent(socket, guest, source, data, now))
        else:
            context.datagrams_dropped += 1
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_room(self) -> None:
        while self.carrier.context.blocked and self.carrier.running:
            if not self._parked:
                self._parked = True
                self.carrier.context.parked.append(self._unpark)
            await self._room.park()

    def _unpark(self) -> None:
        self._parked = False
        self._room.unpark_all()

    def open_datagrams(self, source: Endpoint | None) -> GuestDatagrams:
        """Datagrams of the program in this network alone; see `GuestNetwork.open_datagrams`.

        Raises:
            OSError: EADDRINUSE, or ENETDOWN.
        """
        self._check_running()
        place = self._free_place(source)
        queue = DatagramQueue(place, lambda: self.remove(place), only=self)
        self.add_datagrams(place, queue)
        return GuestDatagrams(queue)

    def open_channel(self, source: Endpoint | None, host: bytes | None, port: int) -> GuestDatagramChannel:
        """A channel of datagrams with one endpoint of the guest; see `GuestNetwork.open_udp`.

        Raises:
            OSError: EADDRINUSE, EADDRNOTAVAIL, ENETDOWN and more.
        """
        self._check_running()
        peer = self.make_peer(source, host, port)
        place = self._free_place(peer.destination)
        own = Endpoint(peer.destination.address, place.port or 0)
        socket = self._add(place)
        end = ChannelEnd(self, socket, peer.guest, own, lambda: self.remove(place))
        self._datagrams[socket] = end
        return GuestDatagramChannel(end)

    def make_peer(self, source: Endpoint | None, host: bytes | None, port: int) -> Peer:
        """An endpoint of the guest; see `GuestNetwork.peer`.

        Raises:
            OSError: EADDRNOTAVAIL and more.
        """
        found = self._network.program_addresses(source.address if source else None, host)
        if isinstance(found, int):
            raise OSError(found, os.strerror(found))
        own, guest = found
        return Peer(Endpoint(guest, port), Endpoint(own, source.port if source else 0), self.carrier.view, self)

    def _free_place(self, source: Endpoint | None) -> Place:
        prefix = None if source is None else Prefix.of(source.address)
        port = source.port if source else 0
        first = random.randrange(len(_EPHEMERAL))
        for one in (port,) if port else (*_EPHEMERAL[first:], *_EPHEMERAL[:first]):
            place = Place(UDP, prefix, one)
            if not self.serves(place):
                return place
        raise in_use(place)
