"""The services of the program: the places at which the program itself is the other end of the guest's flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sansnet_core.addresses import Prefix
from sansnet_core.errors import UsageError
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import SocketId
from sansnet_core.prefixes import PrefixTable

__all__ = ["ProgramService", "ServiceTable"]


class ProgramService(NamedTuple):
    """One service.

    Attributes:
        socket: its name.
        protocol: IP protocol number of TCP or UDP.
        prefix: the destinations that it serves; None means every address that exists in the program only.
        port: the port that it serves; None means all.
    """

    socket: SocketId
    protocol: int
    prefix: Prefix | None
    port: int | None


@mypyc_attr(allow_interpreted_subclasses=True)
class ServiceTable:
    """All services of one network."""

    __slots__ = ("_everywhere", "_prefixes", "_services")

    def __init__(self) -> None:
        self._services: list[ProgramService] = []
        self._everywhere: dict[tuple[int, int | None], SocketId] = {}
        """Protocol and port -> the service for every address that exists in the program only."""
        self._prefixes: dict[tuple[int, int | None], PrefixTable[tuple[int, bool, SocketId]]] = {}
        """Protocol and port -> the services for prefixes. The larger value decides if two of them match."""

    def __bool__(self) -> bool:
        return bool(self._services)

    def __iter__(self) -> Iterator[ProgramService]:
        return iter(self._services)

    def check_free(self, protocol: int, prefix: Prefix | None, port: int | None) -> None:
        """Check that there is no service at a place.

        Raises:
            UsageError: there is one.
        """
        if any(other[1:] == (protocol, prefix, port) for other in self._services):
            raise UsageError("service_added: there is a service at this place; call service_removed first")

    def add(self, service: ProgramService) -> None:
        """Add a service, whose place is free."""
        self._services.append(service)
        self._index()

    def remove(self, socket: SocketId) -> None:
        """Remove a service, if it exists."""
        self._services = [one for one in self._services if one.socket != socket]
        self._index()

    def _index(self) -> None:
        self._everywhere.clear()
        prefixes: dict[tuple[int, int | None], list[tuple[Prefix, tuple[int, bool, SocketId]]]] = {}
        for socket, protocol, prefix, port in self._services:
            if prefix is None:
                self._everywhere[protocol, port] = socket
            else:
                rank = (prefix.length, port is not None, socket)
                prefixes.setdefault((protocol, port), []).append((prefix, rank))
        self._prefixes = {key: PrefixTable(items) for key, items in prefixes.items()}

    def find(self, protocol: int, destination: bytes, port: int, *, own: bool) -> SocketId | None:
        """The service for a new flow of the guest; None if there is none.

        The longest prefix decides, and then a service for one port before one for all.

        Args:
            protocol: IP protocol number.
            destination: 4 or 16 bytes.
            port: the destination's.
            own: whether the destination exists in the program only.
        """
        if not self._services:
            return None
        keys = (protocol, port), (protocol, None)
        tables = [table for key in keys if (table := self._prefixes.get(key)) is not None]
        found = [rank for table in tables if (rank := table.find(destination)) is not None]
        if found:
            return max(found)[2]
        return next((self._everywhere[key] for key in keys if key in self._everywhere), None) if own else None
