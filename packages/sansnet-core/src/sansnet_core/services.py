"""The services of the program: the places at which the program itself is the other end of the guest's flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sansnet_core.addresses import Prefix
from sansnet_core.errors import UsageError
from sansnet_core.orders import SocketId

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

    @property
    def rank(self) -> tuple[int, bool]:
        """The larger one decides if two services match: the longer prefix, and then the one for a single port."""
        return (-1 if self.prefix is None else self.prefix.length, self.port is not None)


class ServiceTable:
    """All services of one network."""

    __slots__ = ("_services",)

    def __init__(self) -> None:
        self._services: list[ProgramService] = []
        """The one that decides first, first."""

    def __iter__(self) -> Iterator[ProgramService]:
        return iter(self._services)

    def add(self, service: ProgramService) -> None:
        """Add a service.

        Raises:
            UsageError: there is one at the same place.
        """
        if any(other[1:] == service[1:] for other in self._services):
            raise UsageError("service_added: there is a service at this place; call service_removed first")
        self._services.append(service)
        self._services.sort(key=lambda one: one.rank, reverse=True)

    def remove(self, socket: SocketId) -> None:
        """Remove a service, if it exists."""
        self._services = [one for one in self._services if one.socket != socket]

    def find(self, protocol: int, destination: bytes, port: int, *, own: bool) -> SocketId | None:
        """The service for a new flow of the guest; None if there is none.

        Args:
            protocol: IP protocol number.
            destination: 4 or 16 bytes.
            port: the destination's.
            own: whether the destination exists in the program only.
        """
        for service in self._services:
            if (
                service.protocol == protocol
                and service.port in (None, port)
                and (own if service.prefix is None else service.prefix.contains(destination))
            ):
                return service.socket
        return None
