"""UDP flows: datagrams of the guest become datagrams of host sockets, and back.

Theory of operation. A *flow* is one address and port of the guest together with one remote endpoint, as the guest sees
it. A *mapping* is one unconnected host socket. The guest's own one serves all flows of one address and port of the
guest, so that a remote host sees the same source whomever the guest talks to (RFC 4787, endpoint-independent mapping:
what STUN and games need). A destination address that the address map translated has a mapping of its own, and so has a
port: then no two flows of a mapping share a host endpoint, and an answer always says which flow it belongs to.

A mapping hears every source, unless the configuration wants it filtered by what the guest sent to (RFC 4787, 5):
servers answer from other ports and addresses (TFTP, hosts with several addresses), and peers are reached through their
NATs like that. To a multicast group answers come from unicast addresses in any case (SSDP, mDNS), so while such a flow
lives its mapping filters nothing.

The guest sees a source only by the address by which it could have sent to it through the same mapping; one without such
an address is not heard, so that no answer of the guest's goes astray or to an address that is closed. A datagram that
is heard, and was not asked for, creates no state and keeps nothing alive: outsiders must not be able to push flows out,
nor to hold a mapping open (RFC 4787, REQ-6).

A *forward* is a mapping that outsiders may send to: a source that is new begins a flow. These flows have a limit of
their own, which evicts among them alone, so that outsiders do not push the guest's own flows out. The guest's answers
leave from the address of the host that the outsider last sent to. An outsider's flow stays with the address of the
guest's that it began with as long as that answers, for a guest may use several; then it follows the guest.

Each kind of flow is ordered by last use. That makes eviction at the limit exact, and lets one timer serve all flows: it
looks at the silent ones only, at most once a second. A timer per flow would leave its heap entry behind when a port
scan evicts the flow at once.

Not done: joining the guest's multicast groups on the host.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

from sansnet_core.address_map import DNS_PORTS
from sansnet_core.addresses import is_multicast, is_unspecified
from sansnet_core.config import UdpFiltering
from sansnet_core.context import Context
from sansnet_core.egress import Egress, FlowHeaders
from sansnet_core.errors import Malformed, Reason
from sansnet_core.notices import FlowClosed, FlowOpened, FlowRefused, FlowReport
from sansnet_core.orders import (
    Buffer,
    CloseSocket,
    Endpoint,
    ExtendedError,
    OpenDatagram,
    SendDatagram,
    SocketId,
)
from sansnet_core.wire import udp
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["Answerer", "Service", "Udp"]

Service: TypeAlias = Callable[[IpHeader, udp.UdpHeader, Buffer], None]
"""Answers datagrams itself."""

Answerer: TypeAlias = Callable[[IpHeader, udp.UdpHeader, Buffer], bool]
"""Answers some datagrams itself; says whether it did."""

IDLE_GRANULARITY: Final = 1.0
"""Seconds. How late an idle flow may be closed; bounds the work of a timer that thousands of flows share."""

DHCP_SERVERS: Final = frozenset(((4, 67), (6, 547)))
"""IP version and port of what concerns the guest's own segment and never the host's."""

_DNS: Final = 53

MAX_SENT: Final = 128
"""Datagrams of one frame from the guest: no kernel makes more (UDP_MAX_SEGMENTS, linux/udp.h), and each costs a send
where the host's kernel refuses the run."""

MAX_QUOTED: Final = 1280
"""Bytes of a datagram that failed: more than an ICMPv6 error has room for (RFC 4443, 2.4 c)."""

MAX_JOINED: Final = 64
"""Datagrams of one frame to the guest: what UDP_SEGMENT allows (linux/udp.h)."""


class _Mapping:
    """A host socket of one address and port of the guest; it lives as long as its flows."""

    __slots__ = ("addresses", "alias", "flows", "groups", "guest", "key", "socket")

    def __init__(self, socket: SocketId, key: bytes, guest: Endpoint, alias: bytes | None) -> None:
        self.socket = socket
        self.key = key
        self.guest = guest
        self.alias = alias
        """What the guest takes for the address of the host that all flows lead to, if that was translated."""
        self.flows: dict[Endpoint, _Flow] = {}
        """By the host's endpoint."""
        self.addresses: Counter[bytes] = Counter()
        """How many of the flows lead to each of the hosts' addresses."""
        self.groups = 0
        """How many of the flows have a multicast destination."""


