"""The protocol modules of one network, connected with each other. Each knows the others only by what it gets here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.dropped import HEAD
from sansnet_core.errors import Malformed
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import Notice
from sansnet_core.orders import Buffer, Frame, Order
from sansnet_core.proto.arp import Arp
from sansnet_core.proto.dhcp4 import Dhcp4
from sansnet_core.proto.dhcp6 import Dhcp6
from sansnet_core.proto.echo import Echo
from sansnet_core.proto.frames import Frames, Receive
from sansnet_core.proto.icmp import Icmp
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.ipv4 import Ipv4
from sansnet_core.proto.ipv6 import Ipv6
from sansnet_core.proto.names import Names
from sansnet_core.proto.ndp import Ndp
from sansnet_core.proto.tcp.handler import Tcp
from sansnet_core.proto.udp.handler import Service, Udp
from sansnet_core.wire import ethernet
from sansnet_core.wire.ip import ICMP, ICMPV6, IGMP, TCP, UDP, IpHeader

if TYPE_CHECKING:
    from sansnet_core.resolver.facts import HostFacts
    from sansnet_core.resolver.resolver import Resolver

__all__ = ["Protocols"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Protocols:
    """The modules that `Network` talks to.

    Args:
        context: of the network.

    Attributes:
        frames: receives the guest's frames.
        resolver: our own resolver; None if the configuration never had one.
        streams, datagrams: receive the facts about host sockets: `tcp` and `udp`, or what is before them.
        received, sent: numbers of frames from and to the guest.
    """

    __slots__ = (
        "_context",
        "_out",
        "arp",
        "datagrams",
        "echo",
        "frames",
        "ndp",
        "received",
        "resolver",
        "sent",
        "streams",
        "tcp",
        "udp",
    )

    def __init__(self, context: Context) -> None:
        config = context.config
        self._context = context
        self._out = context.out
        self.received = self.sent = 0
        self.arp = Arp(context)
        self.ndp = Ndp(context)
        icmp_errors = IcmpErrors(context)
        self.echo = echo = Echo(context, icmp_errors)
        dhcp: dict[int, Service] = {}
        if config.dhcp and config.ipv4:
            dhcp[67] = Dhcp4(context).receive
        if config.dhcp6 and config.ipv6:
            dhcp[547] = Dhcp6(context).receive
        self.udp = Udp(context, icmp_errors, self._find_station, dhcp, Names(context).answer)
        self.tcp = tcp = Tcp(context, icmp_errors, self._find_station)
        icmp = Icmp(
            context, echo.receive4, echo.receive6, self.ndp.receive, tcp.unreachable, tcp.too_big, self.udp.refused
        )
        ethertypes: dict[Buffer, Receive] = {}
        protocols: dict[int, Callable[[IpHeader, Buffer], None]] = {
            TCP: tcp.receive if config.tcp else tcp.receive_closed,
            UDP: self.udp.receive,
        }
        if config.ipv4:
            ethertypes[ethernet.ETHERTYPE_ARP] = self.arp.receive
            protocols4 = protocols | {ICMP: icmp.receive4, IGMP: icmp.ignore}
            ethertypes[ethernet.ETHERTYPE_IPV4] = Ipv4(context, icmp_errors, protocols4).receive
        if config.ipv6:
            protocols6 = protocols | {ICMPV6: icmp.receive6}
            ethertypes[ethernet.ETHERTYPE_IPV6] = Ipv6(context, icmp_errors, protocols6).receive
            self.ndp.start()
        self.frames = Frames(context, ethertypes)
        self.streams: Tcp | HostFacts = self.tcp
        self.datagrams: Udp | HostFacts = self.udp
        self.resolver: Resolver | None = None
        self.follow_resolver()
        self.follow_proxies()

    def follow_resolver(self) -> None:
        """Follow the context's new configuration. A resolver stays: the guest keeps addresses that it gave to names."""
        context = self._context
        if context.config.resolver is not None and self.resolver is None:
            from sansnet_core.resolver.resolver import Resolver  # few networks need it, and it takes time to load

            self.resolver = resolver = Resolver(context, self.tcp, self.udp)
            if not isinstance(self.streams, Tcp):
                resolver.facts.sockets = self.streams.sockets
            self.streams = self.datagrams = resolver.facts
            context.bindings = resolver.bindings
        elif self.resolver is not None:
            self.resolver.reconfigured()

    def follow_proxies(self) -> None:
        """Follow the context's new configuration: make flows through proxies possible."""
        if self._context.config.proxies and self.tcp.opening.make_handshake is None:
            from sansnet_core.proxy import connect
            from sansnet_core.resolver.facts import HostFacts

            if isinstance(self.streams, Tcp):
                self.streams = self.datagrams = HostFacts(self.tcp, self.udp)
            self.udp.use_proxies(self.streams)
            self.tcp.opening.make_handshake = connect

    def _find_station(self, address: bytes) -> None:
        """Ask for the Ethernet address of an address of the guest, if it is not known."""
        if not self._context.guest.is_located(address):
            (self.arp if len(address) == 4 else self.ndp).ask(address)

    def receive_frames(self, frames: Iterable[Any]) -> None:
        """Frames came from the guest: bytes, or memoryviews of them.

        Raises:
            UsageError: one is not a frame; those before it were received.
        """
        receive, start, expected = self.frames.receive, self.frames.start, self._context.expected
        prediction, known = self.tcp.prediction, self.udp.known
        frame: Any = b""
        try:
            for frame in frames:
                self.received += 1
                try:
                    if not (prediction.receive(frame) or known.receive(frame)):
                        expected.stale = True
                        receive(frame)
                except Malformed as malformed:  # the only place that catches errors of the guest
                    self._context.drop(malformed.reason, bytes(frame[start : start + HEAD]))
        except TypeError as error:
            raise checks.wrong_frames(frames, frame, error) from None

    def take_orders(self) -> list[Order]:
        """The orders since the last call."""
        out = self._out
        if not out.orders:
            self.tcp.flush()  # once all other orders are executed: it may order to resume streams
        while self.resolver is not None and self.resolver.take_own_orders() and not out.orders:
            self.tcp.flush()
        orders, out.orders = out.orders, []
        return orders

    def take_frames(self) -> list[Frame]:
        """The frames for the guest since the last call."""
        out = self._out
        self.tcp.flush()
        self.udp.flush()
        self.sent += len(out.frames)
        frames, out.frames = out.frames, []
        return frames

    def take_notices(self) -> list[Notice]:
        """The notices since the last call."""
        out = self._out
        notices, out.notices = out.notices, []
        return notices

    def statistics(self) -> dict[str, int]:
        """How many flows and host sockets there are, and what the resolver keeps."""
        flows = {**self.udp.statistics(), **self.echo.statistics(), "tcp_flows": len(self.tcp)}
        return flows | (self.resolver.statistics() if self.resolver is not None else {})
