"""Flows whose other end is a host socket: the guest's mappings, and forwarded ports."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import CloseSocket, Endpoint, OpenDatagram, SocketId
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.proto.udp.flow import Flow, ForwardedPort, Mapping, flow_key
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.proto.undecided import Admission
from sansnet_core.wire.ip import UDP

if TYPE_CHECKING:
    from sansnet_core.proto.udp.associate import Associations

__all__ = ["HostFlows"]

_MAX_HOSTS: Final = 1024
"""Endpoints of the host that are kept for further flows."""


@mypyc_attr(allow_interpreted_subclasses=True)
class HostFlows:
    """The host sockets of UDP, and how flows get them.

    Args:
        context: of the network.
        table: all flows.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.

    Attributes:
        sockets: all host sockets, by name.
        associations: open flows through proxies; None if the configuration never had a proxy.
    """

    __slots__ = (
        "_context",
        "_find_station",
        "_hosts",
        "_mappings",
        "_outgoing",
        "_reserved",
        "_table",
        "associations",
        "sockets",
    )

    def __init__(self, context: Context, table: FlowTable, find_station: Callable[[bytes], None]) -> None:
        self._context = context
        self._table = table
        self._find_station = find_station
        self._mappings: dict[bytes, Mapping] = {}
        self._hosts: dict[Endpoint, Endpoint] = {}
        """One object for all flows to a host's endpoint: a guest can have thousands, to a name server for example."""
        self._outgoing: dict[tuple[int, int], ForwardedPort] = {}
        """Guest's port and size of address -> the forwarded port whose socket the guest's own flows also use."""
        self._reserved = frozenset(context.config.reserved_udp_ports)
        self.sockets: dict[SocketId, Mapping | ForwardedPort] = {}
        self.associations: Associations | None = None

    def forward_added(self, address: bytes | None, port: int, outgoing: Collection[int]) -> SocketId:
        """See `Network.forward_added`."""
        forward = ForwardedPort(self._context.new_socket(), address, port)
        self.sockets[forward.socket] = forward
        for size in outgoing:
            self._outgoing.setdefault((port, size), forward)
        return forward.socket

    def forward_removed(self, socket: SocketId) -> None:
        """See `Network.forward_removed`."""
        forward = self.sockets.get(socket)
        if isinstance(forward, ForwardedPort):
            for flow in list(forward.flows.values()):
                self._table.close(flow)
            del self.sockets[socket]
            for key in [key for key, other in self._outgoing.items() if other is forward]:
                del self._outgoing[key]

    def reconfigured(self) -> None:
        """Follow the context's new configuration."""
        for mapping in self._mappings.values():
            mapping.find_groups(self._context.address_map.is_group)

    def ended(self, mapping: Mapping) -> None:
        """Close the socket of a mapping without flows."""
        del self._mappings[mapping.key], self.sockets[mapping.socket]
        self._context.out.orders.append(CloseSocket(mapping.socket))

    def recount(self, flows: list[Flow]) -> None:
        """Correct the host sockets after an exception, from the flows that there are."""
        self._mappings = {key: one for key, one in self._mappings.items() if self.sockets.get(one.socket) is one}
        for end in list(self.sockets.values()):
            end.flows = {flow.host: flow for flow in flows if flow.end is end}
            if isinstance(end, Mapping) and not end.flows:
                self._mappings.setdefault(end.key, end)
                self.ended(end)

    # the guest's flows

    def open(self, guest: Endpoint, remote: Endpoint, admission: Admission) -> Flow:
        """Open a flow of the guest to the first of the endpoints that it may use.

        Args:
            guest: the guest's endpoint.
            remote: the remote endpoint in the guest's packets.
            admission: of the flow.
        """
        context = self._context
        if admission.proxy is not None:
            assert self.associations is not None  # since the configuration has the proxy
            return self.associations.open(guest, remote, admission.proxy, admission)
        hosts, redirected, name, judgement, _ = admission
        if len(self._hosts) >= _MAX_HOSTS:
            self._hosts.clear()
        host = self._hosts.setdefault(hosts[0], hosts[0])
        self._table.make_room(inbound=False)
        forward = self._outgoing_forward(guest, remote, host)
        if forward is not None:
            return self._open_outgoing(forward, guest, remote, name, judgement)
        flow = Flow(
            self._mapping(guest, remote, host, None if redirected else name),
            guest,
            remote,
            host,
            inbound=False,
            redirected=redirected,
            group=context.address_map.is_group(host.address),
            name=name,
            judgement=judgement,
            others=hosts[1:],
        )
        return self._table.add(flow)

    def open_next(self, flow: Flow) -> Flow:
        """Replace a flow by one to the next of its host's endpoints."""
        self._table.close(flow)
        return self.open(flow.guest, flow.remote, Admission(flow.others, flow.redirected, flow.name, flow.judgement))

    def _open_outgoing(
        self, forward: ForwardedPort, guest: Endpoint, remote: Endpoint, name: str | None, judgement: Judgement | None
    ) -> Flow:
        """Open a flow that the guest begins from a forwarded port."""
        context = self._context
        local = context.address_map.outbound(remote.address)
        if remote in forward.flows:  # with another address of the guest
            old = forward.flows[remote]
            local = old.local or local
            self._table.close(old)
        flow = Flow(forward, guest, remote, remote, inbound=False, name=name, judgement=judgement)
        self._table.add(flow)
        flow.local = local
        return flow

    def _mapping(self, guest: Endpoint, remote: Endpoint, host: Endpoint, name: str | None) -> Mapping:
        """The mapping for a destination that may stand for a name, opened if there is none.

        All flows of a mapping with an alias have the same remote address and the same host address, and either equal
        ports on both sides or only one flow. So a host endpoint identifies the flow.
        """
        context = self._context
        alias = remote.address if host != remote else None
        key = guest.address + guest.port.to_bytes(2, "big") + (alias + host.address if alias else b"")
        if host.port != remote.port:  # the alias may also lead to the host's port by its own number
            key += remote.port.to_bytes(2, "big")
        mapping = self._mappings.get(key)
        if mapping is None:
            mapping = self._mappings[key] = Mapping(context.new_socket(), key, alias, name if alias else None)
            self.sockets[mapping.socket] = mapping
            port = 0 if guest.port in self._reserved else guest.port
            local = Endpoint._make((context.address_map.bound(host.address), port))
            context.out.orders.append(OpenDatagram(mapping.socket, local, guest))
        return mapping

    def _outgoing_forward(self, guest: Endpoint, remote: Endpoint, host: Endpoint) -> ForwardedPort | None:
        """The forwarded port that a new flow of the guest uses; None if an answer would not identify the flow."""
        forward = self._outgoing.get((guest.port, len(guest.address)))
        if forward is None or forward.address not in (None, guest.address):
            return None
        if host != remote or self._context.address_map.is_group(host.address):
            return None
        return forward

    # flows of outsiders

    def inbound_ends(self, forward: ForwardedPort, source: Endpoint) -> tuple[Endpoint, Endpoint] | None:
        """The guest's and the remote endpoint of a new inbound flow, as the guest sees them.

        Returns:
            None if the guest cannot be reached; that is counted.
        """
        context = self._context
        target = forward.target(len(source.address))
        if not context.config.udp:
            context.drop_packet(Reason.PROTOCOL_CLOSED, UDP, source, target)
            return None
        ends = context.address_map.inbound(source.address, forward.address, context.guest)
        if isinstance(ends, Reason):
            context.drop_packet(ends, UDP, source, target)
            return None
        remote, guest = Endpoint._make((ends[0], source.port)), Endpoint._make((ends[1], forward.port))
        if flow_key(guest, remote) in self._table.flows:
            context.drop_packet(Reason.INBOUND_COLLISION, UDP, remote, guest)
            return None
        return guest, remote

    def open_inbound(
        self, forward: ForwardedPort, guest: Endpoint, remote: Endpoint, source: Endpoint, judgement: Judgement | None
    ) -> Flow:
        """Open a flow of an outsider, which a judgement has allowed; the endpoints are those of `inbound_ends`."""
        if source in forward.flows:
            self._table.close(forward.flows[source])  # it is stale
        self._find_station(guest.address)
        self._table.make_room(inbound=True)
        return self._table.add(Flow(forward, guest, remote, source, inbound=True, judgement=judgement))

    def is_stale(self, flow: Flow, forward: ForwardedPort) -> bool:
        """Whether an inbound flow has a former address of the guest, from which the guest no longer answers."""
        if forward.address is not None or not flow.inbound:
            return False
        if self._context.guest.address_for(flow.remote.address) == flow.guest.address:
            return False
        return flow.last_from_guest + self._context.config.limits.udp_idle_once <= self._context.now
