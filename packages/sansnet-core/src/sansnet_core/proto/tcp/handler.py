"""All TCP connections: which one a segment or a socket belongs to, and how they are opened and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowOpened, FlowRefused, FlowReport
from sansnet_core.orders import ORIGIN_LOCAL, Buffer, Endpoint, ExtendedError, OpenStream, SocketId
from sansnet_core.policy import Verdict
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.tcp import arrival, states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.wire import tcp as wire
from sansnet_core.wire.ip import TCP, IpHeader
from sansnet_core.wire.quoted import Quoted
from sansnet_core.wire.tcp import ACK, FIN, RST, SYN, TcpHeader, add, diff

__all__ = ["Tcp"]


class Tcp:
    """All TCP connections of the guest.

    Args:
        context: of the network.
        icmp_errors: of the network.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.
    """

    def __init__(self, context: Context, icmp_errors: IcmpErrors, find_station: Callable[[bytes], None]) -> None:
        self.context = context
        self._find_station = find_station
        self._shared: TcpShared[TcpFlow] = TcpShared(context, icmp_errors, self._forget)
        self.deadline = self.queued = inf
        self.ticket = 0
        self._inbound = 0
        self._flows: dict[bytes, TcpFlow] = {}
        self._sockets: dict[SocketId, TcpFlow] = {}

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def held(self) -> int:
        """Payload bytes that all connections hold, in either direction."""
        return self._shared.memory.held

    def flows(self) -> list[FlowReport]:
        """A report on each connection."""
        return [
            FlowReport(
                flow.socket, TCP, flow.guest, flow.remote, flow.host, flow.inbound, flow.state, flow.sent, flow.received
            )
            for flow in self._flows.values()
        ]

    # the guest

    def receive(self, ip: IpHeader, buf: Buffer) -> None:
        """Process a segment from the guest.

        Raises:
            Malformed: the segment is malformed, or may not pass.
        """
        tcp = wire.parse(buf, ip, self.context.verify)
        key = ip.source + ip.destination + buf[ip.start : ip.start + 4]
        flow = self._flows.get(key)
        if tcp.flags & (SYN | ACK | RST) == SYN:
            if flow is None or (not tcp.flags & FIN and self._superseded(flow, tcp)):
                self._open(ip, tcp, key, buf)
                return
            if flow.irs == tcp.sequence and flow.lifecycle[0] is states.SYN_RECEIVED:
                flow.syn_repeated()
                return
        if flow is not None:
            arrival.receive(flow, tcp, buf)
        elif not tcp.flags & RST:
            self._reset(ip, tcp)

    def _superseded(self, flow: TcpFlow, syn: TcpHeader) -> bool:
        """Whether a new SYN ends `flow`, which is not answered yet or in TIME-WAIT (RFC 9293, 3.10.7.4)."""
        state = flow.lifecycle[0]
        if state is states.SYN_RECEIVED and syn.sequence != flow.irs:
            flow.fire(states.GUEST_RESET)
            return True
        if state is states.TIME_WAIT and diff(syn.sequence, flow.receiver.next) > 0:
            flow.fire(states.TIME_OVER)
            return True
        return False

    def _open(self, ip: IpHeader, syn: TcpHeader, key: bytes, buf: Buffer) -> None:
        context = self.context
        limits = context.config.limits
        if syn.flags & FIN:
            raise Malformed(Reason.TCP_FLAGS)  # a port scan; no stack sends it
        guest = Endpoint._make((ip.source, syn.source_port))
        remote = Endpoint._make((ip.destination, syn.destination_port))
        host = context.address_map.to_host(ip.destination, syn.destination_port)
        if host is None:
            reason = context.address_map.refusal(ip.destination)
            context.notify(FlowRefused(TCP, guest, remote, None, 0, reason, False, context.now))
            if reason is not Reason.OWN_ADDRESS:
                raise Malformed(reason)
            context.drop_packet(reason, TCP, guest, remote)
            self._reset(ip, syn)  # as a node with that address and without a listener does
            return
        if len(self._flows) >= limits.tcp_flows or self._shared.pending[False] >= limits.tcp_pending:
            if not self._shared.connecting:
                raise Malformed(Reason.TCP_LIMIT)  # the guest repeats its SYN, and there may be room then
            oldest = next(iter(self._shared.connecting))
            context.drop_packet(Reason.TCP_LIMIT, TCP, oldest.guest, oldest.remote)
            oldest.fire(states.GUEST_LOST)  # if the guest still waits, it repeats the SYN of this connection
        flow = TcpFlow(self._shared, context.new_socket(), key, guest, remote, host)
        flow.syn_received(syn, wire.parse_options(buf, syn.options_start, syn.start))
        self._add(flow)
        self._shared.connecting[flow] = None
        local = context.address_map.outbound(host.address)
        context.out.orders.append(OpenStream(flow.socket, host, local, guest, remote))

    def _add(self, flow: TcpFlow) -> None:
        self._flows[flow.key] = self._sockets[flow.socket] = flow
        self._shared.pending[flow.inbound] += 1
        self._inbound += flow.inbound
        context = self.context
        context.notify(FlowOpened(flow.socket, TCP, flow.guest, flow.remote, flow.host, flow.inbound, context.now))

    def unreachable(self, packet: Quoted) -> bool:
        """Process an ICMP error that quotes a segment to the guest; whether the segment belongs to a connection."""
        flow = self._flows.get(packet.reverse_key())
        if flow is None:
            return False
        flow.unreachable(packet.number)
        return True

    def _reset(self, ip: IpHeader, tcp: TcpHeader) -> None:
        """Answer a segment that belongs to no connection (RFC 9293, 3.10.7.1)."""
        if not self.context.address_map.is_node(ip.destination):
            return  # a group (RFC 9293, 3.9.2.3), or another address that is no source (RFC 4291, 2.5 and 2.7)
        headers = FlowHeaders(
            self.context.egress,
            Endpoint._make((ip.destination, tcp.destination_port)),
            Endpoint._make((ip.source, tcp.source_port)),
            TCP,
        )
        if tcp.flags & ACK:
            headers.tcp(tcp.acknowledgment, 0, RST, 0, b"", b"", 0)
        else:
            length = tcp.end - tcp.start + bool(tcp.flags & SYN) + bool(tcp.flags & FIN)
            headers.tcp(0, add(tcp.sequence, length), RST | ACK, 0, b"", b"", 0)

    # facts from the host's sockets; facts about closed sockets are ignored, since the driver may be late

    def stream_accepted(self, remote: Endpoint, address: bytes | None, port: int) -> SocketId | None:
        """A connection from outside was accepted; see `Network.stream_accepted`."""
        context = self.context
        limits = context.config.limits
        wanted = Endpoint._make((address or bytes(len(remote.address)), port))
        if not context.config.tcp:
            context.drop_packet(Reason.PROTOCOL_CLOSED, TCP, remote, wanted)
            return None
        ends = context.address_map.inbound(remote.address, address, context.guest)
        if isinstance(ends, Reason):
            context.drop_packet(ends, TCP, remote, wanted)
            return None
        source, destination = ends
        key = destination + source + port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")
        old = self._flows.get(key)
        if old is not None and old.lifecycle[0] is states.TIME_WAIT:
            old.fire(states.TIME_OVER)  # if the guest is in TIME-WAIT too, it decides by itself
        elif old is not None:
            context.drop_packet(Reason.INBOUND_COLLISION, TCP, remote, Endpoint._make((destination, port)))
            return None
        if (
            len(self._flows) >= limits.tcp_flows
            or self._inbound >= limits.tcp_inbound_flows
            or self._shared.pending[True] >= limits.tcp_pending
        ):
            context.drop_packet(Reason.TCP_LIMIT, TCP, remote, Endpoint._make((destination, port)))
            return None
        guest, seen = Endpoint._make((destination, port)), Endpoint._make((source, remote.port))
        flow = TcpFlow(self._shared, context.new_socket(), key, guest, seen, remote, inbound=True)
        self._add(flow)
        self._find_station(destination)
        flow.connect_to_guest()
        return flow.socket

    def stream_connected(self, socket: SocketId) -> None:
        """The host's connect succeeded."""
        if flow := self._sockets.get(socket):
            flow.fire(states.HOST_CONNECTED)

    def stream_received(self, socket: SocketId, data: bytes) -> None:
        """Bytes from the host."""
        if flow := self._sockets.get(socket):
            flow.stream_received(data)

    def stream_sent(self, socket: SocketId, count: int) -> None:
        """The host's socket took `count` bytes of the `SendStream` orders."""
        if flow := self._sockets.get(socket):
            flow.stream_sent(count)

    def stream_ended(self, socket: SocketId) -> None:
        """The host sent FIN."""
        if flow := self._sockets.get(socket):
            flow.stream_ended()

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None) -> None:
        """The host's connect failed, or its connection is broken."""
        if flow := self._sockets.get(socket):
            if error is None or error.errno != errno:
                error = ExtendedError(errno, ORIGIN_LOCAL, 0, 0, 0, None)
            flow.host_failed(error)

    def receive_budget(self, socket: SocketId) -> int:
        """How many bytes may be read from the host's socket."""
        flow = self._sockets.get(socket)
        return flow.receive_budget() if flow else 0

    # the program

    def stream_opened(self, source: Endpoint | None, address: bytes | None, port: int) -> SocketId | int:
        """See `Network.stream_opened`."""
        raise NotImplementedError

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""

    # the end of a batch, and of a connection

    def flush(self) -> None:
        """Send the segments that the inputs since the last call require."""
        if self._shared.memory.waiting:
            self.context.timers.arm(self, self._shared.memory.resume(self.context.now))
        shared = self._shared
        flows, shared.dirty = shared.dirty, []
        for flow in flows:
            flow.flush()

    def expire(self) -> None:
        """The deadline of `Memory.resume` has passed; `flush` resumes the streams."""

    def _forget(self, flow: TcpFlow) -> None:
        """Remove a connection that is over on both sides."""
        context, shared = self.context, self._shared
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        if self._sockets.pop(flow.socket, None) is None:
            return
        self._inbound -= flow.inbound
        shared.connecting.pop(flow, None)
        shared.memory.forget(flow, flow.held, flow.receiver.queued)
        flow.free_buffers()
        context.timers.forget(flow)
        if refused := flow.refusal():
            context.notify(refused)
        context.notify(flow.closed())
