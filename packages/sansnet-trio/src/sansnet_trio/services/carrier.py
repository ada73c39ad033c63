"""The state that all services of one driver share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sansnet_trio.host.socket_context import SocketContext

if TYPE_CHECKING:
    from sansnet_core import FlowReport, NetworkConfig, NetworkStatistics, Notice

__all__ = ["Carrier", "NetworkView", "Tell"]

Tell: TypeAlias = Callable[[Callable[[float], None]], None]
"""`Driver.tell`."""


class NetworkView(Protocol):
    """The network of a guest, as its streams refer to it. It is a `GuestNetwork`."""

    @property
    def config(self) -> NetworkConfig:
        """Its present configuration."""

    def flows(self) -> list[FlowReport]:
        """Its present flows."""

    def statistics(self) -> NetworkStatistics:
        """Its counters."""

    def publish(self, notice: Notice) -> None:
        """Give its subscribers a notice that the program made."""

    def end(self, reason: Exception) -> None:
        """The driver fails, and its streams will break."""


class Carrier:
    """One driver, as the streams and sockets of the program use it.

    Attributes:
        context: the network, and whether the guest's link has room.
        tell: tells the network a fact, and carries out what follows.
        view: the guest's network for programs; None if the program made the driver itself.
        running: whether the driver runs.
    """

    __slots__ = ("context", "running", "tell", "view")

    def __init__(self, context: SocketContext, tell: Tell) -> None:
        self.context = context
        self.tell = tell
        self.view: NetworkView | None = None
        self.running = False
