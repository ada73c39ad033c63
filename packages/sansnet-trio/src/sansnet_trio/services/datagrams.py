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
from sansnet_trio.services.unclosed import close_unclosed

if TYPE_CHECKING:
    from sansnet_core import DeliverDatagram, FailDatagram, SocketId
    from sansnet_trio.services.carrier import Carrier, NetworkView
    from sansnet_trio.services.places import Place

__all__ = ["ChannelEnd", "DatagramQueue", "DatagramSockets", "GuestDatagramChannel", "GuestDatagrams", "Peer"]


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


class DatagramQueue:
    """The datagrams of all guests to one place.

    Args:
        place: the place.
        closed: called when it is closed.
        only: the only driver that uses it; None if all drivers of a program may.

    Attributes:
        place: see above.
        closed: whether it was closed.
        inbox: the datagrams that no task has received.
        drivers: how many drivers use it.
        token: the token of the trio in which they run; None until then.
    """

    def __init__(self, place: Place, closed: Callable[[], None], *, only: DatagramSockets | None = None) -> None:
        self.place = place
        self.closed = False
        self.drivers = 0
        self.inbox: Inbox[tuple[bytes, Peer]] = Inbox()
        self.token: trio.lowlevel.TrioToken | None = None
        self._when_closed = closed
        self._only = only

    def used(self) -> None:
        """Called by a driver that begins to use it."""
        self.drivers += 1
        self.token = trio.lowlevel.current_trio_token()

    def close(self) -> None:
        """See `GuestDatagrams.aclose`."""
        if not self.closed:
            self.closed = True
            self.inbox.close(partial(trio.ClosedResourceError, "these datagrams were closed"), discard=True)
            self._when_closed()

    def delivered(self, sockets: DatagramSockets, order: DeliverDatagram) -> None:
        """Called by a driver: its guest has sent a datagram, or a run of them."""
        peer = Peer(order.guest, order.destination, sockets.carrier.view, sockets)
        for data in _split(order):
            self.inbox.put(sockets, len(data), (data, peer))

    def failed(self, order: FailDatagram) -> None:
        """Do nothing, as an unconnected socket gets no such error either."""

    def ended(self, sockets: DatagramSockets, code: int) -> None:
        """Called by a driver that has ended."""
        self.drivers -= 1
        if self._only is sockets:
            self.inbox.close(partial(_broken, code), discard=False)


