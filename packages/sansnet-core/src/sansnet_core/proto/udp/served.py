"""Flows whose other end is the program: its services, and flows whose verdict was `Serve`."""

from __future__ import annotations

from collections.abc import Callable

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.errors import Reason, UsageError
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import CloseSocket, Endpoint, SocketId
from sansnet_core.proto.udp.flow import Flow, Served, flow_key
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.wire.ip import UDP

__all__ = ["ServedFlows"]


@mypyc_attr(allow_interpreted_subclasses=True)
class ServedFlows:
    """The services of UDP, and the flows that the program serves.

    Args:
        context: of the network.
        table: all flows.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.
    """

    __slots__ = ("_context", "_ends", "_find_station", "_table")

    def __init__(self, context: Context, table: FlowTable, find_station: Callable[[bytes], None]) -> None:
        self._context = context
        self._table = table
        self._find_station = find_station
        self._ends: dict[SocketId, Served] = {}

    def add(self, socket: SocketId, *, once: bool) -> Served:
        """Add a service, or with `once` the end of one flow."""
        end = self._ends[socket] = Served(socket, once=once)
        return end

    def find(self, destination: bytes, port: int) -> Served | None:
        """The service that the guest's datagrams to an endpoint go to."""
        if not self._ends:
            return None
        context = self._context
        socket = context.services.find(UDP, destination, port, own=context.address_map.is_own(destination))
        return None if socket is None else self._ends[socket]

    def open(
        self, end: Served, guest: Endpoint, remote: Endpoint, *, inbound: bool = False, name: str | None = None
    ) -> Flow:
        """Open a flow, whose destination may stand for a name."""
        self._table.make_room(inbound=inbound)
        return self._table.add(Flow(end, guest, remote, remote, inbound=inbound, name=name))

    def remove(self, socket: SocketId) -> None:
        """End the flows of a service, or a flow whose verdict was `Serve`."""
        end = self._ends.get(socket)
        if end is not None:
            for flow in list(end.flows.values()):
                self._table.close(flow)
            self._ends.pop(socket, None)

    def ended(self, end: Served) -> None:
        """Tell the program that the flow which it serves by a verdict is over."""
        del self._ends[end.socket]
        self._context.out.orders.append(CloseSocket(end.socket))

    def recount(self, flows: list[Flow]) -> None:
        """Correct the ends after an exception, from the flows that there are."""
        for end in list(self._ends.values()):
            end.flows = {flow.key: flow for flow in flows if flow.end is end}
            if end.once and not end.flows:
                self.ended(end)

    def to_guest(self, socket: SocketId, guest: Endpoint, source: Endpoint, data: bytes) -> Flow | None:
        """The flow that a datagram of the program belongs to; it begins if there is none.

        Returns:
            None if the datagram is dropped.

        Raises:
            UsageError: no datagram can hold the data.
        """
        flow = self._table.flows.get(flow_key(guest, source))
        if flow is None:
            checks.known_endpoint("guest", guest)
            checks.known_endpoint("source", source)
        most = checks.MAX_DATA[len(guest.address)]
        if len(data) > most:
            raise UsageError(f"service_sent: a datagram cannot carry {len(data)} bytes; send at most {most}")
        end = self._ends.get(socket)
        if end is None:
            return None  # it ended while the program was sending
        reason = None
        if flow is not None and flow.end is not end:
            reason = Reason.INBOUND_COLLISION
        elif not self._context.address_map.is_node(source.address):
            reason = Reason.INBOUND_SOURCE  # the guest sent to a group, and no packet comes from one
        elif flow is None:
            reason = self._refusal(end, guest, source)
        if reason is not None:
            self._context.drop_packet(reason, UDP, source, guest)
            return None
        if flow is None:
            self._find_station(guest.address)
            flow = self.open(end, guest, source, inbound=True)
        return flow

    def _refusal(self, end: Served, guest: Endpoint, source: Endpoint) -> Reason | None:
        """Why the program may not begin a flow; None if it may."""
        context = self._context
        if not context.config.udp:
            return Reason.PROTOCOL_CLOSED
        if len(guest.address) != len(source.address) or not (source.port and self._is_source(end.socket, source)):
            return Reason.INBOUND_SOURCE
        family = context.config.ipv4 if len(guest.address) == 4 else context.config.ipv6
        known = context.guest.is_located(guest.address)  # it may be in a virtual prefix
        if not family or not guest.port or not (known or self._may_have(guest.address)):
            return Reason.INBOUND_GUEST
        return None

    def _may_have(self, address: bytes) -> bool:
        """Whether the guest may have an address that it is not known to have."""
        address_map = self._context.address_map
        return address_map.is_node(address) and not address_map.is_own(address)

    def _is_source(self, socket: SocketId, source: Endpoint) -> bool:
        """Whether a service may send from an endpoint: it exists in the program only, or the service is there."""
        context = self._context
        if context.address_map.is_own(source.address):
            return any(service.socket == socket for service in context.services)
        return any(
            service.socket == socket
            and service.port in (None, source.port)
            and service.prefix is not None
            and service.prefix.contains(source.address)
            for service in context.services
        )
