"""How the guest's connections open, and which of them may.

Theory of operation. A SYN of the guest is for a service of the program, or for a destination that is closed, or that
the rules decide about (`targets`). Its name may have to be resolved first, or a rule may leave the decision to the
driver. Then the connection exists in the state UNDECIDED, without a host socket, until the addresses or the verdict
come, or time is over. A refusal is remembered for a while then, since the guest may repeat its SYN.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EHOSTUNREACH
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.errors import Malformed, Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused
from sansnet_core.orders import Buffer, CloseSocket, Endpoint, ExtendedError, OpenStream, ServeStream, SocketId
from sansnet_core.policy import Action, Allow, Check, Drop, ProxyConfig, Refuse, Serve, Verdict
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.proto.tcp import reports, states
from sansnet_core.proto.tcp.attempts import Attempts, Handshake
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.inbound import Inbound
from sansnet_core.proto.tcp.output import endpoints
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.refusal import local_error, refuse_syn
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.targets import Target
from sansnet_core.wire import tcp as wire
from sansnet_core.wire.ip import TCP
from sansnet_core.wire.tcp import FIN, TcpHeader

if TYPE_CHECKING:
    from sansnet_core.proto.tcp.gate import Gate

__all__ = ["Inside", "MakeHandshake", "Opening"]

MakeHandshake: TypeAlias = Callable[[ProxyConfig, str | bytes, int], Handshake]
"""Begins a dialogue with a proxy: the proxy; the name of the destination, or its address of 4 or 16 bytes; its port."""

_NO_DESTINATION: Final = (Reason.IP_DESTINATION, Reason.IP_BROADCAST)
"""Refusals that are answered as for any packet to such an address."""


class Inside(Protocol):
    """A server of the network itself: its connections end in the core, without a host socket and without notices."""

    def is_server(self, remote: Endpoint) -> bool:
        """Whether the connections to an endpoint end here."""

    def stream_opened(self, socket: SocketId, guest: Endpoint, remote: Endpoint) -> None:
        """The guest has connected. All orders for the socket are for the server, and none for the driver."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Opening:
    """Opens connections.

    Args:
        context: of the network.
        shared: the state that all connections share.
        table: all connections.
        find_station: asks for the Ethernet address of an address of the guest, if it is not known.

    Attributes:
        questions: connections that wait.
        inbound: opens those of outsiders and of the program.
        inside: the server of the network itself; None if there is none.
        make_handshake: begins a dialogue with a proxy; None if there are no proxies.
    """

    __slots__ = ("_context", "_shared", "_table", "inbound", "inside", "make_handshake", "questions")

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
        self.questions = Questions(context, self._time_over)
        self.inbound = Inbound(context, shared, table, self.questions, find_station)
        self.inside: Inside | None = None
        self.make_handshake: MakeHandshake | None = None

    # the guest

    def syn_received(self, syn: TcpHeader, key: bytes, buf: Buffer) -> None:
        """Open a connection of the guest, ask for a verdict about it, or refuse it.

        Args:
            syn: header of the SYN.
            key: of the connection.
            buf: holds the packet.

        Raises:
            Malformed: the SYN is malformed, or the connection may not open.
        """
        context = self._context
        if syn.flags & FIN:
            raise Malformed(Reason.TCP_FLAGS)  # a port scan; no stack sends it
        guest, remote = endpoints(key)
        if self.inside is not None and self.inside.is_server(remote):
            flow = self._begin(syn, key, buf, guest, remote)
            self.inside.stream_opened(flow.socket, guest, remote)
            flow.fire(states.HOST_CONNECTED)
            return
        if context.services:
            own = context.address_map.is_own(remote.address)
            service = context.services.find(TCP, remote.address, remote.port, own=own)
            if service is not None:
                self._serve(self._begin(syn, key, buf, guest, remote), service)
                return
        if refusal := self.questions.refusal(key, syn.sequence):
            context.drop_packet(Reason.REFUSED, TCP, guest, remote)
            self._answer(guest, remote, refusal.host, syn, refusal.error)
            return
        target = context.targets.find(TCP, remote)
        if target is not None and target.opens:
            self._connect(self._begin(syn, key, buf, guest, remote), target, guest, remote)
        elif target is not None and target.reason is not None:
            self._refuse_syn(guest, remote, syn, target)
        elif self.questions.is_full(inbound=False):
            reason = Reason.UNDECIDED_LIMIT if target is not None else Reason.NAME_LIMIT
            named = target or Target(Judgement(Action.ALLOW), name=context.targets.name(remote))
            self._refused(guest, remote, 0, reason, named)
        else:
            flow = self._begin(syn, key, buf, guest, remote, undecided=True)
            self._hold(flow, target)

    def _refuse_syn(self, guest: Endpoint, remote: Endpoint, syn: TcpHeader, target: Target) -> None:
        """Refuse a connection of the guest by its target.

        Raises:
            Malformed: the configuration closes the destination.
        """
        reason = target.reason or Reason.REFUSED
        if reason in _NO_DESTINATION:
            self.notify_refused(guest, remote, 0, reason)
            raise Malformed(reason)
        error = _error(target)
        # An own address answers as a node with that address and without a listener does
        errno = error.errno if error and reason is not Reason.OWN_ADDRESS else 0
        self._refused(guest, remote, errno, reason, target)
        self._answer(guest, remote, remote.address, syn, error)

    def _begin(
        self,
        syn: TcpHeader,
        key: bytes,
        buf: Buffer,
        guest: Endpoint,
        remote: Endpoint,
        *,
        undecided: bool = False,
    ) -> TcpFlow:
        """Make a connection of the guest from its SYN.

        Raises:
            Malformed: there are too many connections.
        """
        context = self._context
        limits = context.config.limits
        shared, table = self._shared, self._table
        # To give up a connect makes room for both limits
        if shared.pending[False] >= limits.tcp_pending or not table.make_room(limits, shared.time_wait, inbound=False):
            if not shared.connecting:
                # The guest repeats its SYN, and there may be room then
                self.notify_refused(guest, remote, 0, Reason.TCP_LIMIT)
                raise Malformed(Reason.TCP_LIMIT)
            oldest = next(iter(shared.connecting))
            context.drop_packet(Reason.TCP_LIMIT, TCP, oldest.guest, oldest.remote)
            # If the guest still waits, it repeats the SYN of this connection
            oldest.give_up(states.GUEST_LOST, reason=Reason.TCP_LIMIT)
        flow = TcpFlow(shared, context.new_socket(), key, guest, remote, remote, undecided=undecided)
        flow.syn_received(syn, wire.parse_syn_options(buf, syn.options_start, syn.start))
        table.add(flow)
        shared.pending[False] += 1
        shared.connecting[flow] = None
        return flow

    def _connect(self, flow: TcpFlow, target: Target, guest: Endpoint, remote: Endpoint) -> None:
        """Order the host's sockets of a connection from `guest` to `remote`."""
        if target.name is not None and not flow.permission.pinned:
            flow.permission.pin(self._context.targets, remote)
        hosts, handshake = target.hosts, None
        if target.proxy is not None and self.make_handshake is not None:
            handshake = self.make_handshake(target.proxy, target.name or remote.address, remote.port)
            hosts = (target.proxy.server,)
        gate = self._gate(remote, target)
        if handshake is None and len(hosts) == 1:
            self._opened(flow, None if hosts[0] == remote else hosts[0], target, gate=gate)
            local = self._context.address_map.outbound(hosts[0].address)
            order = OpenStream(flow.socket, hosts[0], local, guest, remote, target.name)
            self._context.out.orders.append(order)
        else:
            attempts = Attempts(self._shared, self._table.by_socket, flow, hosts, target.name, handshake)
            self._opened(flow, hosts[0], target, attempts, gate)
            attempts.begin()

    def _gate(self, remote: Endpoint, target: Target) -> Gate | None:
        if target.check is Check.NONE:
            return None
        from sansnet_core.proto.tcp.gate import open_gate  # few networks have rules that need it

        return open_gate(self._context, remote, target)

    def _serve(self, flow: TcpFlow, service: SocketId | None) -> None:
        """Let the program serve a connection of the guest."""
        self._opened(flow, None, None)
        self._context.out.orders.append(ServeStream(flow.socket, service, flow.guest, flow.remote))

    def _opened(
        self,
        flow: TcpFlow,
        host: Endpoint | None,
        target: Target | None,
        attempts: Attempts[TcpFlow] | None = None,
        gate: Gate | None = None,
    ) -> None:
        flow.open(host, target, attempts, gate)
        if self._context.notices:
            self._context.notify(reports.opened(flow, self._context.now))

    def _hold(self, flow: TcpFlow, target: Target | None) -> None:
        """Ask for a verdict about a connection of the guest; without a target, resolve its name first."""
        context, permission = self._context, flow.permission
        if (target is None or target.name is not None) and not permission.pinned:
            permission.pin(context.targets, flow.remote)
        if target is not None:
            self.questions.ask(flow, flow.remote, target)
            return
        self.questions.add(flow)
        permission.wait(partial(self._resolved, flow))

    def _resolved(self, flow: TcpFlow) -> None:
        """The name of a destination has been resolved, or cannot be."""
        if flow not in self.questions or flow.permission.asked:
            return
        self.questions.remove(flow)
        target = self._context.targets.find(TCP, flow.remote, allowed=flow.permission.allowed)
        if target is None:
            target = Target(Judgement(Action.REFUSE), reason=Reason.NAME_UNRESOLVED, errno=EHOSTUNREACH)
        self._settle(flow, target)

    def _settle(self, flow: TcpFlow, target: Target) -> None:
        """Act on the target of a connection of the guest that does not wait any more."""
        if target.opens:
            self._connect(flow, target, *endpoints(flow.key))
        elif target.reason is None:
            self._hold(flow, target)
        else:
            self._refuse(flow, target)

    def _refuse(self, flow: TcpFlow, target: Target) -> None:
        """Refuse a connection that has waited."""
        reason = target.reason or Reason.REFUSED
        ends = (flow.remote, flow.guest) if flow.inbound else (flow.guest, flow.remote)
        self._context.drop_packet(reason, TCP, *ends)
        flow.refuse(_error(target), reason, target)
        if not flow.inbound:
            self.questions.remember(flow)

    def _refused(self, guest: Endpoint, remote: Endpoint, errno: int, reason: Reason, target: Target | None) -> None:
        """Count and report a connection of the guest that may not open."""
        self._context.drop_packet(reason, TCP, guest, remote)
        self.notify_refused(guest, remote, errno, reason, target)

    def notify_refused(
        self, guest: Endpoint, remote: Endpoint, errno: int, reason: Reason, target: Target | None = None
    ) -> None:
        """Report a connection of the guest that may not open."""
        context = self._context
        if context.notices:
            name, rule = (target.name, target.judgement.text) if target else (None, None)
            context.notify(FlowRefused(TCP, guest, remote, None, errno, reason, False, context.now, name, rule))

    def _answer(
        self, guest: Endpoint, remote: Endpoint, host: bytes, syn: TcpHeader, error: ExtendedError | None
    ) -> None:
        refuse_syn(self._context, self._shared.icmp_errors, guest, remote, host, syn.sequence, error)

    # verdicts

    def flow_decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        flow = self._table.by_socket.get(socket)
        if flow is not None and flow in self.questions and flow.permission.asked:
            checks.verdict(verdict, TCP)
            self.questions.remove(flow)
            self._decide(flow, verdict)

    def _decide(self, flow: TcpFlow, verdict: Verdict) -> None:
        """Act on a verdict about a connection that waited for it."""
        permission, target = flow.permission, flow.permission.target
        permission.verdict_came(allowed=isinstance(verdict, Allow))
        assert target is not None  # it was asked about
        if isinstance(verdict, Allow):
            if flow.inbound:
                self.inbound.send_syn(flow, flow.guest, target)
            elif verdict.to is not None:
                permission.redirect()
                self._connect(flow, target._replace(hosts=(verdict.to,)), *endpoints(flow.key))
            else:
                self._find_again(flow)
        elif isinstance(verdict, Serve) and not flow.inbound:
            self._serve(flow, None)
        else:
            judgement = Judgement(Action.DROP if isinstance(verdict, Drop) else Action.REFUSE, target.judgement.rule)
            errno = verdict.errno if isinstance(verdict, Refuse) else EACCES
            self._refuse(flow, Target(judgement, (), target.name, Reason.REFUSED, errno))

    def _find_again(self, flow: TcpFlow) -> None:
        """Find the target of a connection of the guest that the driver has allowed."""
        target = self._context.targets.find(TCP, flow.remote, allowed=True)
        if target is None:
            self._hold(flow, None)
        else:
            self._settle(flow, target)

    def _time_over(self, flow: TcpFlow) -> None:
        """Refuse a connection that got no verdict, or whose name was not resolved, in time."""
        permission = flow.permission
        reason, errno = (Reason.UNDECIDED, EACCES) if permission.asked else (Reason.NAME_UNRESOLVED, EHOSTUNREACH)
        self._withdraw(flow)
        judgement = permission.target.judgement if permission.target else Judgement(Action.ALLOW)
        self._refuse(flow, Target(judgement, (), permission.name, reason, errno))

    def _withdraw(self, flow: TcpFlow) -> None:
        """Withdraw the question about a connection, if there is one."""
        permission = flow.permission
        if permission.asked and not flow.inbound:  # the order to abort an inbound connection withdraws it too
            self._context.out.orders.append(CloseSocket(flow.socket))
        permission.verdict_came(allowed=permission.allowed)

    # other rules

    def reconfigured(self) -> None:
        """Follow the context's new configuration, by which connections that wait may open, or are refused."""
        context, questions = self._context, self.questions
        questions.forget_refusals()
        for flow in questions.undecided():
            permission = flow.permission
            target: Target | None
            if flow.inbound:
                judgement = context.policy.judge(TCP, flow.host.address, flow.guest.port, inbound=True)
                if judgement.action in (Action.ALLOW, Action.ASK):
                    continue  # the question has been asked
                target = Target(judgement, reason=Reason.REFUSED, errno=judgement.errno)
            else:
                target = context.targets.find(TCP, flow.remote, allowed=permission.allowed)
                asks = target is not None and target.reason is None and not target.opens
                if asks if permission.asked else target is None:
                    continue
            questions.remove(flow)
            if permission.asked and (target is None or target.reason is None):
                self._withdraw(flow)
                self._table.rename(flow, context.new_socket())
            self._withdraw(flow)
            if target is None:
                self._hold(flow, None)
            else:
                self._settle(flow, target)

    def is_allowed(self, flow: TcpFlow) -> bool:
        """Whether the present rules allow a connection that is open. No rule was asked about some, such as services."""
        target, context = flow.permission.target, self._context
        if target is None or flow in self.questions:
            return True
        if flow.inbound:
            judgement = context.policy.judge(TCP, flow.host.address, flow.guest.port, inbound=True)
            return judgement.action in (Action.ALLOW, Action.ASK)
        if flow.gate is not None and not flow.gate.is_allowed():
            return False
        if flow.attempts is not None and target.via is None:
            return flow.attempts.restrict(partial(self._is_open, flow))
        return self._is_open(flow, None if flow.permission.elsewhere else flow.host)

    def _is_open(self, flow: TcpFlow, host: Endpoint | None) -> bool:
        targets, target = self._context.targets, flow.permission.target
        assert target is not None
        rule = target.judgement.rule
        if rule is not None and rule.to is not None and host is not None:
            now = targets.find(TCP, flow.remote)  # a redirection ends with its rule
            return now is not None and host in now.hosts
        host = None if target.via else host
        return targets.is_allowed(TCP, flow.remote, host, target.name, via=target.via)


def _error(target: Target) -> ExtendedError | None:
    """The failure that the guest sees; None if it gets no answer."""
    return None if target.judgement.action is Action.DROP else local_error(target.errno)
