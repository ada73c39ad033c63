"""The sockets of a simulated host: they carry out a network's orders without the kernel.

Theory of operation. Orders to open a socket, and those for datagrams and pings, are carried out here. A connection is a
`StreamEnd`, as for services of the program, so all further orders for it are carried out as for any stream. An answer
that takes time waits for its deadline, which the driver asks for as for those of real sockets.
"""

from __future__ import annotations

import errno
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sansnet_core import (
    CloseSocket,
    DeliverDatagram,
    Endpoint,
    ExtendedError,
    OpenDatagram,
    OpenEcho,
    OpenStream,
    Order,
    SendDatagram,
    SendEcho,
    SocketId,
)
from sansnet_core.orders import ORIGIN_ICMP, ORIGIN_ICMPV6, ORIGIN_LOCAL
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.services.datagrams import ChannelEnd, GuestDatagramChannel

if TYPE_CHECKING:
    from sansnet_trio.host.socket_context import SocketContext
    from sansnet_trio.host.sockets import FlowDecisions
    from sansnet_trio.services.carrier import Carrier
    from sansnet_trio.services.datagrams import DatagramQueue
    from sansnet_trio.services.listener import AcceptQueue
    from sansnet_trio.services.places import Place
    from sansnet_trio.services.program_sockets import ProgramSockets
    from sansnet_trio.services.stream_end import StreamEnd

__all__ = ["Conduct", "Servers", "SimulatedSockets"]

