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

from sansnet_trio._version import __version__ as __version__

if TYPE_CHECKING:
    from sansnet_trio.agent import GuestSockets
    from sansnet_trio.attached import AttachedGuest
    from sansnet_trio.capture import CapturedLink, CaptureFile
    from sansnet_trio.driver import Driver, DriverStatistics
    from sansnet_trio.existing import Existing
    from sansnet_trio.forwards import ForwardError, Forwards
    from sansnet_trio.hostinfo import HostError, HostInfo, InterfaceAddress, Route, read_host
    from sansnet_trio.links import Link, LinkClosed
    from sansnet_trio.links.tap import Tap, open_tap
    from sansnet_trio.links.unix_stream import UnixStream
    from sansnet_trio.links.vhost_user import VhostUserLink
    from sansnet_trio.listener import GuestListener, ListenError
    from sansnet_trio.machine import Machine
    from sansnet_trio.namespace import (
        CommandNotExecutable,
        CommandNotFound,
        Guest,
        GuestError,
        GuestPlan,
        ReadyGuest,
    )

__all__ = [
    "AttachedGuest",
    "CaptureFile",
    "CapturedLink",
    "CommandNotExecutable",
    "CommandNotFound",
    "Driver",
    "DriverStatistics",
    "Existing",
    "ForwardError",
    "Forwards",
    "Guest",
    "GuestError",
    "GuestListener",
    "GuestPlan",
    "GuestSockets",
    "HostError",
    "HostInfo",
    "InterfaceAddress",
    "Link",
    "LinkClosed",
    "ListenError",
    "Machine",
    "ReadyGuest",
    "Route",
    "Tap",
    "UnixStream",
    "VhostUserLink",
    "open_tap",
    "read_host",
]

_HOMES = {
    "agent": ("GuestSockets",),
    "attached": ("AttachedGuest",),
    "capture": ("CaptureFile", "CapturedLink"),
    "driver": ("Driver", "DriverStatistics"),
    "existing": ("Existing",),
    "forwards": ("ForwardError", "Forwards"),
    "hostinfo": ("HostError", "HostInfo", "InterfaceAddress", "Route", "read_host"),
    "links": ("Link", "LinkClosed"),
    "links.tap": ("Tap", "open_tap"),
    "links.unix_stream": ("UnixStream",),
    "links.vhost_user": ("VhostUserLink",),
    "listener": ("GuestListener", "ListenError"),
    "machine": ("Machine",),
    "namespace": ("CommandNotExecutable", "CommandNotFound", "Guest", "GuestError", "GuestPlan", "ReadyGuest"),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for (PEP 562), so that guests can be forked before trio is loaded."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
