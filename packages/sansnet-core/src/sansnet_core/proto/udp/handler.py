"""Translates datagrams of the guest to datagrams of host sockets, and back.

Theory of operation. A *flow* is one endpoint of the guest with one remote endpoint, as the guest sees it. A *mapping*
is one unconnected host socket. One mapping serves all flows of one endpoint of the guest, so that all remote hosts see
the same source (RFC 4787, endpoint-independent mapping; STUN and games need it). A destination whose address or port
the address map translated has a mapping of its own. So no two flows of a mapping share a host endpoint, and the source
of an answer always identifies its flow.

A mapping accepts datagrams from all sources, unless the configuration filters them by the guest's destinations (RFC
4787, 5): some servers answer from other ports and addresses (TFTP, multihomed hosts), and peers behind NATs are reached
in this way. Answers to a query that went to a multicast group come from unicast addresses (SSDP, mDNS), so a mapping
with such a flow filters nothing.

The guest sees a source at the address to which it could have sent through the same mapping. A datagram from a source
without such an address is dropped: an answer to it would reach another host, or a closed address. An accepted but
unsolicited datagram creates no state and refreshes nothing: remote hosts must not be able to evict flows or to keep a
mapping open (RFC 4787, REQ-6).

A *forwarded port* is a host socket whose new sources each begin a flow. These inbound flows have a limit of their own
and evict only each other, so that remote hosts cannot evict the guest's flows. The guest's answers leave from the host
address that the remote host last sent to. A guest may use several addresses: an inbound flow keeps the guest's first
address while the guest answers from that, and then changes to the guest's current address.

The other end of a flow may also be the program (`served`), without a host socket. The end of a flow is chosen with its
first datagram.

Not done: joining the guest's multicast groups on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from errno import ECONNREFUSED, EMSGSIZE
from typing import TYPE_CHECKING, Final, TypeAlias

from sansnet_core import checks
from sansnet_core.addresses import is_unspecified
from sansnet_core.config import UdpFiltering
from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused, FlowReport
from sansnet_core.orders import (
    ORIGIN_ICMP,
    ORIGIN_LOCAL,
    Buffer,
    DeliverDatagram,
    Endpoint,
    ExtendedError,
    FailDatagram,
    SendDatagram,
    SocketId,
)
from sansnet_core.policy import Verdict
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.udp import recovery
from sansnet_core.proto.udp.flow import BELOW_BASE, End, Flow, ForwardedPort, Mapping, Relayed, Served
from sansnet_core.proto.udp.host import HostFlows
from sansnet_core.proto.udp.known import KnownFlows
from sansnet_core.proto.udp.opening import DHCP_SERVERS, Datagram, Opening
from sansnet_core.proto.udp.path_mtu import PathMtu
from sansnet_core.proto.udp.runs import Runs
from sansnet_core.proto.udp.served import ServedFlows
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.proto.undecided import UNREACHABLE
from sansnet_core.wire import dns, udp
from sansnet_core.wire.ip import UDP, IpHeader
from sansnet_core.wire.quoted import Quoted

if TYPE_CHECKING:
    from sansnet_core.proto.udp.associate import Facts

__all__ = ["Answerer", "Service", "Udp"]

Service: TypeAlias = Callable[[IpHeader, udp.UdpHeader, Buffer], None]
"""Answers all datagrams to a port."""

Answerer: TypeAlias = Callable[[IpHeader, udp.UdpHeader, Buffer], bool]
"""Answers some datagrams; returns whether it did."""

_DNS_PORT: Final = dns.PORT
"""A copy, since it is read for each datagram."""

MAX_SENT: Final = 128
"""Most datagrams in one frame from the guest: UDP_MAX_SEGMENTS of recent kernels (linux/udp.h). Each costs a send if
the host's kernel refuses the run, or an answer of the resolver."""

