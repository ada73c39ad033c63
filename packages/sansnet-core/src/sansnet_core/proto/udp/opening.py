"""How a flow of UDP opens: what the first datagram of the guest or of an outsider leads to.

For the guest, the first that applies decides: a service of the program; closed destinations of the address map; the
rules; the program's verdict. So a flow that is refused or waits has no host socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from sansnet_core.addresses import is_multicast, is_unspecified
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import ORIGIN_LOCAL, Buffer, CloseSocket, Endpoint, ExtendedError, SocketId
from sansnet_core.policy import Allow, Drop, Refuse, Serve, Verdict
from sansnet_core.proto.udp.flow import Flow, ForwardedPort, Mapping, flow_key
from sansnet_core.proto.udp.host import HostFlows
from sansnet_core.proto.udp.served import ServedFlows
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.proto.undecided import NewFlow, Question, Refusal, Undecided
from sansnet_core.wire import udp
from sansnet_core.wire.ip import UDP, IpHeader

__all__ = ["DHCP_SERVERS", "Datagram", "Opening", "Report"]

DHCP_SERVERS: Final = frozenset(((4, 67), (6, 547)))
"""IP version and server port of DHCP and DHCPv6, which are served on the guest's segment only."""

Report: TypeAlias = Callable[[ExtendedError, Endpoint, Endpoint, bytes, Buffer], None]
"""Reports an error to the guest, about its datagram from one endpoint to another that failed on its way to a host
address; the last argument is the payload."""


class Datagram(NamedTuple):
    """A datagram that waits for a verdict, or a run of them.

    Attributes:
        data, segment_size, ttl, tos, may_fragment: of a datagram of the guest as in `SendDatagram`, of an outsider's
            as in `Network.datagram_received`.
        local: the host's address that an outsider sent it to.
    """

    data: bytes
    segment_size: int
    ttl: int
    tos: int
    may_fragment: bool = False
    local: bytes | None = None