_CONNECT_TIME: Final = 127.0
"""Seconds until the kernel gives up a connect that nothing answers (tcp_syn_retries in tcp(7))."""
_TTL: Final = 64
_ICMP: Final = {
    errno.ECONNREFUSED: ((3, 3), (1, 4)),
    errno.EHOSTUNREACH: ((3, 1), (1, 3)),
    errno.ENETUNREACH: ((3, 0), (1, 0)),
    errno.EACCES: ((3, 13), (1, 1)),
}
"""Type and code of the message that causes an errno, of ICMP and ICMPv6 (RFC 792, RFC 4443)."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """The conduct of an address.

    Attributes:
        errno: everything to it fails with this errno; 0 if nothing does.
        silent: nothing is answered.
        delay: seconds until a connection or a datagram reaches its server, or a ping its answer.
    """

    errno: int = 0
    silent: bool = False
    delay: float = 0.0


class Servers(Protocol):
    """The servers and addresses of a host."""

    def conduct(self, address: bytes) -> Conduct:
        """The conduct of an address."""

    def find_listener(self, endpoint: Endpoint) -> AcceptQueue | None:
        """The server for connections to an endpoint."""

    def find_datagrams(self, endpoint: Endpoint) -> DatagramQueue | None:
        """The server for datagrams to an endpoint."""


class SimulatedSockets(HostSockets):
    """All sockets of one driver whose host is simulated.

    Args:
        context: the state that the sockets share.
        decisions: gets the questions about new flows; None refuses these flows.
        program: returns the driver's services and connections of the program.
        servers: the servers of the host.
    """

    def __init__(
        self,
        context: SocketContext,
        decisions: FlowDecisions | None,
        program: Callable[[], ProgramSockets],
        servers: Servers,
    ) -> None:
        super().__init__(context, decisions)
        self._network = context.network
        self._program = program
        self._servers = servers
        self._connects: set[SocketId] = set()
        self._udp: dict[SocketId, OpenDatagram] = {}
        self._outsiders: dict[SocketId, ChannelEnd] = {}
        self._pings: dict[SocketId, OpenEcho] = {}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0

    @property
    def running(self) -> bool:
        """The driver runs."""
        return self._program().carrier.running

    @property
    def carrier(self) -> Carrier:
        """The driver; see `DatagramSockets`."""
        return self._program().carrier

    def apply(self, orders: Iterable[Order], now: float) -> None:
        """Carry out orders; see `HostSockets`."""
        super().apply([order for order in orders if not self._simulate(order, now)], now)

    def next_deadline(self) -> float | None:
        """The time when `handle_deadline` must be called; None if it need not be."""
        times = [
            each for each in (super().next_deadline(), *(event[0] for event in self._events[:1])) if each is not None
        ]
        return min(times, default=None)

    def handle_deadline(self, now: float) -> None:
        """Give the answers that are due."""
        super().handle_deadline(now)
        while self._events and self._events[0][0] <= now:
            heapq.heappop(self._events)[2](now)

    def close(self) -> None:
        """Close all sockets."""
        super().close()
        outsiders, self._outsiders = self._outsiders, {}
        for channel in outsiders.values():
            channel.ended(self, errno.ENETDOWN)
        self._events.clear()

    def _simulate(self, order: Order, now: float) -> bool:
        """Carry out an order if it is for a simulated socket; whether it is. Those of listeners may be real."""
        if isinstance(order, OpenStream):
            self._connect(order, now)
        elif isinstance(order, OpenDatagram):
            self._udp[order.socket] = order
        elif isinstance(order, SendDatagram) and order.socket in self._outsiders:
            self._send_outside(order)
        elif isinstance(order, SendDatagram) and order.socket in self._udp:
            self._send(order, now)
        elif isinstance(order, OpenEcho):
            self._pings[order.socket] = order
        elif isinstance(order, SendEcho) and order.socket in self._pings:
            self._ping(order, now)
        elif isinstance(order, CloseSocket) and order.socket in self._connects:
            self._connects.remove(order.socket)
        elif isinstance(order, CloseSocket) and (order.socket in self._udp or order.socket in self._pings):
            self._udp.pop(order.socket, None)
            self._pings.pop(order.socket, None)
        else:
            return False
        return True

    def _after(self, delay: float, now: float, action: Callable[[float], None]) -> None:
        if delay <= 0:
            action(now)
        else:
            self._count += 1
            heapq.heappush(self._events, (now + delay, self._count, action))

    # TCP

    def _connect(self, order: OpenStream, now: float) -> None:
        conduct = self._servers.conduct(order.remote.address)
        self._connects.add(order.socket)

        def answer(then: float) -> None:
            if order.socket not in self._connects:
                return  # the network has given it up
            self._connects.remove(order.socket)
            listener = self._servers.find_listener(order.remote)
            code = errno.ETIMEDOUT if conduct.silent else conduct.errno
            if code or listener is None:
                code = code or errno.ECONNREFUSED
                error = None if code in (errno.ETIMEDOUT, errno.ECONNREFUSED) else _error(code, order.remote.address)
                self._network.stream_failed(order.socket, code, error, then)
            else:
                listener.offered(self._program().make_end(order.socket, order.guest, order.remote), then)

        self._after(_CONNECT_TIME if conduct.silent else conduct.delay, now, answer)

    def accept(self, remote: Endpoint, guest_address: bytes | None, port: int) -> StreamEnd:
        """An outsider connects to the guest.

        Raises:
            OSError: ECONNREFUSED: the network refuses it.
        """
        ends: list[StreamEnd] = []

        def fact(now: float) -> None:
            socket = self._network.stream_accepted(remote, guest_address, port, now)
            if socket is not None:
                found = self._network.stream_endpoints(socket)
                assert found is not None, "a connection that has just been made"
                ends.append(self._program().make_end(socket, found[0], remote))

        self.carrier.tell(fact)
        if not ends:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the network refuses this connection")
        return ends[0]

    # UDP

    def forward(self, remote: Endpoint, guest_address: bytes | None, port: int) -> GuestDatagramChannel:
        """An outsider exchanges datagrams with a port of the guest, through a forwarded port of its own."""
        sockets: list[SocketId] = []
        self.carrier.tell(lambda now: sockets.append(self._network.forward_added(guest_address, port, now)))
        socket = sockets[0]
        guest = Endpoint._make((guest_address or self._current(len(remote.address)), port))
        end = ChannelEnd(self, socket, guest, remote, lambda: self._remove_forward(socket))
        self._outsiders[socket] = end
        return GuestDatagramChannel(end)

    def _current(self, size: int) -> bytes:
        """The guest's configured address of this size; the unspecified one if it has none."""
        config = None if self.carrier.view is None else self.carrier.view.config
        family = None if config is None else config.ipv4 if size == 4 else config.ipv6
        return bytes(size) if family is None or family.address is None else family.address

    def _remove_forward(self, socket: SocketId) -> None:
        if self._outsiders.pop(socket, None) is not None and self.running:
            self.carrier.tell(lambda now: self._network.forward_removed(socket, now))

    def _send_outside(self, order: SendDatagram) -> None:
        end = self._outsiders[order.socket]
        if order.remote == end.destination:
            end.delivered(self, _delivery(order, end.guest))

    def _send(self, order: SendDatagram, now: float) -> None:
        opened = self._udp[order.socket]
        conduct = self._servers.conduct(order.remote.address)

        def arrive(then: float) -> None:
            if order.socket not in self._udp or conduct.silent:
                return
            server = self._servers.find_datagrams(order.remote)
            code = conduct.errno or (0 if server is not None else errno.ECONNREFUSED)
            if code or server is None:
                error = _error(code, order.remote.address)
                self._network.datagram_failed(order.socket, order.remote, error, bytes(order.data), then)
            else:
                server.delivered(self, _delivery(order, opened.guest))

        self._after(conduct.delay, now, arrive)

    def socket_of(self, place: Place) -> SocketId | None:
        """None: the answers of servers find their socket by the guest's endpoint. See `DatagramSockets`."""
        return None

    async def send_datagram(self, socket: SocketId | None, guest: Endpoint, source: Endpoint, data: bytes) -> None:
        """A server or an outsider sends a datagram to a socket; see `DatagramSockets`."""
        name = socket if socket in self._outsiders else None
        name = name or next((name for name, opened in reversed(self._udp.items()) if opened.guest == guest), None)
        if name is not None:
            self.carrier.tell(lambda now: self._network.datagram_received(name, source, data, 0, _TTL, 0, now))

    # ping

    def _ping(self, order: SendEcho, now: float) -> None:
        conduct = self._servers.conduct(order.remote)

        def answer(then: float) -> None:
            if order.socket not in self._pings or conduct.silent:
                return
            data = bytes(order.data)
            if conduct.errno:
                self._network.echo_failed(order.socket, order.sequence, _error(conduct.errno, order.remote), data, then)
            else:
                self._network.echo_received(order.socket, order.remote, order.sequence, data, _TTL, 0, then)

        self._after(conduct.delay, now, answer)


def _delivery(order: SendDatagram, guest: Endpoint) -> DeliverDatagram:
    """A datagram, as services get it."""
    return DeliverDatagram(order.socket, guest, order.remote, order.data, order.segment_size, order.ttl, order.tos)


def _error(code: int, offender: bytes) -> ExtendedError:
    """The error as the kernel reports it: with the ICMP message that causes it, if there is one."""
    version6 = len(offender) == 16
    if code not in _ICMP:
        return ExtendedError(code, ORIGIN_LOCAL, 0, 0, 0, None)
    kind, number = _ICMP[code][version6]
    return ExtendedError(code, ORIGIN_ICMPV6 if version6 else ORIGIN_ICMP, kind, number, 0, offender)