class GuestDatagrams(Uncopyable, trio.abc.AsyncResource):
    """Receives and sends datagrams at one place; see `Services.open_datagrams` and `GuestNetwork.open_datagrams`.

    Several tasks may use it at a time. Datagrams that no task receives are kept up to 1 MiB for each guest. If it is
    dropped without being closed, it is closed, and this causes a `ResourceWarning` while a network uses it.
    """

    def __init__(self, queue: DatagramQueue) -> None:
        self._queue = queue

    def __del__(self) -> None:
        if not self._queue.closed:
            close_unclosed(self, self._queue.token, self._queue.close, used=self._queue.drivers > 0)

    def __repr__(self) -> str:
        return f"<GuestDatagrams {self._queue.place}>"

    @property
    def port(self) -> int | None:
        """The program's port; None if it serves all."""
        return self._queue.place.port

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because too many waited."""
        return self._queue.inbox.dropped

    async def receive(self) -> tuple[bytes, Peer]:
        """Wait for a datagram of a guest.

        Returns:
            Its payload and its sender.

        Raises:
            trio.ClosedResourceError: this was closed.
            trio.BrokenResourceError: it was opened in one network, which has ended.
        """
        return await self._queue.inbox.get()

    async def send(self, data: bytes | bytearray | memoryview, peer: Peer) -> None:
        """Send a datagram to a guest. As with all datagrams, it may be lost, or its network may have ended.

        Args:
            data: the payload.
            peer: the receiver: the sender of an earlier datagram, or made by `GuestNetwork.peer`.

        Raises:
            OSError: EMSGSIZE: the payload is too long for any datagram.
            trio.ClosedResourceError: this was closed.
        """
        if self._queue.closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("these datagrams were closed")
        source, port = peer.destination, self._queue.place.port
        if not source.port:
            if port is None:
                raise ConfigError("peer: it has no port of the program, and these datagrams are for all ports")
            source = Endpoint(source.address, port)
        socket = peer.sockets.socket_of(self._queue.place)
        await peer.sockets.send_datagram(socket, peer.guest, source, bytes(data))

    async def aclose(self) -> None:
        """Close it; tasks that wait get `trio.ClosedResourceError`."""
        self._queue.close()
        await trio.lowlevel.checkpoint()


class ChannelEnd:
    """The program's end of one flow of datagrams.

    Args:
        sockets: the driver.
        socket: the core's name for the flow, or for the service that it belongs to.
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it.
        closed: called when it is closed.

    Attributes:
        sockets, socket, guest, destination: see above.
        closed: whether it was closed.
        over: whether the flow or the driver has ended.
        inbox: the datagrams that no task has received.
        token: the token of the trio in which it was made.
    """

    def __init__(
        self,
        sockets: DatagramSockets,
        socket: SocketId,
        guest: Endpoint,
        destination: Endpoint,
        closed: Callable[[], None],
    ) -> None:
        self.sockets = sockets
        self.socket = socket
        self.guest = guest
        self.destination = destination
        self.closed = self.over = False
        self.inbox: Inbox[bytes] = Inbox()
        self.token = trio.lowlevel.current_trio_token()
        self._when_closed = closed

    def close(self) -> None:
        """See `GuestDatagramChannel.aclose`."""
        if not self.closed:
            self.closed = True
            self.inbox.close(partial(trio.ClosedResourceError, "this channel was closed"), discard=True)
            self._when_closed()

    def delivered(self, sockets: DatagramSockets, order: DeliverDatagram) -> None:
        """Called by the driver: a guest has sent a datagram, or a run of them."""
        if order.guest == self.guest:
            for data in _split(order):
                self.inbox.put(None, len(data), data)

    def failed(self, order: FailDatagram) -> None:
        """Called by the driver: the guest could not take a datagram."""
        if order.guest == self.guest:
            self.inbox.fail(OSError(order.errno, os.strerror(order.errno)))

    def ended(self, sockets: DatagramSockets, code: int) -> None:
        """Called by the driver: the flow or the driver has ended."""
        self.over = True
        error = partial(_broken, code) if code else partial(trio.EndOfChannel, "the flow has ended")
        self.inbox.close(error, discard=False)


class GuestDatagramChannel(Uncopyable, trio.abc.AsyncResource):
    """Exchanges datagrams with one endpoint of the guest; see `GuestNetwork.open_udp`.

    A channel that is dropped without being closed causes a `ResourceWarning`, and is closed.

    Attributes:
        guest: the guest's endpoint.
        destination: the program's endpoint, as the guest sees it.
        network: the guest's network; None if the program made the driver itself.
    """

    def __init__(self, end: ChannelEnd) -> None:
        self.guest = end.guest
        self.destination = end.destination
        self._end = end

    def __del__(self) -> None:
        end = self._end
        if not (end.closed or end.over):
            close_unclosed(self, end.token, end.close, used=True)

    @property
    def network(self) -> NetworkView | None:
        return self._end.sockets.carrier.view

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because too many waited."""
        return self._end.inbox.dropped

    def __repr__(self) -> str:
        return f"<GuestDatagramChannel {self.guest} {self.destination}>"

    async def receive(self) -> bytes:
        """Wait for a datagram of the guest.

        Raises:
            ConnectionRefusedError: no program of the guest uses its port, so a datagram that was sent has not arrived;
                once for one or several datagrams, as for a connected socket. The channel stays usable.
            trio.ClosedResourceError: the channel was closed.
            trio.EndOfChannel: the flow has ended, since nothing was sent for a while.
            trio.BrokenResourceError: the driver has ended, or the flow has failed.
        """
        return await self._end.inbox.get()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send a datagram to the guest. As with all datagrams, it may be lost.

        Raises:
            ConnectionRefusedError: an earlier datagram was refused, see `receive`; this one is not sent.
            OSError: EMSGSIZE: the payload is too long for any datagram.
            trio.ClosedResourceError: the channel was closed.
        """
        end = self._end
        if end.closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this channel was closed")
        if (failure := end.inbox.take_failure()) is not None:
            await trio.lowlevel.checkpoint()
            raise failure
        await end.sockets.send_datagram(end.socket, self.guest, self.destination, bytes(data))

    async def aclose(self) -> None:
        """Close the channel; tasks that wait get `trio.ClosedResourceError`."""
        self._end.close()
        await trio.lowlevel.checkpoint()


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
