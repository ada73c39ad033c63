"""How connections open: by the guest, by an outsider, or by the program; and which of them may.

Theory of operation. A SYN of the guest is for a service of the program, for a closed address, or for a rule to decide
about. A rule may leave the decision to the driver. Then the connection exists in the state UNDECIDED, without a host
socket, until the verdict comes or time is over. A refusing verdict is remembered for a while, since the guest may
repeat its SYN. A connection from outside that is UNDECIDED has its host socket already, and the guest has no SYN.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ECONNREFUSED,
    ENOBUFS,
    EPROTONOSUPPORT,
)
from typing import Final, Protocol

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowRefused
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    DecideFlow,
    Endpoint,
    ExtendedError,
    OpenStream,
    ServeStream,
    SocketId,
)
from sansnet_core.policy import Action, Allow, Refuse, Serve, Verdict
from sansnet_core.proto.tcp import reports, states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.refusal import local_error, refuse_syn
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.wire import tcp as wire
from sansnet_core.wire.ip import TCP, IpHeader
from sansnet_core.wire.tcp import FIN, TcpHeader

__all__ = ["Inside", "Opening"]

_FIRST_PORT: Final = 32768
_PORTS: Final = 28232
"""The ports of our own that the program connects from are those that Linux takes (net.ipv4.ip_local_port_range)."""


class Inside(Protocol):
    """A server of the network itself: its connections end in the core, without a host socket and without notices."""

    def is_server(self, remote: Endpoint) -> bool:
        """Whether the connections to an endpoint end here."""

    def stream_opened(self, socket: SocketId, guest: Endpoint, remote: Endpoint) -> None:
        """The guest has connected. All orders for the socket are for the server, and none for the driver."""


class Opening:
    """Opens connections.

    Args:
        context: of the network.
        shared: the state that all connections share.
        table: all connections.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.

    Attributes:
        questions: connections without a verdict.
        inside: the server of the network itself; None if there is none.
    """

    __slots__ = ("_context", "_find_station", "_next_port", "_shared", "_table", "inside", "questions")

    def __init__(
        self,
        context: Context,
        shared: TcpShared[TcpFlow],
        table: FlowTable,
        find_station: Callable[[bytes], None],
    ) -> None:
        self._context = context
        self._shared = shared
        self._table = table
        self._find_station = find_station
        self._next_port = _FIRST_PORT + context.entropy.keyed(b"port", b"") % _PORTS
        self.questions = Questions(context, self._undecided)
        self.inside: Inside | None = None

    # the guest

    def syn_received(self, ip: IpHeader, syn: TcpHeader, key: bytes, buf: Buffer) -> None:
        """Open a connection of the guest, ask for a verdict about it, or refuse it.

        Args:
            ip: header of the packet.
            syn: header of the SYN.
            key: of the connection.
            buf: holds the packet.

        Raises:
            Malformed: the SYN is malformed, or the connection may not open.
        """
        context = self._context
        if syn.flags & FIN:
            raise Malformed(Reason.TCP_FLAGS)  # a port scan; no stack sends it
        guest = Endpoint._make((ip.source, syn.source_port))
        remote = Endpoint._make((ip.destination, syn.destination_port))
        if self.inside is not None and self.inside.is_server(remote):
            flow = self._begin(syn, key, buf, guest, remote, remote)
            self.inside.stream_opened(flow.socket, guest, remote)
            flow.fire(states.HOST_CONNECTED)
            return
        address_map = context.address_map
        service = context.services.find(TCP, *remote, own=address_map.is_own(remote.address))
        if service is not None:
            self._serve(self._begin(syn, key, buf, guest, remote, remote), service)
            return
        if refusal := self.questions.refusal(key, syn.sequence):
            context.drop_packet(Reason.REFUSED, TCP, guest, remote)
            self._answer(guest, remote, refusal.host, syn, refusal.error)
            return
        host = address_map.to_host(*remote)
        if host is None:
            reason = address_map.refusal(remote.address)
            self.notify_refused(guest, remote, 0, reason)
            if reason is not Reason.OWN_ADDRESS:
                raise Malformed(reason)
            context.drop_packet(reason, TCP, guest, remote)
            # As a node with that address and without a listener does
            self._answer(guest, remote, remote.address, syn, local_error(ECONNREFUSED))
            return
        rule = context.policy.judge(TCP, remote.address, remote.port, host=host.address)
        if rule.action is Action.ALLOW:
            self._connect(self._begin(syn, key, buf, guest, remote, host), (rule.rule and rule.rule.to) or host)
        elif rule.action is Action.ASK:
            if self.questions.is_full(inbound=False):
                self._refused(guest, remote, 0, Reason.UNDECIDED_LIMIT)
            else:
                self._ask(self._begin(syn, key, buf, guest, remote, host, undecided=True), remote)
        else:
            error = local_error(rule.errno) if rule.action is Action.REFUSE else None
            self._refused(guest, remote, error.errno if error else 0, Reason.REFUSED)
            self._answer(guest, remote, host.address, syn, error)

    def _begin(
        self,
        syn: TcpHeader,
        key: bytes,
        buf: Buffer,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        undecided: bool = False,
    ) -> TcpFlow:
        """Make a connection of the guest from its SYN.

        Raises:
            Malformed: there are too many connections.
        """
        context = self._context
        limits = context.config.limits
        if len(self._table) >= limits.tcp_flows or self._shared.pending[False] >= limits.tcp_pending:
            if not self._shared.connecting:
                # The guest repeats its SYN, and there may be room then
                self.notify_refused(guest, remote, 0, Reason.TCP_LIMIT)
                raise Malformed(Reason.TCP_LIMIT)
            oldest = next(iter(self._shared.connecting))
            context.drop_packet(Reason.TCP_LIMIT, TCP, oldest.guest, oldest.remote)
            oldest.evict(Reason.TCP_LIMIT)  # if the guest still waits, it repeats the SYN of this connection
        flow = TcpFlow(self._shared, context.new_socket(), key, guest, remote, host, undecided=undecided)
        flow.syn_received(syn, wire.parse_options(buf, syn.options_start, syn.start))
        self._add(flow)
        self._shared.connecting[flow] = None
        return flow

    def _connect(self, flow: TcpFlow, host: Endpoint) -> None:
        """Order the host's socket of a connection of the guest."""
        self._opened(flow, host)
        context = self._context
        local = context.address_map.outbound(host.address)
        context.out.orders.append(OpenStream(flow.socket, host, local, flow.guest, flow.remote))

    def _serve(self, flow: TcpFlow, service: SocketId | None) -> None:
        """Let the program serve a connection of the guest."""
        self._opened(flow, flow.remote)
        self._context.out.orders.append(ServeStream(flow.socket, service, flow.guest, flow.remote))

    def _opened(self, flow: TcpFlow, host: Endpoint) -> None:
        flow.open(host)
        self._context.notify(reports.opened(flow, self._context.now))

    def _ask(self, flow: TcpFlow, destination: Endpoint) -> None:
        """Ask for a verdict about a connection."""
        self.questions.add(flow)
        self._context.out.orders.append(DecideFlow(flow.socket, TCP, flow.guest, destination, flow.inbound))

    def _add(self, flow: TcpFlow) -> None:
        self._table.add(flow)
        self._shared.pending[flow.inbound] += 1

    def _refused(self, guest: Endpoint, remote: Endpoint, errno: int, reason: Reason) -> None:
        """Count and report a connection of the guest that may not open."""
        self._context.drop_packet(reason, TCP, guest, remote)
        self.notify_refused(guest, remote, errno, reason)

    def notify_refused(self, guest: Endpoint, remote: Endpoint, errno: int, reason: Reason) -> None:
        """Report a connection of the guest that may not open."""
        now = self._context.now
        self._context.notify(FlowRefused(TCP, guest, remote, None, errno, reason, False, now))

    def _answer(
        self, guest: Endpoint, remote: Endpoint, host: bytes, syn: TcpHeader, error: ExtendedError | None
    ) -> None:
        refuse_syn(self._context, self._shared.icmp_errors, guest, remote, host, syn.sequence, error)

    # outsiders

    def stream_accepted(self, remote: Endpoint, address: bytes | None, port: int) -> SocketId | None:
        """A connection from outside was accepted; see `Network.stream_accepted`."""
        context = self._context
        guest, seen, reason = self._inbound_ends(remote, address, port)
        errno = 0
        if reason is None:
            verdict = context.policy.judge(TCP, remote.address, port, inbound=True).verdict
            if isinstance(verdict, Allow):
                return self._invite(guest, seen, remote).socket
            if verdict is None and not self.questions.is_full(inbound=True):
                flow = self._invite(guest, seen, remote, undecided=True)
                self._ask(flow, remote)
                return flow.socket
            reason = Reason.REFUSED if verdict else Reason.UNDECIDED_LIMIT
            errno = verdict.errno if isinstance(verdict, Refuse) else 0
        context.drop_packet(reason, TCP, remote, guest)
        context.notify(FlowRefused(TCP, guest, seen, remote, errno, reason, True, context.now))
        return None

    def _inbound_ends(
        self, remote: Endpoint, address: bytes | None, port: int
    ) -> tuple[Endpoint, Endpoint, Reason | None]:
        """The endpoints of a connection from outside, as the guest would see them, and why it may not open."""
        context = self._context
        wanted = Endpoint._make((address or bytes(len(remote.address)), port))
        if not context.config.tcp:
            return wanted, remote, Reason.PROTOCOL_CLOSED
        ends = context.address_map.inbound(remote.address, address, context.guest)
        if isinstance(ends, Reason):
            return wanted, remote, ends
        guest, seen = Endpoint._make((ends[1], port)), Endpoint._make((ends[0], remote.port))
        if not self._table.is_free(_key(guest, seen)):
            return guest, seen, Reason.INBOUND_COLLISION
        return guest, seen, Reason.TCP_LIMIT if self._is_full() else None

    def _is_full(self) -> bool:
        limits = self._context.config.limits
        return self._shared.pending[True] >= limits.tcp_pending or self._table.inbound_is_full(limits)

    def _invite(self, guest: Endpoint, remote: Endpoint, host: Endpoint, *, undecided: bool = False) -> TcpFlow:
        """Make a connection to the guest, and send the SYN unless a verdict is needed first."""
        key, socket = _key(guest, remote), self._context.new_socket()
        flow = TcpFlow(self._shared, socket, key, guest, remote, host, inbound=True, undecided=undecided)
        flow.offer()
        self._add(flow)
        if not undecided:
            self._send_syn(flow)
        return flow

    def _send_syn(self, flow: TcpFlow) -> None:
        self._opened(flow, flow.host)
        self._find_station(flow.guest.address)
        flow.begin_handshake()

    # the program

    def stream_opened(self, source: Endpoint | None, address: bytes | None, port: int) -> SocketId | int:
        """See `Network.stream_opened`."""
        context = self._context
        if not context.config.tcp:
            return -EPROTONOSUPPORT
        ends = context.address_map.from_program(source.address if source else None, address, context.guest)
        if isinstance(ends, int):
            return -ends
        if self._is_full():
            return -ENOBUFS
        guest = Endpoint._make((ends[1], port))
        if source is not None and source.port:
            remote = Endpoint._make((ends[0], source.port))
            if not self._table.is_free(_key(guest, remote)):
                return -EADDRINUSE
        else:
            free = self._free_port(guest, ends[0])
            if free is None:
                return -EADDRNOTAVAIL
            remote = Endpoint._make((ends[0], free))
        return self._invite(guest, remote, remote).socket

    def _free_port(self, guest: Endpoint, address: bytes) -> int | None:
        """A port of `address` that has no connection with `guest`."""
        for _ in range(_PORTS):
            port = self._next_port
            self._next_port = _FIRST_PORT + (port + 1 - _FIRST_PORT) % _PORTS
            if _key(guest, Endpoint._make((address, port))) not in self._table.by_key:
                return port
        return None

    # verdicts

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        flow = self._table.by_socket.get(socket)
        if flow is not None and flow in self.questions:
            checks.verdict(verdict, TCP)
            self.questions.remove(flow)
            self._decide(flow, verdict, Reason.REFUSED)

    def _decide(self, flow: TcpFlow, verdict: Verdict, reason: Reason) -> None:
        """Act on a verdict; `reason` is the one for a refusal."""
        if flow.inbound and isinstance(verdict, Allow):
            self._send_syn(flow)
            return
        if not flow.inbound and isinstance(verdict, Serve):
            self._serve(flow, None)
            return
        errno: int | None = EACCES
        if isinstance(verdict, Allow):
            address_map = self._context.address_map
            host = address_map.to_host(*flow.remote)  # the configuration may have changed
            if host is not None:
                self._connect(flow, verdict.to or host)
                return
            reason = address_map.refusal(flow.remote.address)
            errno = ECONNREFUSED if reason is Reason.OWN_ADDRESS else EACCES
        elif not isinstance(verdict, Serve):
            errno = verdict.errno if isinstance(verdict, Refuse) else None
        ends = (flow.remote, flow.guest) if flow.inbound else (flow.guest, flow.remote)
        self._context.drop_packet(reason, TCP, *ends)
        flow.refuse(None if errno is None else local_error(errno), reason)
        if not flow.inbound:
            self.questions.remember(flow)

    def _undecided(self, flow: TcpFlow) -> None:
        """Refuse a connection that got no verdict in time."""
        self._refuse_undecided(flow, Refuse(EACCES), Reason.UNDECIDED)

    def _refuse_undecided(self, flow: TcpFlow, verdict: Verdict, reason: Reason) -> None:
        if not flow.inbound:  # the order to abort an inbound connection withdraws the question too
            self._context.out.orders.append(CloseSocket(flow.socket))
        self._decide(flow, verdict, reason)

    def reconfigured(self) -> None:
        """Follow the context's new configuration, which may refuse connections without a verdict."""
        context, questions = self._context, self.questions
        questions.forget_refusals()
        for flow in questions.undecided():
            ends = (flow.host, flow.guest.port) if flow.inbound else (flow.remote, flow.remote.port)
            verdict = context.policy.judge(TCP, ends[0].address, ends[1], inbound=flow.inbound).verdict
            if not flow.inbound and context.address_map.to_host(*flow.remote) is None:
                verdict = Allow()  # which is refused
            elif verdict is None or isinstance(verdict, Allow):
                continue
            questions.remove(flow)
            self._refuse_undecided(flow, verdict, Reason.REFUSED)


def _key(guest: Endpoint, remote: Endpoint) -> bytes:
    """The key of a connection: addresses and ports as in the guest's segments."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
