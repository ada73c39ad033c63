"""The trio driver of sansnet: carries frames between a guest's link, a `sansnet_core.Network` and the host's sockets.

Start with `open_guest`, which runs a command with a network of its own; `run_guest` does so as `trio.run_process`.
`attach` gives a network to an existing namespace, `open_machine` to a virtual machine, and `open_network` to the guest
of any link. All of them yield or have a `GuestNetwork`. `NamespaceOptions` and `NetworkOptions` say what the guest has,
`Services` are servers in the program, and a `Decider` decides about flows.

Below them is `Driver`, which runs a network over a `Link`. `Tap`, `UnixStream` and `VhostUserLink` are links.
`CommandGuest` and `AttachedGuest` make guests in network namespaces, and `MachineListener` accepts virtual machines.
`Forwards` opens ports. `read_host_for` reads the host's network; `make_plan` and `make_setup` make a guest's plan and
setup from it and from the options. All errors raised on purpose derive from `sansnet_core.SansnetError`.

Names that are not listed here are found in these modules, which are public too:

- `broker`: the process that opens files and watches the host for one that is confined, one module for each part.
- `control.impairments`, `control.policies`, `policies`: impairments and a policy that change while they are used, for
  programs with their own control socket.
- `deferred`: modules of other packages that are loaded at their first use.
- `dns`: a DNS server for guests; needs `sansnet-trio[dns]`.
- `forward.in_use`, `guest.errors`, `guest.hosts_file`, `hostinfo`: facts about the host and the guest.
- `front.ending`, `front.setup`, `front.qemu`, `front.stdio`, `groups`: the parts of `open_guest` and `open_machine`,
  for programs that make the guest themselves.
- `guest.child`, `guest.execute`, `guest.live_change`, `guest.socket_agent`: the parts of `CommandGuest` for programs
  with their own start.
- `links.machine_link`, `links.machine_listener`, `links.observed`, `links.passed_socket`: sockets of machines, and
  observed links.
- `links.tap`, `links.unix_stream`, `links.vhost_user`: links, each with the limits of its MTU.
- `linux`: system calls, /proc, privileges, children and netlink, one module each.
- `plan`: makes a guest's setup from options, one module for each part.
- `sandbox`, `sandbox.mode`, `sandbox.profiles`: the sandbox, which confines a process for good.
- `testing`, `testing.pytest_plugin`: a kit for tests, with guests in the same program, and fixtures of pytest.
- `words`: the words of messages for arguments of this library, which a command replaces by its options.

All other modules are internal. Names and modules are loaded when they are first used.

Example::

    async with open_guest(["curl", "http://10.0.2.2/"], NamespaceOptions.made_up(), services=services) as guest:
        status = await guest.wait()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sansnet_trio._version import __version__ as __version__

if TYPE_CHECKING:
    from sansnet_trio.audit.file import AuditFile
    from sansnet_trio.audit.following import Account, Accounts, follow
    from sansnet_trio.audit.learner import Learner
    from sansnet_trio.audit.log import AuditLog
    from sansnet_trio.audit.summary import Summary
    from sansnet_trio.control.commands import ControlCommands
    from sansnet_trio.control.server import ControlSocket
    from sansnet_trio.decisions import Decider, NewFlow, NoSuchFlow, PendingFlow, Serve, Verdict, hold_flow
    from sansnet_trio.driver import Driver
    from sansnet_trio.driver_statistics import DriverStatistics
    from sansnet_trio.events import Event, Lost, Subscription
    from sansnet_trio.forward.binding import ForwardError, ListenAddress
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.forward.port_forwards import PortForward
    from sansnet_trio.front.command import Guest, open_guest, run_guest
    from sansnet_trio.front.existing import attach
    from sansnet_trio.front.link import open_network
    from sansnet_trio.front.machine import open_machine
    from sansnet_trio.front.process import GuestProcess
    from sansnet_trio.front.qemu import Machine
    from sansnet_trio.guest.attached import AttachedGuest
    from sansnet_trio.guest.command import CommandGuest
    from sansnet_trio.guest.errors import CommandNotExecutable, CommandNotFound, GuestError
    from sansnet_trio.guest.live_change import GuestChange
    from sansnet_trio.guest.plan import GuestPlan, ReadyGuest
    from sansnet_trio.guest.socket_agent import GuestSockets
    from sansnet_trio.guest.target import ExistingNamespace
    from sansnet_trio.host.network_protocol import NetworkProtocol
    from sansnet_trio.host_watch import HostWatch
    from sansnet_trio.hostinfo import HostError, HostInfo, InterfaceAddress, Route, read_host
    from sansnet_trio.links import Link, LinkClosed, MtuLimits
    from sansnet_trio.links.machine_listener import ListenError, MachineListener
    from sansnet_trio.links.observed import CapturedLink, CaptureFile, ObservedLink
    from sansnet_trio.links.tap import Tap, open_tap
    from sansnet_trio.links.unix_stream import UnixStream
    from sansnet_trio.links.vhost_user import VhostUserLink
    from sansnet_trio.network import GuestNetwork
    from sansnet_trio.plan.host import read_host_for
    from sansnet_trio.plan.name_servers import RememberedNameServers
    from sansnet_trio.plan.options import NamespaceOptions, NetworkOptions, OptionsError
    from sansnet_trio.plan.proxies import parse_proxy, read_private
    from sansnet_trio.plan.qemu_arguments import machine_arguments
    from sansnet_trio.plan.setup import Setup, make_plan, make_setup
    from sansnet_trio.recording.failures import FailureReports, NetworkFailed
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.services.datagrams import GuestDatagramChannel, GuestDatagrams, Peer
    from sansnet_trio.services.listener import GuestListener
    from sansnet_trio.services.services import Services
    from sansnet_trio.services.streams import GuestStream

__all__ = [
    "Account",
    "Accounts",
    "AttachedGuest",
    "AuditFile",
    "AuditLog",
    "CaptureFile",
    "CapturedLink",
    "CommandGuest",
    "CommandNotExecutable",
    "CommandNotFound",
    "ControlCommands",
    "ControlSocket",
    "Decider",
    "Driver",
    "DriverStatistics",
    "Event",
    "ExistingNamespace",
    "FailureReports",
    "ForwardError",
    "Forwards",
    "Guest",
    "GuestChange",
    "GuestDatagramChannel",
    "GuestDatagrams",
    "GuestError",
    "GuestListener",
    "GuestNetwork",
    "GuestPlan",
    "GuestProcess",
    "GuestSockets",
    "GuestStream",
    "HostError",
    "HostInfo",
    "HostWatch",
    "InterfaceAddress",
    "Learner",
    "Link",
    "LinkClosed",
    "ListenAddress",
    "ListenError",
    "Lost",
    "Machine",
    "MachineListener",
    "MtuLimits",
    "NamespaceOptions",
    "NetworkFailed",
    "NetworkOptions",
    "NetworkProtocol",
    "NewFlow",
    "NoSuchFlow",
    "ObservedLink",
    "OptionsError",
    "Peer",
    "PendingFlow",
    "PortForward",
    "ReadyGuest",
    "RecordingFile",
    "RememberedNameServers",
    "Route",
    "Serve",
    "Services",
    "Setup",
    "Subscription",
    "Summary",
    "Tap",
    "UnixStream",
    "Verdict",
    "VhostUserLink",
    "attach",
    "follow",
    "hold_flow",
    "machine_arguments",
    "make_plan",
    "make_setup",
    "open_guest",
    "open_machine",
    "open_network",
    "open_tap",
    "parse_proxy",
    "read_host",
    "read_host_for",
    "read_private",
    "run_guest",
]

_HOMES = {
    "audit.file": ("AuditFile",),
    "audit.following": ("Account", "Accounts", "follow"),
    "audit.learner": ("Learner",),
    "audit.log": ("AuditLog",),
    "audit.summary": ("Summary",),
    "control.commands": ("ControlCommands",),
    "control.server": ("ControlSocket",),
    "decisions": ("Decider", "NewFlow", "NoSuchFlow", "PendingFlow", "Serve", "Verdict", "hold_flow"),
    "driver": ("Driver",),
    "driver_statistics": ("DriverStatistics",),
    "events": ("Event", "Lost", "Subscription"),
    "forward.binding": ("ForwardError", "ListenAddress"),
    "forward.forwards": ("Forwards",),
    "forward.port_forwards": ("PortForward",),
    "front.command": ("Guest", "open_guest", "run_guest"),
    "front.existing": ("attach",),
    "front.link": ("open_network",),
    "front.machine": ("open_machine",),
    "front.qemu": ("Machine",),
    "front.process": ("GuestProcess",),
    "guest.attached": ("AttachedGuest",),
    "guest.command": ("CommandGuest",),
    "guest.errors": ("CommandNotExecutable", "CommandNotFound", "GuestError"),
    "guest.live_change": ("GuestChange",),
    "guest.plan": ("GuestPlan", "ReadyGuest"),
    "guest.socket_agent": ("GuestSockets",),
    "guest.target": ("ExistingNamespace",),
    "host.network_protocol": ("NetworkProtocol",),
    "host_watch": ("HostWatch",),
    "hostinfo": ("HostError", "HostInfo", "InterfaceAddress", "Route", "read_host"),
    "links": ("Link", "LinkClosed", "MtuLimits"),
    "links.machine_listener": ("ListenError", "MachineListener"),
    "links.observed": ("CapturedLink", "CaptureFile", "ObservedLink"),
    "links.tap": ("Tap", "open_tap"),
    "links.unix_stream": ("UnixStream",),
    "links.vhost_user": ("VhostUserLink",),
    "network": ("GuestNetwork",),
    "plan.host": ("read_host_for",),
    "plan.name_servers": ("RememberedNameServers",),
    "plan.options": ("NamespaceOptions", "NetworkOptions", "OptionsError"),
    "plan.proxies": ("parse_proxy", "read_private"),
    "plan.qemu_arguments": ("machine_arguments",),
    "plan.setup": ("Setup", "make_plan", "make_setup"),
    "recording.failures": ("FailureReports", "NetworkFailed"),
    "recording.file": ("RecordingFile",),
    "services.datagrams": ("GuestDatagramChannel", "GuestDatagrams", "Peer"),
    "services.listener": ("GuestListener",),
    "services.services": ("Services",),
    "services.streams": ("GuestStream",),
}


if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562): a guest can be forked before trio is loaded."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
