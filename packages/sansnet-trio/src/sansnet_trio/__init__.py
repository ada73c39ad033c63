"""The trio driver of sansnet: carries frames between a guest's link, a `sansnet_core.Network` and the host's sockets.

Reading order: `Driver` runs a network over a `Link`; `Tap`, `UnixStream` and `VhostUserLink` are links; `CommandGuest`
and `AttachedGuest` make guests in network namespaces, and `MachineListener` accepts virtual machines; `Forwards` opens
ports. `read_host` reads the host's network; `make_plan` and `make_setup` decide from it and from `NetworkOptions` what
a guest gets.

Example::

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
    from sansnet_trio.driver import Driver, DriverStatistics
    from sansnet_trio.forward.binding import ForwardError
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.guest.attached import AttachedGuest
    from sansnet_trio.guest.command import CommandGuest
    from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError
    from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
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
    from sansnet_trio.plan.host import read_host_for
    from sansnet_trio.plan.options import NamespaceOptions, NetworkOptions, OptionsError
    from sansnet_trio.plan.qemu_arguments import machine_arguments
    from sansnet_trio.plan.setup import Setup, make_plan, make_setup

__all__ = [
    "AttachedGuest",
    "CaptureFile",
    "CapturedLink",
    "CommandGuest",
    "CommandNotExecutable",
    "CommandNotFound",
    "Driver",
    "DriverStatistics",
    "ExistingNamespace",
    "ForwardError",
    "Forwards",
    "GuestError",
    "GuestPlan",
    "GuestSockets",
    "HostError",
    "HostInfo",
    "InterfaceAddress",
    "Link",
    "LinkClosed",
    "ListenError",
    "MachineListener",
    "NamespaceOptions",
    "NetworkOptions",
    "NetworkProtocol",
    "OptionsError",
    "ReadyGuest",
    "Route",
    "Setup",
    "Tap",
    "UnixStream",
    "VhostUserLink",
    "machine_arguments",
    "make_plan",
    "make_setup",
    "open_tap",
    "read_host",
    "read_host_for",
]

_HOMES = {
    "driver": ("Driver", "DriverStatistics"),
    "forward.binding": ("ForwardError",),
    "forward.forwards": ("Forwards",),
    "guest.attached": ("AttachedGuest",),
    "guest.command": ("CommandGuest",),
    "guest.errors": ("CommandNotExecutable", "CommandNotFound", "GuestError"),
    "guest.plan": ("GuestPlan", "ReadyGuest"),
    "guest.socket_agent": ("GuestSockets",),
    "guest.target": ("ExistingNamespace",),
    "host.network_protocol": ("NetworkProtocol",),
    "hostinfo": ("HostError", "HostInfo", "InterfaceAddress", "Route", "read_host"),
    "links": ("Link", "LinkClosed"),
    "links.machine_listener": ("ListenError", "MachineListener"),
    "links.observed": ("CaptureFile", "CapturedLink"),
    "links.tap": ("Tap", "open_tap"),
    "links.unix_stream": ("UnixStream",),
    "links.vhost_user": ("VhostUserLink",),
    "plan.host": ("read_host_for",),
    "plan.options": ("NamespaceOptions", "NetworkOptions", "OptionsError"),
    "plan.qemu_arguments": ("machine_arguments",),
    "plan.setup": ("Setup", "make_plan", "make_setup"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): a guest can be forked before trio is loaded."""
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
