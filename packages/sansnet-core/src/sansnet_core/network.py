"""`Network`: the object that a driver talks to.

Theory of operation. An input method stores the time, calls the protocol modules, and returns. It never blocks, and
never raises because of bytes from the guest. Its outputs wait in three lists, which the driver takes as a whole: orders
for host sockets, frames for the guest, notices for the operator. A driver may make several inputs before it takes the
outputs: TCP composes its segments when they are taken, so that a batch of segments costs one acknowledgment.

A packet passes three lookups: EtherType, IP protocol, flow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import inf
from typing import TYPE_CHECKING

from sansnet_core import checks
from sansnet_core.addresses import format
from sansnet_core.config import NetworkConfig
from sansnet_core.config_change import check_change
from sansnet_core.context import Context, make_evaluator, rules_differ
from sansnet_core.errors import UsageError
from sansnet_core.orders import Buffer, Endpoint, ExtendedError, Frame, Order, SocketId
from sansnet_core.policy import Verdict
from sansnet_core.protocols import Protocols
from sansnet_core.services import ProgramService
from sansnet_core.snapshot import Copyable
from sansnet_core.statistics import NetworkStatistics, collect
from sansnet_core.wire.ip import UDP

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyAddress, AnyPrefix
    from sansnet_core.fields import AnyEndpoint
    from sansnet_core.notices import FlowReport, Notice

__all__ = ["Network"]


class Network(Copyable):
    """One guest's network: facts in, frames and orders out.

    After any input, call first `take_orders`, since carrying them out may cause facts, then `take_frames`. `socket` is
    the name of a host socket: from the order to open it, `stream_accepted` or `forward_added`. `now` is in seconds of a
    monotonic clock; `UsageError` is raised if it is before that of the last input.

    Args:
        config: addresses, services and limits.
        now: the time.
        secret: at least 16 unpredictable bytes. The same secret and inputs give the same outputs.

    Raises:
        UsageError: an argument has another type, or the secret is too short.
    """

    def __init__(self, config: NetworkConfig, *, now: float, secret: bytes) -> None:
        checks.network_arguments(config, now, secret)
        self._context = context = Context(config, now=now, secret=secret)
        self._protocols = protocols = Protocols(context)
        self._streams, self._datagrams = protocols.streams, protocols.datagrams
        self._arp, self._ndp, self._echo = protocols.arp, protocols.ndp, protocols.echo
        self._udp, self._tcp, self._frames = protocols.udp, protocols.tcp, protocols.frames

    def __str__(self) -> str:
        guest, counted = self._context.guest, self.statistics()
        addresses = " and ".join(format(address) for address in (guest.ipv4, guest.ipv6) if address)
        return f"network of {addresses or 'a guest without an address'}: {len(self.flows())} flows, {counted.totals}"

    def _begin(self, now: float, socket: int = 0) -> Context:
        context = self._context
        try:
            if context.now <= now < inf and type(socket) is int:
                context.now = now
                return context
        except TypeError:
            pass
        raise checks.wrong_input(now, context.now, socket)

    def reconfigure(self, config: NetworkConfig, now: float, *, moved: bool = False, keep_flows: bool = False) -> None:
        """Replace the configuration, for example when the host's own network changed. Then take the outputs.

        Open flows continue, but those that new rules do not allow are reset (see `keep_flows`), and datagrams to name
        servers go to the new ones. The guest learns of new addresses by router advertisements, and when it renews its
        DHCP and DHCPv6 leases.

        Args:
            config: may differ in addresses, gateways, names, name servers, address rules and lease time.
            now: seconds.
            moved: whether the guest has its new addresses already. Otherwise its former addresses count until it sends
                from others.
            keep_flows: whether open flows continue that the new rules do not allow.

        Raises:
            ConfigError: `config` differs in something else. Nothing has changed.
        """
        old = self._context.config
        check_change(old, config)
        context = self._begin(now)
        context.config = config
        context.address_map.configure(config)
        context.guest.configure(config)
        context.policy = make_evaluator(config)
        if moved or not config.learn_addresses:
            context.guest.ipv4 = config.ipv4.address if config.ipv4 else None
            context.guest.ipv6 = config.ipv6.address if config.ipv6 else None
        protocols = self._protocols
        protocols.follow_resolver()
        protocols.follow_proxies()
        self._streams, self._datagrams = protocols.streams, protocols.datagrams
        self._frames.reconfigured()
        self._echo.reconfigured()
        self._udp.reconfigured()
        self._tcp.reconfigured()
        if not keep_flows and rules_differ(old, config):
            self._tcp.judge_again()
            self._udp.judge_again()
            self._echo.judge_again()
        self._ndp.reconfigured(old)
        context.expected.configure(config)

    def guest_attached(self, now: float) -> None:
        """A guest is on the link, for the first time or again: request its Ethernet address. Then take the outputs."""
        config = self._begin(now).config
        if config.ipv4:
            self._arp.locate_guest()
        if config.ipv6 and config.ndp:
            self._ndp.locate_guest()

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """Frames came from the guest; each causes at most two orders and a few frames. Then take the outputs.

        Args:
            frames: Ethernet frames without their checksum, each behind a `virtio_net_hdr` if the link has it.
            now: seconds.

        Raises:
            UsageError: `now` is before that of the last input, or one is not a frame; those before it were received.
        """
        self._begin(now)
        self._protocols.receive_frames(frames)

    def stream_accepted(
        self, remote: AnyEndpoint, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | None:
        """A listening socket accepted a connection for the guest. Then take the outputs.

        The guest gets a SYN. Until it accepts, the `receive_budget` of the new socket is 0. If it refuses, an order to
        abort the socket follows.

        Args:
            remote: the endpoint that connected, as the host sees it; IPv4-mapped addresses must be given as IPv4.
            guest_address: the guest's address to connect to; None for its current one.
            guest_port: the guest's port to connect to.
            now: seconds.

        Returns:
            The name for the socket; None if the connection is refused, and the driver must reset it.
        """
        who, where = checks.endpoint("remote", remote), checks.address("guest_address", guest_address)
        checks.port("guest_port", guest_port)
        self._begin(now)
        return self._tcp.opening.inbound.stream_accepted(who, where, guest_port)

    def stream_connected(self, socket: SocketId, now: float) -> None:
        """The connect that `OpenStream` ordered succeeded. Then take the outputs."""
        self._begin(now, socket)
        self._streams.stream_connected(socket)

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None:
        """Bytes were read from a stream. Then take the outputs.

        Args:
            socket: its name.
            data: the bytes, at most `receive_budget` of them; kept until the guest acknowledges them. At the end of the
                stream, call `stream_ended` instead.
            now: seconds.

        Raises:
            UsageError: the end of the stream was reported before.
        """
        if type(data) is not bytes:
            checks.payload("data", data)
        self._begin(now, socket)
        self._streams.stream_received(socket, data)

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None:
        """The host's socket accepted `count` bytes of the data of `SendStream` orders. Then take the outputs.

        Raises:
            UsageError: the orders had fewer bytes.
        """
        if type(count) is not int:
            checks.number("count", count)
        self._begin(now, socket)
        self._streams.stream_sent(socket, count)

    def stream_ended(self, socket: SocketId, now: float) -> None:
        """The remote host sent FIN; no more data will be read. Then take the outputs."""
        self._begin(now, socket)
        self._streams.stream_ended(socket)

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None:
        """A connect or a connection failed, and the driver has closed the socket. Then take the outputs.

        Args:
            socket: its name.
            errno: of the failed call, or SO_ERROR.
            error: the extended error, if the kernel provided one.
            now: seconds.
        """
        checks.stream_failure(errno, error)
        self._begin(now, socket)
        self._streams.stream_failed(socket, errno, error)

    def forward_added(
        self, guest_address: AnyAddress | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId:
        """The driver opened a datagram socket whose datagrams are for the guest. Then take the outputs.

        Report its datagrams with `datagram_received`. Answers of the guest and failures work as for a socket that
        `OpenDatagram` ordered. The core never orders to close it.

        Args:
            guest_address: the guest's address that its datagrams go to; None for the current one.
            guest_port: the guest's port that its datagrams go to.
            now: seconds.
            outgoing: sizes of addresses (4, 16). For these families, flows that the guest begins from that port also
                use this socket. Give them for a socket that is bound to the same port and to no address, so that
                remote hosts see the forwarded port.

        Returns:
            The name for the socket.
        """
        where = checks.address("guest_address", guest_address)
        checks.port("guest_port", guest_port)
        checks.families("outgoing", outgoing)
        self._begin(now)
        return self._udp.forward_added(where, guest_port, outgoing)

    def forward_removed(self, socket: SocketId, now: float) -> None:
        """The driver closed a socket of `forward_added`, whose flows end. Then take the outputs."""
        self._begin(now, socket)
        self._udp.forward_removed(socket)

    def datagram_received(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        segment_size: int,
        ttl: int,
        tos: int,
        now: float,
        local: bytes | None = None,
    ) -> None:
        """A datagram, or a run of them (UDP_GRO), came to a datagram socket. Then take the outputs.

        Args:
            socket: its name.
            source: the sender.
            data: payload of all datagrams of the run.
            segment_size: 0 for one datagram; otherwise bytes per datagram, of which the last may be shorter.
            ttl: TTL or hop limit on arrival.
            tos: TOS or traffic class on arrival.
            now: seconds.
            local: the host's address that it was sent to, for a socket of `forward_added` that is bound to none. The
                guest's answers leave from there.
        """
        self._begin(now, socket)
        try:
            self._datagrams.datagram_received(socket, source, data, segment_size, ttl, tos, local)
        except TypeError:  # compiled code refuses arguments of other types first
            checks.socket_name(socket)
            checks.datagram(source, data, segment_size, ttl, tos, local)
            raise

    def datagram_failed(
        self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes, now: float
    ) -> None:
        """A datagram could not be sent, or the network returned an error for it. Then take the outputs.

        Args:
            socket: its name.
            remote: the destination.
            error: why.
            data: the part of its payload that is known.
            now: seconds.
        """
        checks.known_endpoint("remote", remote)
        checks.failure(error, data)
        self._begin(now, socket)
        self._datagrams.datagram_failed(socket, remote, error, data)

    def echo_received(
        self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int, now: float
    ) -> None:
        """An echo reply came to a ping socket. Then take the outputs.

        Args:
            socket: its name.
            source: address of the sender, 4 or 16 bytes.
            sequence: the reply's sequence number.
            data: the part of the message after identifier and sequence number.
            ttl: TTL or hop limit on arrival.
            tos: TOS or traffic class on arrival.
            now: seconds.
        """
        checks.echo(source, sequence, data, ttl, tos)
        self._begin(now, socket)
        self._echo.echo_received(socket, source, sequence, data, ttl, tos)

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes, now: float) -> None:
        """An echo request could not be sent, or the network returned an error for it. Then take the outputs.

        Args:
            socket: its name.
            sequence: the request's sequence number.
            error: why.
            data: the part of its payload that is known.
            now: seconds.
        """
        checks.number("sequence", sequence, 65535)
        checks.failure(error, data)
        self._begin(now, socket)
        self._echo.echo_failed(socket, sequence, error, data)

    def service_added(self, protocol: int, prefix: AnyPrefix | None, port: int | None, now: float) -> SocketId:
        """The program serves flows of the guest itself from now on. Then take the outputs.

        Args:
            protocol: IP protocol number of TCP (6) or UDP (17).
            prefix: the destinations; None means all own addresses and virtual prefixes of the configuration.
            port: the destination port; None means all.
            now: seconds.

        Returns:
            Its name, in `ServeStream` and `DeliverDatagram` orders.

        Raises:
            UsageError: there is a service at this place.
        """
        where = checks.place(protocol, prefix, port)
        self._context.services.check_free(*where)
        context = self._begin(now)
        socket = context.new_socket()
        context.services.add(ProgramService(socket, *where))
        if protocol == UDP:
            self._udp.service_added(socket)
        return socket

    def service_removed(self, socket: SocketId, now: float) -> None:
        """A service of `service_added` has ended: its connections go on, and its UDP flows end. Then take the outputs.

        With the name of a UDP flow whose verdict was `Serve`, that flow ends.
        """
        self._begin(now, socket).services.remove(socket)
        self._udp.service_removed(socket)

    def service_sent(self, socket: SocketId, guest: AnyEndpoint, source: AnyEndpoint, data: bytes, now: float) -> None:
        """The program sends the guest a datagram. Then take the outputs.

        Args:
            socket: a UDP service, or a flow whose verdict was `Serve`.
            guest: the endpoint of the guest.
            source: the endpoint of the program, as the guest sees it.
            data: the payload.
            now: seconds.
        """
        if type(guest) is not Endpoint or type(source) is not Endpoint:
            guest, source = checks.endpoint("guest", guest), checks.endpoint("source", source)
        if type(data) is not bytes:
            checks.payload("data", data)
        self._begin(now, socket)
        self._udp.service_sent(socket, guest, source, data)

    def stream_opened(
        self, source: AnyEndpoint | None, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | int:
        """The program connects to a server in the guest. Then take the outputs.

        The guest has accepted when a `ResumeStream` order comes, and has not if a `CloseSocket` order does.

        Args:
            source: the endpoint of the program, as the guest sees it; None means our own address and a free port.
            guest_address: the guest's address; None for its current one.
            guest_port: the guest's port.
            now: seconds.

        Returns:
            The name of the connection, or, if there can be none, the negative of the errno that connect() gives.
        """
        who = None if source is None else checks.endpoint("source", source)
        where = checks.address("guest_address", guest_address)
        checks.port("guest_port", guest_port)
        self._begin(now)
        return self._tcp.opening.inbound.stream_opened(who, where, guest_port)

    def stream_endpoints(self, socket: SocketId) -> tuple[Endpoint, Endpoint] | None:
        """The endpoints of a stream as the guest sees them: its own, and the remote one; None if it is over."""
        return self._tcp.endpoints(checks.socket_name(socket))

    def program_addresses(
        self, source: AnyAddress | None, guest_address: AnyAddress | None
    ) -> tuple[bytes, bytes] | int:
        """The addresses of packets from the program to the guest; the errno of connect() if there are none.

        Args:
            source: that of the program; None for our own address.
            guest_address: that of the guest; None for its current one.
        """
        ours, theirs = checks.address("source", source), checks.address("guest_address", guest_address)
        return self._context.address_map.from_program(ours, theirs, self._context.guest)

    def stream_unacknowledged(self, socket: SocketId) -> int:
        """How many bytes of `stream_received` the guest has not acknowledged; 0 if the stream is over."""
        return self._tcp.unacknowledged(checks.socket_name(socket))

    def flow_decided(self, socket: SocketId, verdict: Verdict, now: float) -> None:
        """The `verdict` that `DecideFlow` asked for; a late one is ignored. Then take the outputs.

        Raises:
            UsageError: it is no verdict.
        """
        if not isinstance(verdict, Verdict):
            raise UsageError(f"verdict: {verdict!r} is not one; give Allow(), Refuse(), Drop() or Serve()")
        self._begin(now, socket)
        for handler in (self._tcp.opening, self._udp, self._echo):
            handler.flow_decided(socket, verdict)

    def report_notices(self, wanted: bool) -> None:
        """Make notices even if the configuration does not ask for them (`wanted`), or return to what it says."""
        self._context.notices = bool(wanted) or self._context.config.notices

    # time

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`, in seconds of the clock of `now`; None for never. It may be too early."""
        return self._context.timers.next_deadline()

    def handle_deadline(self, now: float) -> None:
        """Time has passed. Then take the outputs. Calls before the deadline do no harm."""
        self._begin(now).timers.expire(now)

    # outputs

    def take_orders(self) -> list[Order]:
        """The orders since the last call, to be executed in this sequence. Call it until there are none."""
        return self._protocols.take_orders()

    def take_frames(self) -> list[Frame]:
        """The frames for the guest since the last call, in order."""
        return self._protocols.take_frames()

    def take_notices(self) -> list[Notice]:
        """The notices since the last call; always empty unless the configuration asks for notices."""
        return self._protocols.take_notices()

    # reports

    def receive_budget(self, socket: SocketId) -> int:
        """How many bytes may be read from a stream socket now.

        0 means that it must not be read until a `ResumeStream` order.
        """
        return self._streams.receive_budget(socket if type(socket) is int else checks.socket_name(socket))

    def flows(self) -> list[FlowReport]:
        """All flows, for reports. The configuration's limits bound their number."""
        return [*self._tcp.flows(), *self._udp.flows(), *self._echo.flows()]

    def statistics(self) -> NetworkStatistics:
        """Current counters and sizes."""
        protocols = self._protocols
        return collect(self._context, protocols.received, protocols.sent, protocols.statistics(), self._tcp)
