"""The place of a service: the destinations and the port at which the guest reaches it."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from sansnet_core import ConfigError, Prefix
from sansnet_core.addresses import AnyPrefix

__all__ = ["TCP", "UDP", "Place", "in_use", "make_place"]

TCP = 6
UDP = 17


class Place(NamedTuple):
    """Where the guest reaches a service.

    Attributes:
        protocol: IP protocol number.
        prefix: the destinations; None for all addresses that exist in the program only.
        port: the destination port; None for all.
    """

    protocol: int
    prefix: Prefix | None
    port: int | None

    def __str__(self) -> str:
        protocol = "TCP" if self.protocol == TCP else "UDP"
        port = "all ports" if self.port is None else f"port {self.port}"
        return f"{protocol} {port} of {'all addresses of the program' if self.prefix is None else self.prefix}"


def make_place(protocol: int, host: AnyPrefix | None, port: int | None) -> Place:
    """Make a place.

    Raises:
        ConfigError: the port or the address is none.
    """
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536):
        raise ConfigError(f"port: {port!r} is not a port; give 1 to 65535, or None for all ports")
    try:
        prefix = None if host is None else Prefix.of(host)
    except ConfigError as error:
        raise ConfigError(f"host: {error}") from None
    return Place(protocol, prefix, port)


def in_use(place: Place) -> OSError:
    """The error for a place that has a service already."""
    return OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {place} is served already")
