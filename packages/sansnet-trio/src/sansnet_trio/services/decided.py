"""A connection of the guest that the program serves because a verdict says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sansnet_trio.services.streams import GuestStream

if TYPE_CHECKING:
    from sansnet_trio.services.carrier import Carrier
    from sansnet_trio.services.stream_end import StreamEnd

__all__ = ["DecidedStream"]


class DecidedStream:
    """The service, and the backlog, of one connection.

    Args:
        start: called with the stream when the handshake with the guest is complete.
    """

    __slots__ = ("_start",)

    def __init__(self, start: Callable[[GuestStream], None]) -> None:
        self._start = start

    def offered(self, end: StreamEnd, now: float) -> None:
        """The core orders to serve the connection: answer the guest's SYN."""
        end.backlog = self
        end.admit(now)

    def established(self, end: StreamEnd) -> None:
        """The handshake is complete."""
        end.backlog = None
        self._start(GuestStream(end))

    def vanished(self, end: StreamEnd) -> None:
        """The guest has given up."""

    def ended(self, carrier: Carrier) -> None:
        """The driver has ended."""
