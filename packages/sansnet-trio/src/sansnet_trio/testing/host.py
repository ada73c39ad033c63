"""A host in the same program: the network's orders are carried out by servers of a test, and not by sockets."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from errno import ECONNREFUSED, ENETDOWN
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from sansnet_core import ConfigError, Endpoint, Prefix, addresses
from sansnet_trio.services.datagrams import DatagramQueue, GuestDatagramChannel, GuestDatagrams
from sansnet_trio.services.listener import AcceptQueue, GuestListener
from sansnet_trio.services.places import TCP, UDP, Place, in_use, make_place
from sansnet_trio.services.streams import GuestStream
from sansnet_trio.testing.host_sockets import Conduct, SimulatedSockets

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyAddress, AnyPrefix
    from sansnet_trio.host.socket_context import SocketContext
    from sansnet_trio.host.sockets import FlowDecisions, HostSockets
    from sansnet_trio.services.program_sockets import ProgramSockets

__all__ = ["SimulatedHost"]

_OUTSIDER: Final = ("198.51.100.7", 0)
_EPHEMERAL: Final = range(32768, 61000)
"""Ports of outsiders that have no port of their own (ip_local_port_range in ip(7))."""
T = TypeVar("T", AcceptQueue, DatagramQueue)


class SimulatedHost:
    """The host and all networks behind it, as a guest's network reaches them. No socket is made.

    Servers of the test program take the place of the sockets that a driver would open. They are reached by the
    addresses that the network uses on the host's side, after the translation of addresses and after verdicts.

    An address without a server is that of a node that runs none: it refuses TCP and UDP, and answers pings. `refuse`,
    `blackhole` and `delay` change the conduct of addresses; the latest call for an address counts.

    Give it to `open_simulated_guest`, `open_network` or `Driver`; several networks may share one.
    """

    def __init__(self) -> None:
        self._listeners: dict[Place, AcceptQueue] = {}
        self._datagrams: dict[Place, DatagramQueue] = {}
        self._conducts: list[tuple[Prefix, Conduct]] = []
        self._sockets: list[SimulatedSockets] = []
        self._ports = cycle(_EPHEMERAL)

    # servers

    def listen_tcp(self, port: int | None, *, host: AnyPrefix | None = None, backlog: int = 128) -> GuestListener:
        """Accept connections to a place.

        Args:
            port: the port, or None for all.
            host: the address or prefix of the server on the host's side; None for every address.
            backlog: how many connections may wait to be accepted; further ones get no answer yet.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE.
        """
        if backlog < 1:
            raise ConfigError(f"backlog: {backlog} is less than 1; give the number of connections that may wait")
        place = make_place(TCP, host, port)
        queue = AcceptQueue(place, backlog, lambda: self._forget(place))
        return GuestListener(self._add(self._listeners, place, queue))

    async def serve_tcp(
        self,
        handler: Callable[[GuestStream], Awaitable[object]],
        port: int | None,
        *,
        host: AnyPrefix | None = None,
        backlog: int = 128,
        task_status: trio.TaskStatus[GuestListener] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a handler for each connection in a task of its own, until cancelled; as `trio.serve_tcp`.

        Args:
            handler: called with the stream of a connection, which is closed when it returns.
            port: see `listen_tcp`.
            host: see `listen_tcp`.
            backlog: see `listen_tcp`.
            task_status: passed by `nursery.start`, which returns the listener.
        """
        listener = self.listen_tcp(port, host=host, backlog=backlog)
        await trio.serve_listeners(handler, [listener], task_status=_First(task_status))

    def open_datagrams(self, port: int | None, *, host: AnyPrefix | None = None) -> GuestDatagrams:
        """Receive UDP datagrams to a place, and answer them.

        Args:
            port: the port, or None for all.
            host: see `listen_tcp`.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE.
        """
        place = make_place(UDP, host, port)
        queue = DatagramQueue(place, lambda: self._forget(place))
        return GuestDatagrams(self._add(self._datagrams, place, queue))

    def _add(self, registry: dict[Place, T], place: Place, service: T) -> T:
        if place in registry:
            raise in_use(place)
        registry[place] = service
        return service

    def _forget(self, place: Place) -> None:
        (self._listeners if place.protocol == TCP else self._datagrams).pop(place, None)

    # conduct

    def refuse(self, where: AnyPrefix, errno: int = ECONNREFUSED) -> None:
        """Let connections, datagrams and pings to addresses fail.

        Args:
            where: an address or a prefix, on the host's side.
            errno: the errno of the host's socket, such as EHOSTUNREACH.
        """
        self._conducts.append((Prefix.of(where), Conduct(errno=errno)))

    def blackhole(self, where: AnyPrefix) -> None:
        """Let connections, datagrams and pings to addresses get no answer. Connections fail after 127 seconds.

        Args:
            where: an address or a prefix, on the host's side.
        """
        self._conducts.append((Prefix.of(where), Conduct(silent=True)))

    def delay(self, where: AnyPrefix, seconds: float) -> None:
        """Let connections and datagrams to addresses reach their server later, and pings their answer.

        Data of a connection are not delayed; the guest's cable may be (`open_simulated_guest`).

        Args:
            where: an address or a prefix, on the host's side.
            seconds: the delay; 0 also ends `refuse` and `blackhole`.
        """
        self._conducts.append((Prefix.of(where), Conduct(delay=seconds)))

    def conduct(self, address: bytes) -> Conduct:
        """The conduct of an address, 4 or 16 bytes."""
        return next((conduct for where, conduct in reversed(self._conducts) if where.contains(address)), Conduct())

    # outsiders

    async def open_tcp_stream(
        self,
        port: int,
        *,
        guest: AnyAddress | None = None,
        source: tuple[AnyAddress, int] = _OUTSIDER,
    ) -> GuestStream:
        """Connect to a port of the guest as an outsider does, by a forwarded port.

        Args:
            port: the guest's port.
            guest: its address; None for the current one of the source's family.
            source: address and port of the outsider, as the host sees them; port 0 takes one that was not used lately.

        Raises:
            OSError: ECONNREFUSED, the network or the guest refuses it; ENETDOWN, no network runs with this host; others
                as the guest answers.
        """
        await trio.lowlevel.checkpoint()
        remote = self._outsider(source)
        end = self._running().accept(remote, None if guest is None else addresses.packed(guest), port)
        try:
            await end.wait_established()
        except BaseException:
            end.release(abort=True)
            raise
        return GuestStream(end)

    async def open_udp(
        self, port: int, *, guest: AnyAddress | None = None, source: tuple[AnyAddress, int] = _OUTSIDER
    ) -> GuestDatagramChannel:
        """Exchange datagrams with a port of the guest as an outsider does, by a forwarded port.

        Args:
            port: see `open_tcp_stream`.
            guest: see `open_tcp_stream`.
            source: see `open_tcp_stream`.

        Raises:
            OSError: ENETDOWN, no network runs with this host.
        """
        await trio.lowlevel.checkpoint()
        remote = self._outsider(source)
        return self._running().forward(remote, None if guest is None else addresses.packed(guest), port)

    def _outsider(self, source: tuple[AnyAddress, int]) -> Endpoint:
        address, port = source
        return Endpoint(address, port or next(self._ports))

    def _running(self) -> SimulatedSockets:
        """The sockets of the newest driver that runs."""
        running = [each for each in self._sockets if each.running]
        if not running:
            raise OSError(ENETDOWN, f"{os.strerror(ENETDOWN)}: no network runs with this host")
        return running[-1]

    def make_sockets(
        self, context: SocketContext, decisions: FlowDecisions | None, program: Callable[[], ProgramSockets]
    ) -> HostSockets:
        """Called by a driver: make the sockets that carry out its orders; see `Host`."""
        self._sockets.append(SimulatedSockets(context, decisions, program, self))
        return self._sockets[-1]

    def find_listener(self, endpoint: Endpoint) -> AcceptQueue | None:
        """The server for connections to an endpoint."""
        return _find(self._listeners, endpoint)

    def find_datagrams(self, endpoint: Endpoint) -> DatagramQueue | None:
        """The server for datagrams to an endpoint."""
        return _find(self._datagrams, endpoint)


def _find(registry: dict[Place, T], endpoint: Endpoint) -> T | None:
    """The most specific one: the longest prefix, and then one port before all."""
    found = [
        place
        for place in registry
        if (place.prefix is None or place.prefix.contains(endpoint.address)) and place.port in (None, endpoint.port)
    ]
    best = max(
        found,
        key=lambda place: (-1 if place.prefix is None else place.prefix.length, place.port is not None),
        default=None,
    )
    return None if best is None else registry[best]


class _First:
    """Reports the only listener, where `trio.serve_listeners` reports a list."""

    def __init__(self, status: trio.TaskStatus[GuestListener]) -> None:
        self._status = status

    def started(self, value: Any = None) -> None:
        (listener,) = value
        self._status.started(listener)
