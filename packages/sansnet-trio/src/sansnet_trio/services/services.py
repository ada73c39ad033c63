"""The services of a program, for all guests that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from sansnet_core import ConfigError
from sansnet_trio.groups import only, raise_alone
from sansnet_trio.linux.descriptors import Uncopyable
from sansnet_trio.services.datagrams import DatagramQueue, GuestDatagrams
from sansnet_trio.services.listener import AcceptQueue, GuestListener
from sansnet_trio.services.places import TCP, UDP, Place, in_use, make_place
from sansnet_trio.services.streams import GuestStream

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyPrefix
    from sansnet_trio.services.program_sockets import ProgramSockets

__all__ = ["Services"]

_BACKLOG: Final = 128


class Services(Uncopyable):
    """Services that the program offers to guests, from its own tasks and without sockets of the host.

    Give it to `open_network`, `open_guest` or `Driver`, as often as you like: each guest gets all its services. They
    can be added and closed before, during and after the time in which networks run. The most specific service decides:
    that with the longest prefix, and then that for one port before that for all ports.
    """

    def __init__(self) -> None:
        self._places: dict[Place, AcceptQueue | DatagramQueue] = {}
        self._drivers: dict[ProgramSockets, None] = {}

    def __repr__(self) -> str:
        return f"<Services: {', '.join(map(str, self._places)) or 'none'}>"

    def listen_tcp(self, port: int | None, *, host: AnyPrefix | None = None, backlog: int = _BACKLOG) -> GuestListener:
        """Accept the guests' TCP connections to a place.

        Args:
            port: the port, or None for all.
            host: the address or prefix that the guests connect to; None for every address that exists in the program
                only: the network's own addresses and `NetworkConfig.virtual`.
            backlog: how many connections of each guest may wait to be accepted. More than that get no answer yet.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE: there is a service at this place.
        """
        if backlog < 1:
            raise ConfigError(f"backlog: {backlog} is less than 1; give the number of connections that may wait")
        place = make_place(TCP, host, port)
        self._check(place)
        queue = AcceptQueue(place, backlog, lambda: self._remove(place))
        self._add(place, queue)
        return GuestListener(queue)

    async def serve_tcp(
        self,
        handler: Callable[[GuestStream], Awaitable[object]],
        port: int | None,
        *,
        host: AnyPrefix | None = None,
        backlog: int = _BACKLOG,
        handler_nursery: trio.Nursery | None = None,
        task_status: trio.TaskStatus[GuestListener] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections and run a handler for each in a task of its own, until cancelled; as `trio.serve_tcp`.

        Args:
            handler: called with the stream of a connection, which is closed when it returns. An exception that it
                raises ends all.
            port: see `listen_tcp`.
            host: see `listen_tcp`.
            backlog: see `listen_tcp`.
            handler_nursery: runs the handlers; None for one inside of this call.
            task_status: passed by `nursery.start`, which returns the listener.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE: there is a service at this place.
            Exception: the exception of a handler; a group only if several failed.
        """
        listener = self.listen_tcp(port, host=host, backlog=backlog)
        try:
            await trio.serve_listeners(
                handler, [listener], handler_nursery=handler_nursery, task_status=_First(task_status)
            )
        except BaseExceptionGroup as group:
            raise_alone(only(group))

    def open_datagrams(self, port: int | None, *, host: AnyPrefix | None = None) -> GuestDatagrams:
        """Receive the guests' UDP datagrams to a place, and answer them.

        Args:
            port: the port, or None for all.
            host: see `listen_tcp`.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE: there is a service at this place.
        """
        place = make_place(UDP, host, port)
        self._check(place)
        queue = DatagramQueue(place, lambda: self._remove(place))
        self._add(place, queue)
        return GuestDatagrams(queue)

    def _check(self, place: Place) -> None:
        if place in self._places or any(sockets.serves(place) for sockets in self._drivers):
            raise in_use(place)

    def _add(self, place: Place, service: AcceptQueue | DatagramQueue) -> None:
        self._places[place] = service
        for sockets in self._drivers:
            _serve(sockets, place, service)

    def _remove(self, place: Place) -> None:
        del self._places[place]
        for sockets in self._drivers:
            sockets.remove(place)

    def driver_started(self, sockets: ProgramSockets) -> None:
        """Called by a driver that begins to run: it serves all services, and those that are added later."""
        for place, service in self._places.items():
            _serve(sockets, place, service)
        self._drivers[sockets] = None

    def driver_ended(self, sockets: ProgramSockets) -> None:
        """Called by a driver that has ended."""
        self._drivers.pop(sockets, None)


def _serve(sockets: ProgramSockets, place: Place, service: AcceptQueue | DatagramQueue) -> None:
    if isinstance(service, AcceptQueue):
        sockets.add_streams(place, service)
    else:
        sockets.add_datagrams(place, service)


class _First:
    """Reports the only listener, where `trio.serve_listeners` reports a list."""

    def __init__(self, status: trio.TaskStatus[GuestListener]) -> None:
        self._status = status

    def started(self, value: Any = None) -> None:
        (listener,) = value
        self._status.started(listener)
