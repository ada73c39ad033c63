"""The host's name servers, and which of them are silent."""

from __future__ import annotations

from math import inf
from typing import Final

from sansnet_core.orders import Endpoint

__all__ = ["NameServers"]

SILENCE: Final = 60.0
"""Seconds for which a server that did not answer is asked after the others."""


class NameServers:
    """The name servers of one network, and which of them did not answer lately.

    Args:
        servers: of the host, in order.

    Attributes:
        servers: as above.
    """

    __slots__ = ("_silent", "servers")

    def __init__(self, servers: tuple[Endpoint, ...]) -> None:
        self.servers = servers
        self._silent: dict[Endpoint, float] = {}
        """Server -> the time until which it is asked last."""

    def in_order(self, now: float) -> tuple[Endpoint, ...]:
        """The servers in the order to ask them in: the host's, but silent ones last."""
        return tuple(sorted(self.servers, key=lambda server: self._silent.get(server, -inf) > now))

    def timed_out(self, server: Endpoint, now: float) -> None:
        """Note that a server has not answered in time."""
        self._silent[server] = now + SILENCE

    def answered(self, server: Endpoint) -> None:
        """Note that a server has answered, whatever it was."""
        self._silent.pop(server, None)
