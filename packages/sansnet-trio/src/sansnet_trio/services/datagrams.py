"""UDP datagrams between the program and its guests, without a socket of the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from sansnet_core import ConfigError, Endpoint
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.services.inbox import Inbox

if TYPE_CHECKING:
    from sansnet_core import DeliverDatagram, SocketId
    from sansnet_trio.services.carrier import Carrier, NetworkView
    from sansnet_trio.services.places import Place

__all__ = ["DatagramSockets", "GuestDatagramChannel", "GuestDatagrams", "Peer"]


class DatagramSockets(Protocol):
    """The services of one driver."""

    @property
    def carrier(self) -> Carrier:
        """The driver."""

    def socket_of(self, place: Place) -> SocketId | None:
        """The core's name for the service at a place; None if there is none."""

    async def send_datagram(self, socket: SocketId | None, guest: Endpoint, source: Endpoint, data: bytes) -> None:
        """Send the guest a datagram, or drop it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of datagrams: an endpoint of one guest. Peers are equal if all of it is the same.

    Attributes:
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it. Answers come from it.
        network: the guest's network; None if the program made the driver itself.
    """

    guest: Endpoint
    destination: Endpoint
    network: NetworkView | None = field(repr=False, compare=False)
    sockets: DatagramSockets = field(repr=False)
    """The driver; for this package alone."""

    def __str__(self) -> str:
        return f"{self.guest} to {self.destination}"


class GuestDatagrams(Uncopyable, trio.abc.AsyncResource):
    """Receives and sends datagrams at one place; see `Services.open_datagrams` and `GuestNetwork.open_datagrams`.

    Several tasks may use it at a time. Datagrams that no task receives are kept up to 1 MiB for each guest.
    """

    def __init__(self, place: Place, closed: Callable[[], None], *, only: DatagramSockets | None = None) -> None:
        self._place = place
        self._when_closed = closed
        self._only = only
        self._inbox: Inbox[tuple[bytes, Peer]] = Inbox()
        self._closed = False

    def __repr__(self) -> str:
        return f"<GuestDatagrams {self._place}>"

    @property
    def port(self) -> int | None:
        """The program's port; None if it serves all."""
        return self._place.port

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because too many waited."""
        return self._inbox.dropped

    async def receive(self) -> tuple[bytes, Peer]:
        """Wait for a datagram of a guest.

        Returns:
            Its payload and its sender.

        Raises:
            trio.ClosedResourceError: this was closed.
            trio.BrokenResourceError: it was opened in one network, which has ended.
        """
        return await self._inbox.get()

    async def send(self, data: bytes | bytearray | memoryview, peer: Peer) -> None:
        """Send a datagram to a guest. As with all datagrams, it may be lost, or its network may have ended.

        Args:
            data: the payload.
            peer: the receiver: the sender of an earlier datagram, or made by `GuestNetwork.peer`.

        Raises:
            OSError: EMSGSIZE: the payload is too long for any datagram.
            trio.ClosedResourceError: this was closed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("these datagrams were closed")
        source, port = peer.destination, self._place.port
        if not source.port:
            if port is None:
                raise ConfigError("peer: it has no port of the program, and these datagrams are for all ports")
            source = Endpoint(source.address, port)
        socket = peer.sockets.socket_of(self._place)
        await peer.sockets.send_datagram(socket, peer.guest, source, bytes(data))

    async def aclose(self) -> None:
        """Close it; tasks that wait get `trio.ClosedResourceError`."""
        if not self._closed:
            self._closed = True
            self._inbox.close(partial(trio.ClosedResourceError, "these datagrams were closed"), discard=True)
            self._when_closed()
        await trio.lowlevel.checkpoint()

    def delivered(self, sockets: DatagramSockets, order: DeliverDatagram) -> None:
        """Called by a driver: its guest has sent a datagram, or a run of them."""
        peer = Peer(order.guest, order.destination, sockets.carrier.view, sockets)
        for data in _split(order):
            self._inbox.put(sockets, len(data), (data, peer))

    def ended(self, sockets: DatagramSockets, code: int) -> None:
        """Called by a driver that has ended."""
        if self._only is sockets:
            self._inbox.close(partial(_broken, code), discard=False)


class GuestDatagramChannel(Uncopyable, trio.abc.AsyncResource):
    """Exchanges datagrams with one endpoint of the guest; see `GuestNetwork.open_udp`.

    Attributes:
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it.
        network: the guest's network; None if the program made the driver itself.
    """

    def __init__(
        self,
        sockets: DatagramSockets,
        socket: SocketId,
        guest: Endpoint,
        destination: Endpoint,
        closed: Callable[[], None],
    ) -> None:
        self.guest = guest
        self.destination = destination
        self._sockets = sockets
        self._socket = socket
        self._when_closed = closed
        self._inbox: Inbox[bytes] = Inbox()
        self._closed = False

    @property
    def network(self) -> NetworkView | None:
        return self._sockets.carrier.view

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because too many waited."""
        return self._inbox.dropped

    def __repr__(self) -> str:
        return f"<GuestDatagramChannel {self.guest} {self.destination}>"

    async def receive(self) -> bytes:
        """Wait for a datagram of the guest.

        Raises:
            trio.ClosedResourceError: the channel was closed.
            trio.EndOfChannel: the flow has ended, since nothing was sent for a while.
            trio.BrokenResourceError: the driver has ended, or the flow has failed.
        """
        return await self._inbox.get()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send a datagram to the guest. As with all datagrams, it may be lost.

        Raises:
            OSError: EMSGSIZE: the payload is too long for any datagram.
            trio.ClosedResourceError: the channel was closed.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this channel was closed")
        await self._sockets.send_datagram(self._socket, self.guest, self.destination, bytes(data))

    async def aclose(self) -> None:
        """Close the channel; tasks that wait get `trio.ClosedResourceError`."""
        if not self._closed:
            self._closed = True
            self._inbox.close(partial(trio.ClosedResourceError, "this channel was closed"), discard=True)
            self._when_closed()
        await trio.lowlevel.checkpoint()

    def delivered(self, sockets: DatagramSockets, order: DeliverDatagram) -> None:
        """Called by the driver: a guest has sent a datagram, or a run of them."""
        if order.guest == self.guest:
            for data in _split(order):
                self._inbox.put(None, len(data), data)

    def ended(self, sockets: DatagramSockets, code: int) -> None:
        """Called by the driver: the flow or the driver has ended."""
        error = partial(_broken, code) if code else partial(trio.EndOfChannel, "the flow has ended")
        self._inbox.close(error, discard=False)


def _split(order: DeliverDatagram) -> Iterator[bytes]:
    """The datagrams of a run, each as bytes of its own."""
    data, size = order.data, order.segment_size
    if not 0 < size < len(data):
        yield bytes(data)
        return
    for start in range(0, len(data), size):
        yield bytes(data[start : start + size])


def _broken(code: int) -> trio.BrokenResourceError:
    error = trio.BrokenResourceError(os.strerror(code))
    error.__cause__ = OSError(code, os.strerror(code))
    return error