MAX_DATA4: Final = checks.MAX_DATA[4]
"""Bytes; a larger datagram is one of IPv6, and too large if the other side of its flow has IPv4."""

MAX_MTU: Final = 65535
"""Bytes; no path has a larger MTU for IPv4, and none needs one for UDP."""

TTL: Final = 64
"""TTL of the program's datagrams: the default of Linux (RFC 1700)."""

MAX_QUOTED: Final = 1280
"""Bytes of a failed datagram that are quoted: at least as many as fit into an ICMPv6 error (RFC 4443, 2.4 c)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Udp:
    """The translator of UDP, for both families.

    Args:
        context: of the network.
        icmp_errors: of the network.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.
        services: destination port -> DHCP server.
        names: answers queries to DNS's port; None if all are forwarded. Also an attribute.
    """

    def __init__(
        self,
        context: Context,
        icmp_errors: IcmpErrors,
        find_station: Callable[[bytes], None],
        services: dict[int, Service],
        names: Answerer | None = None,
    ) -> None:
        self._context = context
        self._icmp_errors = icmp_errors
        self._services = services
        self.names = names
        self._table = FlowTable(context, self._ended)
        self._flows = self._table.flows
        self._host = HostFlows(context, self._table, find_station)
        self._sockets = self._host.sockets
        self._served = ServedFlows(context, self._table, find_station)
        self._opening = Opening(context, self._table, self._host, self._served, self._report, self._release)
        self._filtering = context.config.udp_filtering
        self._joins = context.config.link.uso
        self._runs = Runs()
        self._path_mtu = PathMtu(context, icmp_errors)
        self.known = KnownFlows(context, self._flows, self._from_guest)

    def use_proxies(self, facts: Facts) -> None:
        """Make flows through proxies possible; `facts` delivers the facts about their sockets."""
        from sansnet_core.proto.udp.associate import Associations  # few networks need it

        self._host.associations = Associations(self._context, facts, self._table, self._report, self._to_guest)

    # the guest

    def receive(self, ip: IpHeader, buf: Buffer) -> None:
        """Take a datagram from the guest, or an offloaded run of them: at most one `SendDatagram`.

        Raises:
            Malformed: it is dropped.
        """
        context = self._context
        header = udp.parse(buf, ip, context.verify)
        flow = self._flows.get(ip.source + ip.destination + buf[ip.start : ip.start + 4])
        if flow is None:
            if (ip.version, header.destination_port) in DHCP_SERVERS and self._is_dhcp(ip, header, buf):
                return
        elif flow.outdated:
            self._table.close(flow)
            flow = None
        if not ip.ttl:
            raise Malformed(Reason.IP_TTL)
        data = buf[header.start : header.end]
        if len(data) <= context.gso_size:
            context.gso_size = 0  # a run of one: the host's kernel takes no segment size that is larger than the data
        if len(data) > MAX_SENT * context.gso_size > 0:
            raise Malformed(Reason.VNET_HEADER)
        if header.destination_port == _DNS_PORT and self.names is not None and self.names(ip, header, buf):
            return
        if flow is None:
            flow = self._opening.open(ip, header, buf)
            if flow is None:
                return  # it waits for a verdict
        self._from_guest(flow, data, context.gso_size, ip.ttl, ip.tos, ip.may_fragment)

    def _from_guest(self, flow: Flow, data: Buffer, segment_size: int, ttl: int, tos: int, may_fragment: bool) -> None:
        """Send a datagram of a flow to its other end, or a run of them."""
        context = self._context
        flow.last_used = flow.last_from_guest = context.now
        flow.sent += len(data)
        flow.datagrams_sent += 1
        end = flow.end
        if isinstance(end, Relayed):
            end.send(flow, data, segment_size, tos)
            return
        if (
            len(data) > MAX_DATA4
            and min(segment_size or len(data), len(data)) > checks.MAX_DATA[len(flow.host.address)]
        ):
            error = ExtendedError(EMSGSIZE, ORIGIN_LOCAL, 0, 0, 0, None)
            self.datagram_failed(end.socket, flow.host, error, bytes(data))
            return
        if isinstance(end, Served):
            context.out.orders.append(
                DeliverDatagram(end.socket, flow.guest, flow.remote, data, segment_size, ttl, tos)
            )
            return
        fragment_here = False
        if len(data) > BELOW_BASE and not may_fragment:
            size = segment_size or len(data)
            if size <= flow.whole or not self._path_mtu.is_strict(flow, size, len(data), ttl, tos):
                fragment_here = True
            elif segment_size and flow.tried is not None:  # the first of a run tells how the others must be sent
                context.out.orders.append(
                    SendDatagram(end.socket, flow.host, data[:size], 0, ttl, tos, False, flow.local)
                )
                data, fragment_here = data[size:], True
                segment_size = size if len(data) > size else 0
        context.out.orders.append(
            SendDatagram(end.socket, flow.host, data, segment_size, ttl, tos, may_fragment, flow.local, fragment_here)
        )

    def _is_dhcp(self, ip: IpHeader, header: udp.UdpHeader, buf: Buffer) -> bool:
        """Whether a datagram to a port of DHCP servers ends here: it was answered, or looks for a server in vain."""
        service = self._services.get(header.destination_port)
        if service is not None:
            service(ip, header, buf)
        elif is_unspecified(ip.source) or self._context.address_map.is_group(ip.destination):
            self._context.ignore()  # a client looks for a server
        else:
            return False
        return True

    def reconfigured(self) -> None:
        """Follow the context's new configuration.

        A flow to a name server that was replaced, or to an address that exists in the program only from now on, ends
        with the guest's next datagram, and until then delivers the answer to the latest one. All other flows continue
        unchanged, as connections do.
        """
        address_map = self._context.address_map
        for flow in self._flows.values():
            if not (flow.inbound or flow.served):
                host = address_map.to_host(*flow.remote, groups=True)
                if host is None:
                    flow.outdated = flow.remote.port in dns.PORTS or address_map.is_own(flow.remote.address)
                else:
                    flow.outdated = flow.remote.port in dns.PORTS and not (flow.redirected or host == flow.host)
        self._host.reconfigured()
        self._opening.reconfigured()

    def judge_again(self) -> None:
        """End the flows that the present rules do not allow."""
        for flow in list(self._flows.values()):
            if self._opening.is_allowed(flow):
                self._opening.restrict(flow)
            else:
                self._table.close(flow, Reason.REFUSED)

    # the host's sockets

    def forward_added(self, address: bytes | None, port: int, outgoing: Collection[int]) -> SocketId:
        """See `Network.forward_added`."""
        return self._host.forward_added(address, port, outgoing)

    def forward_removed(self, socket: SocketId) -> None:
        """See `Network.forward_removed`."""
        self._opening.forward_removed(socket)
        self._host.forward_removed(socket)

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
        """See `Network.datagram_received`."""
        try:
            mapping = self._sockets[socket]
            flow = mapping.find(source)
        except (KeyError, TypeError):
            checks.socket_name(socket)
            checks.datagram(source, data, segment_size, ttl, tos, local)
            return  # closed while the driver was reading it
        if flow is None or not flow.datagrams_received:
            checks.datagram(source, data, segment_size, ttl, tos, local)
        if type(mapping) is ForwardedPort:  # quicker than isinstance
            if flow is None or flow.local != local:
                local = checks.address("local", local)
            if flow is None or self._host.is_stale(flow, mapping):
                datagram = Datagram(data, segment_size, ttl, tos, local=local)
                flow = self._opening.open_inbound(mapping, source, datagram)
                if flow is None:
                    return
            flow.local = local
        elif flow is None:
            assert isinstance(mapping, Mapping)
            checks.same_family(source, socket, mapping.host.address)
            self._receive_unsolicited(mapping, source, data, segment_size, ttl, tos)
            return
        self._to_guest(flow, data, segment_size, ttl, tos)

    def _to_guest(self, flow: Flow, data: bytes, segment_size: int, ttl: int, tos: int) -> None:
        """Send the guest a datagram of a flow, or a run of them."""
        headers = flow.headers
        if headers is None:
            headers = self._table.headers.make(flow)
        if len(data) > MAX_DATA4 and not headers.holds(data, segment_size):
            self._context.drop_packet(Reason.HOST_SIZE, UDP, flow.remote, flow.guest)
            return
        flow.last_used = self._context.now
        flow.received += len(data)
        flow.datagrams_received += 1
        if self._joins:
            self._runs.add(headers, data, segment_size, ttl, tos)
        else:
            headers.udp(data, segment_size, ttl, tos)

    def _receive_unsolicited(
        self, mapping: Mapping, source: Endpoint, data: bytes, segment_size: int, ttl: int, tos: int
    ) -> None:
        """Pass on a datagram from an endpoint that the guest did not send to, or drop it."""
        context = self._context
        remote = self._opening.unsolicited(mapping, source) if self._accepts(mapping, source) else None
        if remote is None:
            context.drop_packet(Reason.HOST_SOURCE, UDP, source, mapping.guest)
            return
        headers = FlowHeaders(context.egress, remote, mapping.guest, UDP)
        if headers.holds(data, segment_size):
            headers.udp(data, segment_size, ttl, tos)
        else:
            context.drop_packet(Reason.HOST_SIZE, UDP, remote, mapping.guest)

    def _accepts(self, mapping: Mapping, source: Endpoint) -> bool:
        """Whether the filter accepts an endpoint that the guest did not send to."""
        if mapping.groups or self._filtering is UdpFiltering.ENDPOINT_INDEPENDENT:
            return True
        return self._filtering is UdpFiltering.ADDRESS_DEPENDENT and mapping.has_address(source.address)

    def datagram_failed(self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes) -> None:
        """See `Network.datagram_failed`. The flow stays: one failure does not end it."""
        mapping = self._sockets.get(socket)
        flow = mapping.find(remote) if mapping else None
        if mapping is None or flow is None:
            return
        if flow.others and error.errno in UNREACHABLE and not flow.datagrams_received:
            self._try_next(flow, error, data)
            return
        if error.errno == EMSGSIZE and error.info:
            error = self._in_guests_family(flow, error)
            if error.origin < ORIGIN_ICMP:
                again = self._path_mtu.refused(flow, error.info, len(data))
                if again is not None:
                    self._context.out.orders.append(
                        SendDatagram(flow.socket, flow.host, data, 0, *again, False, flow.local, True)
                    )
                    return
            self._path_mtu.reported(flow, error.info)
        if not (flow.errno or flow.datagrams_received):
            flow.errno = error.errno
            self._context.notify(
                FlowRefused(UDP, flow.guest, flow.remote, flow.host, error.errno, None, flow.inbound, self._context.now)
            )
        self._context.drop_packet(Reason.HOST_SEND, UDP, flow.guest, flow.remote)
        self._report(error, flow.guest, flow.remote, remote.address, data)

    @staticmethod
    def _in_guests_family(flow: Flow, error: ExtendedError) -> ExtendedError:
        """An error about the MTU, for the guest's packets.

        If the flow was redirected to the other family, the header there is 20 bytes shorter or longer.
        """
        if len(flow.host.address) == len(flow.guest.address):
            return error
        mtu = min(error.info, MAX_MTU) + (20 if len(flow.host.address) == 4 else -20)
        return replace(error, info=max(mtu, 0))

    def _try_next(self, flow: Flow, error: ExtendedError, data: bytes) -> None:
        """Go on with the next of a host's addresses, since one cannot be reached.

        If the host's own kernel refused it, the data are complete, and are sent again. An ICMP error may quote a part.
        """
        ttl, tos, may_fragment = flow.first
        flow.errno = error.errno
        following = self._host.open_next(flow)
        following.first = flow.first
        if error.origin < ORIGIN_ICMP:
            self._from_guest(following, data, 0, ttl, tos, may_fragment)

    def _report(self, error: ExtendedError, source: Endpoint, destination: Endpoint, host: bytes, data: Buffer) -> None:
        """Report to the guest that its datagram failed on the way to the host address `host`."""
        if self._icmp_errors.would_report(error, UDP, source, destination):
            quoted = data[:MAX_QUOTED]
            payload = udp.emit(source.address, destination.address, source.port, destination.port, quoted)
            self._icmp_errors.host_failed(error, host, source.address, destination.address, UDP, payload)

    # the program

    def service_added(self, socket: SocketId) -> None:
        """See `Network.service_added`."""
        self._served.add(socket, once=False)
        self._opening.forget_refusals()

    def service_removed(self, socket: SocketId) -> None:
        """See `Network.service_removed`."""
        self._served.remove(socket)

    def service_sent(self, socket: SocketId, guest: Endpoint, source: Endpoint, data: bytes) -> None:
        """See `Network.service_sent`."""
        flow = self._served.to_guest(socket, guest, source, data)
        if flow is not None:
            self._to_guest(flow, data, 0, TTL, 0)

    def refused(self, packet: Quoted) -> bool:
        """Process an ICMP "port unreachable" that quotes a datagram to the guest.

        Returns:
            Whether the program has sent the datagram. Host sockets cannot send ICMP errors.
        """
        flow = self._flows.get(packet.reverse_key())
        if flow is None or not (flow.served and flow.datagrams_received):
            return False
        self._context.out.orders.append(FailDatagram(flow.socket, flow.guest, flow.remote, ECONNREFUSED))
        return True

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        self._opening.decided(socket, verdict)

    def _release(self, flow: Flow, datagrams: Iterable[Datagram], inbound: bool) -> None:
        """Send the datagrams of a flow that waited for its verdict; `inbound` ones go to the guest."""
        for one in datagrams:
            if inbound:
                flow.local = one.local
                self._to_guest(flow, one.data, one.segment_size, one.ttl, one.tos)
            else:
                self._from_guest(flow, one.data, one.segment_size, one.ttl, one.tos, one.may_fragment)

    def flush(self) -> None:
        """Send the guest the datagrams that were held back to be joined."""
        if self._runs.run is not None:
            self._runs.flush()

    # mistakes of this program

    def abandon(self, owner: object) -> str | None:
        """Give up a flow after an exception in its methods; see `recovery`."""
        if isinstance(owner, Mapping) and owner.socket not in self._sockets:
            self._context.out.close(owner.socket)  # it was about to be closed
        given_up = recovery.abandon(owner, self._context, self._table, self._runs)
        return self._opening.abandon(owner) if given_up is None else given_up

    def named(self, socket: SocketId) -> object:
        """The flow that waits by a name; None if there is none. Datagrams of others may be lost."""
        return self._opening.named(socket)

    def recount(self) -> None:
        """Correct all sums, which may be wrong after an exception."""
        self._opening.recount()
        recovery.recount(self._table, self._host, self._served)

    # reports

    def flows(self) -> list[FlowReport]:
        """All flows, for reports."""
        return [*self._table.reports(), *self._opening.reports()]

    def statistics(self) -> dict[str, int]:
        """How many flows and host sockets there are."""
        return {"udp_flows": len(self._flows), "udp_sockets": len(self._sockets)}

    def _ended(self, end: End) -> None:
        """Forget the other end of a flow that was closed."""
        if isinstance(end, Mapping):
            self._host.ended(end)
        elif isinstance(end, Relayed):
            end.ended()
        else:
            assert isinstance(end, Served)  # a forwarded port stays without flows
            self._served.ended(end)