class _ForwardedPort:
    """A host socket that outsiders send to; it lives as long as the driver says."""

    __slots__ = ("address", "flows", "port", "socket")

    def __init__(self, socket: SocketId, address: bytes | None, port: int) -> None:
        self.socket = socket
        self.address = address
        """The guest's; None for the one that is known."""
        self.port = port
        self.flows: dict[Endpoint, _Flow] = {}
        """By the host's endpoint."""

    def end(self, size: int) -> Endpoint:
        """Where in the guest it leads; of an address that is not known, `size` bytes of 0."""
        return Endpoint(self.address or bytes(size), self.port)


class _Flow:
    """One guest endpoint with one remote one."""

    __slots__ = (
        "answered",
        "datagrams_received",
        "datagrams_sent",
        "failed",
        "guest",
        "headers",
        "host",
        "inbound",
        "key",
        "last",
        "local",
        "mapping",
        "received",
        "remote",
        "sent",
        "socket",
    )

    def __init__(
        self,
        egress: Egress,
        mapping: _Mapping | _ForwardedPort,
        guest: Endpoint,
        remote: Endpoint,
        host: Endpoint,
        *,
        inbound: bool,
    ) -> None:
        self.key = _key(guest, remote)
        self.mapping = mapping
        self.socket = mapping.socket
        self.guest = guest
        self.remote = remote
        """What the guest takes for the other end; the host's socket has `host` there."""
        self.host = host
        self.inbound = inbound
        self.headers = FlowHeaders(egress, remote, guest, UDP)
        self.local: bytes | None = None
        """The host's address that the outsider last sent to."""
        self.last = self.answered = -inf
        """When there was a datagram, and when there was one of the guest's."""
        self.sent = self.received = 0
        self.datagrams_sent = self.datagrams_received = 0
        self.failed = False

    def is_stream(self) -> bool:
        """Whether it is more than one question or one question and its answer."""
        return min(self.datagrams_received, self.datagrams_sent) > 0 and (
            self.datagrams_sent + self.datagrams_received > 2
        )


def _key(guest: Endpoint, remote: Endpoint) -> bytes:
    """Addresses and ports as the guest's packets have them."""
    return guest.address + remote.address + guest.port.to_bytes(2, "big") + remote.port.to_bytes(2, "big")


@dataclass(slots=True)
class _Run:
    """Equal datagrams of one flow in a row, which a link with USO takes in one frame.

    Attributes:
        headers: of the flow.
        parts: data of one datagram each, or of several.
        segment_size: bytes of each datagram but the last.
        room: bytes that may still be added; 0 once a shorter datagram ended the run.
        ttl: of all of them.
        tos: of all of them.
    """

    headers: FlowHeaders
    parts: list[bytes]
    segment_size: int
    room: int
    ttl: int
    tos: int


