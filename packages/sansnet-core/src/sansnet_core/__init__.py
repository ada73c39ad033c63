"""A guest's network as data: frames and socket facts in, frames and socket orders out.

Start with `Network`, which a driver talks to, `NetworkConfig`, which describes the network, and the orders
(`OpenStream` and the others), which a driver must execute. The core does no I/O, reads no clock, uses no randomness
and depends on the standard library alone. All errors raised on purpose derive from `SansnetError`.

Names that are not listed here are found in these modules, which are public too:

- `addresses`: IP addresses and endpoints, as bytes and as text.
- `config`, `errors`, `notices`, `orders`: where the names listed here are defined, with their constants.
- `fields`: types of fields of records that hold addresses, networks and ports.
- `impairment`: a bad network: delay, rate, and frames that are lost or changed.
- `link`: frames in a byte stream (`link.stream`).
- `pcap`, `pcapng`: file formats of captures.
- `policy`: rules about flows and names, their text form and files, and verdicts about new flows.
- `ports`: forwarded ports as data, and the grammar of their specifications.
- `recording`: recordings of the inputs of a network, and their replay.
- `records`: the base class of configurations, and a function that copies one with changes.
- `summary`: one line of text per frame.
- `testing`, `testing.packets`: a kit for tests: a guest, a host and cables in virtual time; frames, built and read.
- `testing.operations`, `testing.operations.steps`: all that can be done to a network, as data; a model that checks it.
- `testing.strategies`: configurations, frames and cables for property-based tests; needs Hypothesis.
- `variant`: whether the core is compiled.
- `vhost`: the network card of a virtual machine, by vhost-user.
- `wire`: packet formats, one module each.

All other modules are internal. Names and modules are loaded when they are first used.
"""

from __future__ import annotations

from sansnet_core._version import __version__ as __version__

TYPE_CHECKING = False  # as in `typing`, which is not loaded: `sansnet --version` needs this package
if TYPE_CHECKING:
    from sansnet_core import (
        addresses,
        config,
        errors,
        fields,
        impairment,
        link,
        notices,
        orders,
        pcap,
        pcapng,
        policy,
        ports,
        recording,
        records,
        summary,
        testing,
        variant,
        vhost,
        wire,
    )
    from sansnet_core.addresses import AnyAddress, AnyInterface, AnyMac, AnyPrefix, Endpoint, Prefix
    from sansnet_core.config import (
        Ipv4Config,
        Ipv6Config,
        Limits,
        LinkConfig,
        NetworkConfig,
        ResolverConfig,
        UdpFiltering,
    )
    from sansnet_core.dropped import Dropped
    from sansnet_core.errors import ConfigError, Reason, SansnetError, UsageError
    from sansnet_core.network import Network
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
        DecideFlow,
        DeliverDatagram,
        ExtendedError,
        FailDatagram,
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
        ServeStream,
        ShutdownStream,
        SocketId,
    )
    from sansnet_core.policy import (
        Action,
        Allow,
        Check,
        Drop,
        Group,
        NameMode,
        Policy,
        ProxyConfig,
        ProxyKind,
        Refuse,
        Rule,
        Serve,
        Verdict,
    )
    from sansnet_core.statistics import NetworkStatistics
    from sansnet_core.variant import COMPILED

__all__ = [
    "COMPILED",
    "Action",
    "Allow",
    "AnyAddress",
    "AnyInterface",
    "AnyMac",
    "AnyPrefix",
    "Buffer",
    "Check",
    "CloseSocket",
    "ConfigError",
    "DecideFlow",
    "DeliverDatagram",
    "Drop",
    "Dropped",
    "Endpoint",
    "ExtendedError",
    "FailDatagram",
    "FlowClosed",
    "FlowOpened",
    "FlowRefused",
    "FlowReport",
    "Frame",
    "Group",
    "Ipv4Config",
    "Ipv6Config",
    "KeepAlive",
    "LeaseGiven",
    "Limits",
    "LinkConfig",
    "NameAsked",
    "NameMode",
    "Network",
    "NetworkConfig",
    "NetworkStatistics",
    "Notice",
    "OpenDatagram",
    "OpenEcho",
    "OpenStream",
    "Order",
    "Policy",
    "Prefix",
    "ProxyConfig",
    "ProxyKind",
    "Reason",
    "Refuse",
    "ResolverConfig",
    "ResumeStream",
    "Rule",
    "SansnetError",
    "SendDatagram",
    "SendEcho",
    "SendStream",
    "Serve",
    "ServeStream",
    "ShutdownStream",
    "SocketId",
    "UdpFiltering",
    "UsageError",
    "Verdict",
    "addresses",
    "config",
    "errors",
    "fields",
    "impairment",
    "link",
    "notices",
    "orders",
    "pcap",
    "pcapng",
    "policy",
    "ports",
    "recording",
    "records",
    "summary",
    "testing",
    "variant",
    "vhost",
    "wire",
]

_HOMES = {
    "addresses": ("AnyAddress", "AnyInterface", "AnyMac", "AnyPrefix", "Endpoint", "Prefix"),
    "config": ("Ipv4Config", "Ipv6Config", "Limits", "LinkConfig", "NetworkConfig", "ResolverConfig", "UdpFiltering"),
    "dropped": ("Dropped",),
    "errors": ("ConfigError", "Reason", "SansnetError", "UsageError"),
    "fields": (),
    "impairment": (),
    "link": (),
    "network": ("Network",),
    "notices": ("FlowClosed", "FlowOpened", "FlowRefused", "FlowReport", "LeaseGiven", "NameAsked", "Notice"),
    "orders": (
        "Buffer",
        "CloseSocket",
        "DecideFlow",
        "DeliverDatagram",
        "ExtendedError",
        "FailDatagram",
        "Frame",
        "KeepAlive",
        "OpenDatagram",
        "OpenEcho",
        "OpenStream",
        "Order",
        "ResumeStream",
        "SendDatagram",
        "SendEcho",
        "SendStream",
        "ServeStream",
        "ShutdownStream",
        "SocketId",
    ),
    "pcap": (),
    "pcapng": (),
    "policy": (
        "Action",
        "Allow",
        "Check",
        "Drop",
        "Group",
        "NameMode",
        "Policy",
        "ProxyConfig",
        "ProxyKind",
        "Refuse",
        "Rule",
        "Serve",
        "Verdict",
    ),
    "ports": (),
    "recording": (),
    "records": (),
    "statistics": ("NetworkStatistics",),
    "summary": (),
    "testing": (),
    "variant": ("COMPILED",),
    "vhost": (),
    "wire": (),
}
"""Module -> the names here that it defines."""

if not TYPE_CHECKING:  # otherwise type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a name or a module when it is first used (PEP 562): the command forks a guest with few of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name in _HOMES:
            return import_module(f"{__name__}.{name}")
        home = next(home for home, names in _HOMES.items() if name in names)
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
