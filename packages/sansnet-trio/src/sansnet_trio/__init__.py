"""The trio driver of sansnet: carries frames between a guest's link, a `sansnet_core.Network` and the host's sockets.

Example:
    fd, config = open_tap("sansnet0", mtu=65520)
    network = Network(NetworkConfig(link=config, ipv4=...), now=trio.current_time(), secret=os.urandom(16))
    async with trio.open_nursery() as nursery:
        await nursery.start(Driver(network, Tap(fd, config)).run)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sansnet_trio.driver import Driver, DriverStatistics
    from sansnet_trio.forward.forwards import ForwardError, Forwards
    from sansnet_trio.guest.attached import AttachedGuest
    from sansnet_trio.guest.command import (
        CommandGuest,
        CommandNotExecutable,
        CommandNotFound,
        GuestError,
        GuestPlan,
        ReadyGuest,
    )
    from sansnet_trio.guest.socket_agent import GuestSockets
    from sansnet_trio.guest.target import ExistingNamespace
    from sansnet_trio.host.network_protocol import NetworkProtocol
    from sansnet_trio.hostinfo import HostError, HostInfo, InterfaceAddress, Route, read_host
    from sansnet_trio.links import Link, LinkClosed
    from sansnet_trio.links.machine_listener import ListenError, MachineListener
    from sansnet_trio.links.observed import CapturedLink, CaptureFile
    from sansnet_trio.links.tap import Tap, open_tap
    from sansnet_trio.links.unix_stream import UnixStream
    from sansnet_trio.links.vhost_user import VhostUserLink

__all__ = [
    "AttachedGuest",
    "CaptureFile",
    "CapturedLink",
    "CommandNotExecutable",
    "CommandNotFound",
    "Driver",
    "DriverStatistics",
    "ExistingNamespace",
    "ForwardError",
    "Forwards",
    "CommandGuest",
    "GuestError",
    "MachineListener",
    "GuestPlan",
    "GuestSockets",
    "HostError",
    "HostInfo",
    "InterfaceAddress",
    "Link",
    "LinkClosed",
    "ListenError",
    "NetworkProtocol",
    "ReadyGuest",
    "Route",
    "Tap",
    "UnixStream",
    "VhostUserLink",
    "open_tap",
    "read_host",
]

_HOMES = {
    "driver": ("Driver", "DriverStatistics"),
    "forward.binding": ("ForwardError",),
    "forward.forwards": ("Forwards",),
    "guest.attached": ("AttachedGuest",),
    "guest.command": ("CommandGuest",),
    "guest.plan": ("CommandNotExecutable", "CommandNotFound", "GuestError", "GuestPlan", "ReadyGuest"),
    "guest.socket_agent": ("GuestSockets",),
    "guest.target": ("ExistingNamespace",),
    "host.network_protocol": ("NetworkProtocol",),
    "hostinfo": ("HostError", "HostInfo", "InterfaceAddress", "Route", "read_host"),
    "links": ("Link", "LinkClosed"),
    "links.machine_listener": ("MachineListener", "ListenError"),
    "links.observed": ("CaptureFile", "CapturedLink"),
    "links.tap": ("Tap", "open_tap"),
    "links.unix_stream": ("UnixStream",),
    "links.vhost_user": ("VhostUserLink",),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562), so that guests can be forked before trio is loaded."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