class Udp:
    """The translator of UDP, for both families.

    Args:
        context: of the network.
        services: by destination port, the DHCP servers that answer here.
        names: answers queries to DNS's port; None if none are ever answered here.
    """

    def __init__(self, context: Context, services: Mapping[int, Service], names: Answerer | None = None) -> None:
        self._context = context
        self._services = services
        self._names = names
        self._flows: dict[bytes, _Flow] = {}
        """By the guest's addresses and ports as they stand in its packets."""
        self._recent: tuple[OrderedDict[bytes, _Flow], OrderedDict[bytes, _Flow]] = (OrderedDict(), OrderedDict())
        """The same, of those that the guest began and those from outside; least recently used first."""
        self._mappings: dict[bytes, _Mapping] = {}
        self._outgoing: dict[tuple[int, int], _ForwardedPort] = {}
        """By the guest's port and size of address: by which forward it also sends of its own accord."""
        self._sockets: dict[SocketId, _Mapping | _ForwardedPort] = {}
        self._outdated: set[bytes] = set()
        """Of `_flows`, those to name servers that are others now."""
        limits = context.config.limits
        self._most = (limits.udp_flows, limits.udp_inbound_flows)
        self._idle = (limits.udp_idle_once, limits.udp_idle_stream)
        self._filtering = context.config.udp_filtering
        self.deadline = self.queued = inf
        self.ticket = 0
        self._joins = context.config.link.uso
        self._run: _Run | None = None

    def receive(self, ip: IpHeader, buf: Buffer) -> None:
        """A datagram from the guest, or an offloaded run of them: at most one `SendDatagram`.

        Raises:
            Malformed: it is dropped.
        """
        context = self._context
        header = udp.parse(buf, ip, context.verify)
        flow = self._flows.get(ip.source + ip.destination + buf[ip.start : ip.start + 4])
        if flow is not None and self._outdated and flow.key in self._outdated:
            self._close(flow)
            flow = None
        dhcp = flow is None and (ip.version, header.destination_port) in DHCP_SERVERS
        if dhcp and header.destination_port in self._services:
            self._services[header.destination_port](ip, header, buf)
            return
        if dhcp and (is_unspecified(ip.source) or context.address_map.is_group(ip.destination)):
            context.ignore()  # a client that looks for a server, where there is none
            return
        if not ip.ttl:
            raise Malformed(Reason.IP_TTL)
        if header.destination_port == _DNS and self._names is not None and self._names(ip, header, buf):
            return
        data = buf[header.start : header.end]
        if len(data) > MAX_SENT * context.gso_size > 0:
            raise Malformed(Reason.VNET_HEADER)
        if flow is None:
            if buf[ip.header - 14] & 1 and not is_multicast(ip.destination):
                raise Malformed(Reason.IP_BROADCAST)  # of a network that the guest knows, and we need not
            flow = self._open(ip, header, not dhcp)
        if flow.last != context.now:
            self._use(flow)
        flow.answered = context.now
        flow.sent += len(data)
        flow.datagrams_sent += 1
        context.out.orders.append(
            SendDatagram(flow.socket, flow.host, data, context.gso_size, ip.ttl, ip.tos, ip.fragment, flow.local)
        )

    def reconfigured(self) -> None:
        """Another configuration counts: flows to name servers that are others now begin anew with the next query.

        Until then, they wait for the answer to the last one. All other flows stay what they are, as connections do.
        """
        address_map = self._context.address_map
        self._outdated.clear()
        for flow in self._flows.values():
            if not flow.inbound and flow.remote.port in DNS_PORTS:
                host = address_map.to_host(flow.remote.address, flow.remote.port, groups=True)
                if host != flow.host:
                    self._outdated.add(flow.key)
        for mapping in self._mappings.values():
            mapping.groups = sum(address_map.is_group(flow.host.address) for flow in mapping.flows.values())

    def forwarded(self, address: bytes | None, port: int, outgoing: Collection[int]) -> SocketId:
        """There is a forward; see `Network.forward_added`."""
        forward = _ForwardedPort(self._context.new_socket(), address, port)
        self._sockets[forward.socket] = forward
        for size in outgoing:
            self._outgoing.setdefault((port, size), forward)
        return forward.socket

    def forward_removed(self, socket: SocketId) -> None:
        """It is there no more."""
        forward = self._sockets.get(socket)
        if isinstance(forward, _ForwardedPort):
            for flow in list(forward.flows.values()):
                self._close(flow)
            del self._sockets[socket]
            for key in [key for key, other in self._outgoing.items() if other is forward]:
                del self._outgoing[key]

    def datagram_received(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        segment_size: int,
        ttl: int,
        tos: int,
        local: bytes | None = None,
    ) -> None:
        """A datagram, or a run of them, came to a host socket; see `Network.datagram_received`."""
        mapping = self._sockets.get(socket)
        if mapping is None:
            return  # closed while the driver was reading it
        flow = mapping.flows.get(source)
        if isinstance(mapping, _ForwardedPort):
            flow = self._open_inbound(mapping, source) if flow is None or self._is_stale(flow, mapping) else flow
            if flow is None:
                return
            flow.local = local
        elif flow is None:
            self._unasked(mapping, source, data, segment_size, ttl, tos)
            return
        if flow.last != self._context.now:
            self._use(flow)
        flow.received += len(data)
        flow.datagrams_received += 1
        if self._joins:
            self._join(flow.headers, data, segment_size, ttl, tos)
        else:
            flow.headers.udp(data, segment_size, ttl, tos)

    def _join(self, headers: FlowHeaders, data: bytes, segment_size: int, ttl: int, tos: int) -> None:
        """Add to the run that waits for `flush`, or begin a new one."""
        run, size = self._run, len(data)
        if (
            run is not None
            and run.headers is headers
            and 0 < size <= run.room
            and (size <= run.segment_size if not segment_size else segment_size == run.segment_size)
            and (ttl, tos) == (run.ttl, run.tos)
        ):
            run.parts.append(data)
            run.room = run.room - size if size % run.segment_size == 0 else 0
            return
        self.flush()
        segment_size = segment_size or size
        room = 0
        if size and size % segment_size == 0:
            room = min(MAX_JOINED * segment_size, headers.largest_run(segment_size)) - size
        self._run = _Run(headers, [data], segment_size, room, ttl, tos)

    def flush(self) -> None:
        """Send the guest the run that waits."""
        run, self._run = self._run, None
        if run is not None:
            data = run.parts[0] if len(run.parts) == 1 else b"".join(run.parts)
            run.headers.udp(data, run.segment_size, run.ttl, run.tos)

    def _use(self, flow: _Flow) -> None:
        """It is not silent now."""
        flow.last = self._context.now
        self._recent[flow.inbound].move_to_end(flow.key)

    def _unasked(self, mapping: _Mapping, source: Endpoint, data: bytes, segment_size: int, ttl: int, tos: int) -> None:
        """A datagram from an endpoint that the guest did not send to."""
        context = self._context
        seen = context.address_map.asked(source, mapping.alias, context.guest) if self._hears(mapping, source) else None
        if seen is None:
            context.drop_packet(Reason.HOST_SOURCE, UDP, source, mapping.guest)
        else:
            FlowHeaders(context.egress, seen, mapping.guest, UDP).udp(data, segment_size, ttl, tos)

    def _hears(self, mapping: _Mapping, source: Endpoint) -> bool:
        """Whether the filter lets in an endpoint that the guest did not send to."""
        if mapping.groups or self._filtering is UdpFiltering.ENDPOINT_INDEPENDENT:
            return True
        return self._filtering is UdpFiltering.ADDRESS_DEPENDENT and source.address in mapping.addresses

    def datagram_failed(self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes) -> None:
        """A datagram to `remote` failed; its flow stays: one refusal does not end it."""
        mapping = self._sockets.get(socket)
        flow = mapping.flows.get(remote) if mapping else None
        if mapping is None or flow is None:
            return
        if not (flow.failed or flow.datagrams_received):
            flow.failed = True
            self._context.notify(FlowRefused(UDP, flow.guest, flow.remote, flow.host, error.errno))
        source, destination = flow.guest, flow.remote
        self._context.drop_packet(Reason.HOST_SEND, UDP, source, destination)
        icmp_errors = self._context.icmp_errors
        if icmp_errors.would_tell(error, UDP, source, destination):
            quoted = data[:MAX_QUOTED]
            payload = udp.emit(source.address, destination.address, source.port, destination.port, quoted)
            icmp_errors.host_failed(error, remote.address, source.address, destination.address, UDP, payload)

    def expire(self) -> None:
        """Close the flows that were silent too long."""
        now = self._context.now
        shortest = min(self._idle)
        again = inf
        for recent in self._recent:
            for flow in list(recent.values()):
                if flow.last + shortest > now:  # and so are all behind it
                    again = min(again, flow.last + shortest)
                    break
                deadline = flow.last + self._idle[flow.is_stream()]
                if deadline <= now:
                    self._close(flow)
                else:
                    again = min(again, deadline)
        if again < inf:
            self._context.timers.arm(self, max(again, now + IDLE_GRANULARITY))

    def flows(self) -> list[FlowReport]:
        """What there is to say of each flow."""
        return [
            FlowReport(one.socket, UDP, one.guest, one.remote, one.host, one.inbound, "OPEN", one.sent, one.received)
            for one in self._flows.values()
        ]

    def statistics(self) -> Mapping[str, int]:
        """How many flows and host sockets there are."""
        return {"udp_flows": len(self._flows), "udp_sockets": len(self._sockets)}

    def _open(self, ip: IpHeader, header: udp.UdpHeader, groups: bool) -> _Flow:
        """A flow for the first datagram to a destination, which may be a group if `groups` allows it."""
        context = self._context
        address_map = context.address_map
        if not context.config.udp:
            raise Malformed(Reason.PROTOCOL_CLOSED)
        if is_unspecified(ip.source):
            raise Malformed(Reason.IP_SOURCE)  # only a DHCP client may have none
        guest = Endpoint(ip.source, header.source_port)
        remote = Endpoint(ip.destination, header.destination_port)
        host = address_map.to_host(ip.destination, header.destination_port, groups=groups)
        if host is None:
            context.notify(FlowRefused(UDP, guest, remote, None, 0))
            raise Malformed(address_map.refusal(ip.destination))
        self._make_room(inbound=False)
        forward = self._outgoing_forward(guest, remote, host)
        if forward is not None:
            return self._open_outgoing(forward, guest, remote)
        mapping = self._mapping(guest, remote, host)
        mapping.groups += address_map.is_group(host.address)
        mapping.addresses[host.address] += 1
        return self._add(_Flow(context.egress, mapping, guest, remote, host, inbound=False))

    def _open_outgoing(self, forward: _ForwardedPort, guest: Endpoint, remote: Endpoint) -> _Flow:
        """A flow that the guest begins by a forward."""
        context = self._context
        local = context.address_map.outbound(remote.address)
        if remote in forward.flows:  # it has another address of the guest's
            old = forward.flows[remote]
            local = old.local or local
            self._close(old)
        flow = self._add(_Flow(context.egress, forward, guest, remote, remote, inbound=False))
        flow.local = local
        return flow

    def _mapping(self, guest: Endpoint, remote: Endpoint, host: Endpoint) -> _Mapping:
        """The guest's own socket for a destination, which is opened if there is none."""
        context = self._context
        alias = remote.address if host != remote else None
        key = guest.address + guest.port.to_bytes(2, "big") + (alias + host.address if alias else b"")
        if host.port != remote.port:  # the alias may lead to the host's port under its own number, too
            key += remote.port.to_bytes(2, "big")
        mapping = self._mappings.get(key)
        if mapping is None:
            mapping = self._mappings[key] = _Mapping(context.new_socket(), key, guest, alias)
            self._sockets[mapping.socket] = mapping
            local = Endpoint(context.address_map.bound(host.address), guest.port)
            context.out.orders.append(OpenDatagram(mapping.socket, local))
        return mapping

    def _outgoing_forward(self, guest: Endpoint, remote: Endpoint, host: Endpoint) -> _ForwardedPort | None:
        """The forward by which what the guest begins leaves as well; an answer must say which flow it belongs to."""
        forward = self._outgoing.get((guest.port, len(guest.address)))
        if forward is None or forward.address not in (None, guest.address):
            return None
        if host != remote or self._context.address_map.is_group(host.address):
            return None
        return forward

    def _open_inbound(self, forward: _ForwardedPort, source: Endpoint) -> _Flow | None:
        """A flow for the first datagram of an outsider; None if the guest cannot have it."""
        context = self._context
        if not context.config.udp:
            context.drop_packet(Reason.PROTOCOL_CLOSED, UDP, source, forward.end(len(source.address)))
            return None
        ends = context.address_map.inbound(source.address, forward.address, context.guest)
        if isinstance(ends, Reason):
            context.drop_packet(ends, UDP, source, forward.end(len(source.address)))
            return None
        remote, guest = Endpoint(ends[0], source.port), Endpoint(ends[1], forward.port)
        if _key(guest, remote) in self._flows:
            context.drop_packet(Reason.INBOUND_COLLISION, UDP, remote, guest)
            return None
        if source in forward.flows:
            self._close(forward.flows[source])  # it is stale
        context.find_station(guest.address)
        self._make_room(inbound=True)
        return self._add(_Flow(context.egress, forward, guest, remote, source, inbound=True))

    def _is_stale(self, flow: _Flow, forward: _ForwardedPort) -> bool:
        """Whether the guest has another address now than when an outsider began a flow, and answers by that no more."""
        if forward.address is not None or not flow.inbound:
            return False
        if self._context.guest.address_for(flow.remote.address) == flow.guest.address:
            return False
        return flow.answered + self._context.config.limits.udp_idle_once <= self._context.now

    def _make_room(self, *, inbound: bool) -> None:
        """For one flow more, of those that the guest began or those from outside."""
        recent = self._recent[inbound]
        if len(recent) >= self._most[inbound]:
            oldest = next(iter(recent.values()))
            self._context.drop_packet(Reason.UDP_LIMIT, UDP, oldest.guest, oldest.remote)
            self._close(oldest)

    def _add(self, flow: _Flow) -> _Flow:
        context = self._context
        flow.mapping.flows[flow.host] = self._flows[flow.key] = self._recent[flow.inbound][flow.key] = flow
        context.timers.arm(self, min(self.deadline, context.now + min(self._idle)))
        context.notify(FlowOpened(flow.socket, UDP, flow.guest, flow.remote, flow.host, flow.inbound))
        return flow

    def _close(self, flow: _Flow) -> None:
        """Forget a flow, and close its socket if that is the guest's own and this was the last one."""
        context = self._context
        mapping = flow.mapping
        self._outdated.discard(flow.key)
        del self._flows[flow.key], self._recent[flow.inbound][flow.key], mapping.flows[flow.host]
        context.notify(FlowClosed(flow.socket, UDP, flow.guest, flow.remote, flow.sent, flow.received))
        if isinstance(mapping, _Mapping):
            mapping.groups -= context.address_map.is_group(flow.host.address)
            mapping.addresses[flow.host.address] -= 1
            if not mapping.addresses[flow.host.address]:
                del mapping.addresses[flow.host.address]
            if not mapping.flows:
                del self._mappings[mapping.key], self._sockets[mapping.socket]
                context.out.orders.append(CloseSocket(mapping.socket))
