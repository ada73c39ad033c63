"""A guest's network as data: frames and socket facts in, frames and socket orders out.

Reading order: `Network` is what a driver talks to; `NetworkConfig` says what the network is like; the orders
(`OpenStream` and the others) say what a driver has to do; `capture` and `summary` serve people who look at frames.
The core does no I/O, reads no clock and no randomness, and depends on nothing but the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sansnet_core.config import Ipv4Config, Ipv6Config, Limits, LinkConfig, NetworkConfig, UdpFiltering
from sansnet_core.errors import ConfigError, Reason, SansnetError, UsageError

if TYPE_CHECKING:
    from sansnet_core.dropped import Dropped
    from sansnet_core.network import Network, NetworkStatistics
    from sansnet_core.notices import (
        FlowClosed,
        FlowOpened,
        FlowRefused,
        FlowReport,
        LeaseGiven,
        NameAsked,
        Notice,
    )
    from sansnet_core.orders import (
        Buffer,
        CloseSocket,
        Endpoint,
        ExtendedError,
        Frame,
        KeepAlive,
        OpenDatagram,
        OpenEcho,
        OpenStream,
        Order,
        ResumeStream,
        SendDatagram,
        SendEcho,
        SendStream,
        ShutdownStream,
        SocketId,
    )

__all__ = [
    "Order",
    "Buffer",
    "CloseSocket",
    "ConfigError",
    "Dropped",
    "Endpoint",
    "ExtendedError",
    "FlowClosed",
    "FlowOpened",
    "FlowRefused",
    "FlowReport",
    "Frame",
    "Ipv4Config",
    "Ipv6Config",
    "KeepAlive",
    "LeaseGiven",
    "Limits",
    "LinkConfig",
    "NameAsked",
    "Network",
    "NetworkConfig",
    "NetworkStatistics",
    "Notice",
    "OpenDatagram",
    "OpenEcho",
    "OpenStream",
    "Reason",
    "ResumeStream",
    "SansnetError",
    "SendDatagram",
    "SendEcho",
    "SendStream",
    "ShutdownStream",
    "SocketId",
    "UdpFiltering",
    "UsageError",
]


_NETWORK = ("Network", "NetworkStatistics")
_NOTICES = ("FlowClosed", "FlowOpened", "FlowRefused", "FlowReport", "LeaseGiven", "NameAsked", "Notice")


def __getattr__(name: str) -> Any:
    """Load the rest when it is first asked for (PEP 562): the command forks a guest with the configuration alone."""
    if name in _NETWORK:
        from sansnet_core import network

        return getattr(network, name)
    if name == "Dropped":
        from sansnet_core import dropped

        return dropped.Dropped
    if name in _NOTICES:
        from sansnet_core import notices

        return getattr(notices, name)
    if name in __all__:
        from sansnet_core import orders

        return getattr(orders, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
