"""How a flow of UDP opens: what the first datagram of the guest or of an outsider leads to.

For the guest, the first that applies decides: a service of the program; its target (`targets`): closed destinations of
the address map, the rules; the program's verdict. So a flow that is refused or waits has no host socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from sansnet_core.addresses import is_unspecified
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import ORIGIN_LOCAL, Buffer, CloseSocket, Endpoint, ExtendedError, SocketId
from sansnet_core.policy import Action, Refuse, Serve
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.proto.udp.flow import Flow, ForwardedPort, Mapping, Relayed, Served, flow_key
from sansnet_core.proto.udp.host import HostFlows
from sansnet_core.proto.udp.served import ServedFlows
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.proto.undecided import Admission, NewFlow, Outcome, Question, Refusal, Undecided
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


@mypyc_attr(allow_interpreted_subclasses=True)
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
        self.reconfigured = self._undecided.reconfigured
        self.abandon = self._undecided.abandon
        self.named = self._undecided.named
        self.recount = self._undecided.recount

    def open(self, ip: IpHeader, header: udp.UdpHeader, buf: Buffer) -> Flow | None:
        """Open a flow for the guest's first datagram to a destination.

        Returns:
            None if the datagram waits.

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
        new = self._new(guest, remote)
        outcome: Outcome[Datagram] = undecided.known(new)
        if outcome is None:
            service = self._served.find(*remote)
            if service is not None:
                return self._served.open(service, guest, remote)
            outcome = undecided.judge(new)
        if isinstance(outcome, Admission):
            flow = self._host.open(guest, remote, outcome)
            if flow.others:
                flow.first = ip.ttl, ip.tos, ip.may_fragment
            return flow
        data = buf[header.start : header.end]
        if isinstance(outcome, Refusal):
            self._answer(outcome, new, data)
            raise Malformed(outcome.reason)
        if outcome is None:
            raise Malformed(Reason.UNDECIDED_LIMIT)
        datagram = Datagram(bytes(data), context.gso_size, ip.ttl, ip.tos, ip.may_fragment)
        undecided.keep(outcome, datagram, len(data))
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
        if source in forward.flows:  # a flow that moves to another address of the guest is no new one
            return self._host.open_inbound(forward, *ends, source, forward.flows[source].judgement)
        new = NewFlow((forward.socket, source), UDP, *ends, source, forward.socket)
        outcome: Outcome[Datagram] = undecided.known(new) or undecided.judge(new)
        if isinstance(outcome, Admission):
            return self._host.open_inbound(forward, *ends, source, outcome.judgement)
        if isinstance(outcome, Question):
            undecided.keep(outcome, datagram, len(datagram.data))
        else:
            reason = outcome.reason if outcome else Reason.UNDECIDED_LIMIT
            self._context.drop_packet(reason, UDP, new.remote, new.guest)
        return None

    def unsolicited(self, mapping: Mapping, source: Endpoint) -> Endpoint | None:
        """The endpoint at which the guest sees a host endpoint that it did not send to, but could send to.

        If the program must decide about that, it must have allowed another port of the same address.

        Returns:
            None if the address map, services or rules do not let the guest send to it.
        """
        targets, known = self._context.targets, mapping.has_address(source.address)
        if mapping.name is not None and mapping.alias is not None:
            if not known:
                return None
            remote = Endpoint._make((mapping.alias, source.port))
            allowed = targets.is_allowed(UDP, remote, source, mapping.name)
        else:
            found = self._context.address_map.reachable_as(source, mapping.alias, self._context.guest)
            target = targets.find(UDP, found) if found is not None else None
            if found is None or target is None:
                return None
            remote = found
            if target.hosts:
                allowed = source == target.hosts[0]
            else:
                allowed = known and target.reason is None and target.judgement.action is Action.ASK
        if not allowed or self._undecided.known(self._new(mapping.guest, remote)) or self._served.find(*remote):
            return None
        return remote

    def is_allowed(self, flow: Flow) -> bool:
        """Whether the present rules allow a flow that is open."""
        context = self._context
        if flow.inbound:
            if flow.served:
                return True  # the program began it
            judgement = context.policy.judge(UDP, flow.host.address, flow.guest.port, inbound=True)
            return judgement.action in (Action.ALLOW, Action.ASK)
        if isinstance(flow.end, Relayed):
            return context.targets.is_allowed(UDP, flow.remote, None, flow.name, via=flow.end.proxy.name)
        if not flow.served:
            return self._is_host_allowed(flow, flow.host)
        if isinstance(flow.end, Served) and not flow.end.once:
            return True  # no rule is asked about services
        target = context.targets.find(UDP, flow.remote, groups=True)
        return target is None or target.reason is None

    def restrict(self, flow: Flow) -> None:
        """Give up the endpoints that a flow would try next, and that the present rules close."""
        flow.others = tuple(host for host in flow.others if self._is_host_allowed(flow, host))

    def _is_host_allowed(self, flow: Flow, host: Endpoint) -> bool:
        return self._context.targets.is_allowed(UDP, flow.remote, host, flow.name)

    def _new(self, guest: Endpoint, remote: Endpoint) -> NewFlow:
        """A flow of the guest that is about to open."""
        return NewFlow(flow_key(guest, remote), UDP, guest, remote, groups=True)

    def forward_removed(self, socket: SocketId) -> None:
        """Forget the flows that wait at a forwarded port."""
        self._undecided.withdraw(lambda flow: flow.forward == socket)

    def _answer(self, refusal: Refusal, new: NewFlow, data: Buffer) -> None:
        """Report to the guest that a datagram of a refused flow failed, if the verdict says so."""
        if isinstance(refusal.verdict, Refuse):
            error = ExtendedError(refusal.verdict.errno, ORIGIN_LOCAL, 0, 0, 0, None)
            self._report(error, new.guest, new.remote, new.remote.address, data)

    def _settle(self, question: Question[Datagram], outcome: Admission | Serve | Refusal) -> None:
        """Open or refuse a flow that waited."""
        context, new = self._context, question.flow
        if isinstance(outcome, Refusal):
            ends = (new.remote, new.guest) if new.inbound else (new.guest, new.remote)
            for one in question.packets:
                context.drop_packet(outcome.reason, UDP, *ends)
                if not new.inbound:
                    self._answer(outcome, new, one.data)
            return
        if not new.inbound:
            flow: Flow | None = self._admit(question, outcome)
        else:
            flow = self._admit_inbound(new, outcome.judgement) if isinstance(outcome, Admission) else None
        if flow is not None:
            if question.packets:
                one = question.packets[0]
                flow.first = one.ttl, one.tos, one.may_fragment
            self._release(flow, question.packets, new.inbound)

    def _admit(self, question: Question[Datagram], outcome: Admission | Serve) -> Flow:
        """Open a flow of the guest that waited, unless the program or an outsider has begun it meanwhile."""
        new = question.flow
        flow = self._flows.get(flow_key(new.guest, new.remote))
        if isinstance(outcome, Serve):
            if flow is None:
                end = self._served.add(question.socket, once=True)
                return self._served.open(end, new.guest, new.remote, name=question.name)
            self._context.out.orders.append(CloseSocket(question.socket))
            return flow
        return flow or self._host.open(new.guest, new.remote, outcome)

    def _admit_inbound(self, new: NewFlow, judgement: Judgement | None) -> Flow | None:
        """Open an inbound flow that waited, unless the guest has begun it meanwhile; None if it cannot be reached."""
        assert new.forward is not None
        assert new.outsider is not None
        forward = self._host.sockets[new.forward]
        assert isinstance(forward, ForwardedPort)  # a port that is removed takes the flows that wait with it
        if new.outsider in forward.flows:
            return forward.flows[new.outsider]
        ends = self._host.inbound_ends(forward, new.outsider)
        return self._host.open_inbound(forward, *ends, new.outsider, judgement) if ends else None