class Opening:
    """Opens the flows of UDP.

    Args:
        context: of the network.
        table: all flows.
        host: opens flows to host sockets.
        served: opens flows to the program.
        report: reports to the guest that a datagram failed.
        release: sends the datagrams of a flow that waited for its verdict; the last argument tells whether an outsider
            sent them.
    """

    def __init__(
        self,
        context: Context,
        table: FlowTable,
        host: HostFlows,
        served: ServedFlows,
        report: Report,
        release: Callable[[Flow, Iterable[Datagram], bool], None],
    ) -> None:
        self._context = context
        self._flows = table.flows
        self._host = host
        self._served = served
        self._report = report
        self._release = release
        limits = context.config.limits
        self._undecided: Undecided[Datagram] = Undecided(
            context, (limits.udp_flows, limits.udp_inbound_flows), self._settle
        )
        self.decided = self._undecided.decided
        self.reports = self._undecided.reports
        self.forget_refusals = self._undecided.forget_refusals

    def open(self, ip: IpHeader, header: udp.UdpHeader, buf: Buffer) -> Flow | None:
        """Open a flow for the guest's first datagram to a destination.

        Returns:
            None if the datagram waits for a verdict.

        Raises:
            Malformed: the flow is refused.
        """
        context, undecided = self._context, self._undecided
        if not context.config.udp:
            raise Malformed(Reason.PROTOCOL_CLOSED)
        if is_unspecified(ip.source):
            raise Malformed(Reason.IP_SOURCE)  # only a DHCP client may have none
        guest = Endpoint._make((ip.source, header.source_port))
        remote = Endpoint._make((ip.destination, header.destination_port))
        new = NewFlow(flow_key(guest, remote), UDP, guest, remote)
        question, refusal = undecided.question(new.key), undecided.refusal(new.key)
        if question is None and refusal is None:
            service = self._served.find(*remote)
            if service is not None:
                return self._served.open(service, guest, remote)
            if buf[ip.header - 14] & 1 and not is_multicast(ip.destination):
                raise Malformed(Reason.IP_BROADCAST)  # the broadcast address of a network that only the guest has
            host = self._to_host(remote)
            verdict = undecided.judge(new)
            if host is None:
                refusal = undecided.refuse(new, None, context.address_map.refusal(ip.destination))
            elif isinstance(verdict, Allow):
                return self._host.open(guest, remote, verdict.to or host, redirected=verdict.to is not None)
            elif verdict is None:
                question = undecided.ask(new)
            else:
                refusal = undecided.refuse(new, verdict, Reason.REFUSED)
        data = buf[header.start : header.end]
        if refusal is not None:
            self._answer(refusal, new, data)
            raise Malformed(refusal.reason)
        if question is None:
            raise Malformed(Reason.UNDECIDED_LIMIT)
        datagram = Datagram(bytes(data), context.gso_size, ip.ttl, ip.tos, ip.may_fragment)
        undecided.keep(question, datagram, len(data))
        return None

    def open_inbound(self, forward: ForwardedPort, source: Endpoint, datagram: Datagram) -> Flow | None:
        """Open a flow for an outsider's first datagram to a forwarded port.

        Returns:
            None if the datagram waits for a verdict, or is dropped.
        """
        undecided = self._undecided
        ends = self._host.inbound_ends(forward, source)
        if ends is None:
            return None
        new = NewFlow((forward.socket, source), UDP, *ends, source, forward.socket)
        question, refusal = undecided.question(new.key), undecided.refusal(new.key, inbound=True)
        if question is None and refusal is None:
            # A flow that moves to another address of the guest is no new one
            verdict = Allow() if source in forward.flows else undecided.judge(new)
            if isinstance(verdict, Allow):
                return self._host.open_inbound(forward, *ends, source)
            if verdict is None:
                question = undecided.ask(new)
            else:
                refusal = undecided.refuse(new, verdict, Reason.REFUSED)
        if question is not None:
            undecided.keep(question, datagram, len(datagram.data))
        else:
            reason = refusal.reason if refusal else Reason.UNDECIDED_LIMIT
            self._context.drop_packet(reason, UDP, new.remote, new.guest)
        return None

    def may_send(self, mapping: Mapping, remote: Endpoint, source: Endpoint) -> bool:
        """Whether services and rules let the guest send to a host endpoint that it sees as `remote`.

        If the program must decide about that, it must have allowed another port of the same address.
        """
        undecided = self._undecided
        new = NewFlow(flow_key(mapping.guest, remote), UDP, mapping.guest, remote)
        if undecided.question(new.key) or undecided.refusal(new.key) or self._served.find(*remote):
            return False
        verdict = undecided.judge(new)
        if verdict is None:
            return source.address in mapping.addresses
        return isinstance(verdict, Allow) and verdict.to in (None, source)

    def reconfigured(self) -> None:
        """Follow the context's new configuration, which may refuse flows that wait."""
        self._undecided.reconfigured(lambda flow: self._to_host(flow.remote) is not None)

    def forward_removed(self, socket: SocketId) -> None:
        """Forget the flows that wait at a forwarded port."""
        self._undecided.withdraw(lambda flow: flow.forward == socket)

    def _to_host(self, remote: Endpoint) -> Endpoint | None:
        """The host endpoint that the address map gives for a flow of the guest; None if it is closed."""
        version = 4 if len(remote.address) == 4 else 6
        return self._context.address_map.to_host(*remote, groups=(version, remote.port) not in DHCP_SERVERS)

    def _answer(self, refusal: Refusal, new: NewFlow, data: Buffer) -> None:
        """Report to the guest that a datagram of a refused flow failed, if the verdict says so."""
        if isinstance(refusal.verdict, Refuse):
            error = ExtendedError(refusal.verdict.errno, ORIGIN_LOCAL, 0, 0, 0, None)
            self._report(error, new.guest, new.remote, new.remote.address, data)

    def _settle(self, question: Question[Datagram], verdict: Verdict, reason: Reason) -> None:
        """Open or refuse a flow that waited; `reason` is that of a refusal."""
        context, new = self._context, question.flow
        if isinstance(verdict, Refuse | Drop):
            refusal = self._undecided.refuse(new, verdict, reason)
            ends = (new.remote, new.guest) if new.inbound else (new.guest, new.remote)
            for one in question.packets:
                context.drop_packet(reason, UDP, *ends)
                if not new.inbound:
                    self._answer(refusal, new, one.data)
            return
        flow = self._admit_inbound(new) if new.inbound else self._admit(question, verdict)
        if flow is not None:
            self._release(flow, question.packets, new.inbound)

    def _admit(self, question: Question[Datagram], verdict: Allow | Serve) -> Flow | None:
        """Open a flow of the guest that waited, unless the program or an outsider has begun it meanwhile."""
        new = question.flow
        flow = self._flows.get(flow_key(new.guest, new.remote))
        if isinstance(verdict, Serve):
            if flow is None:
                return self._served.open(self._served.add(question.socket, once=True), new.guest, new.remote)
            self._context.out.orders.append(CloseSocket(question.socket))
        elif flow is None:
            host = verdict.to or self._to_host(new.remote)
            if host is not None:  # else the flow was refused when it was closed
                return self._host.open(new.guest, new.remote, host, redirected=verdict.to is not None)
        return flow

    def _admit_inbound(self, new: NewFlow) -> Flow | None:
        """Open an inbound flow that waited, unless the guest has begun it meanwhile; None if it cannot be reached."""
        forward = self._host.sockets.get(new.forward) if new.forward else None
        if not isinstance(forward, ForwardedPort) or new.outsider is None:
            return None
        if new.outsider in forward.flows:
            return forward.flows[new.outsider]
        ends = self._host.inbound_ends(forward, new.outsider)
        return self._host.open_inbound(forward, *ends, new.outsider) if ends else None
