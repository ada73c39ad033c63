"""New flows of UDP and ping: which may open, which must wait, and which were refused.

Theory of operation. The rules decide about a new flow, or leave it to the program: then a `DecideFlow` order asks. The
destination may also stand for a name, whose addresses must be resolved first (`targets`). Until both are done, the
flow's first packets wait here in order. It has no host socket yet, because the outcome decides which one it gets. A
flow that has waited too long is refused, and a question to the program is withdrawn by `CloseSocket`.

A refused flow is remembered for a time, so that each further packet gets the same answer without another question or
notice. The time runs from the refusal: packets do not prolong it, so that a guest that repeats its packets for ever is
judged again. It ends at once if the destination stands for other names. The guest's flows and those of outsiders
have separate limits, so that outsiders cannot use up the guest's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from errno import EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH
from functools import partial
from math import inf
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowRefused, FlowReport
from sansnet_core.orders import CloseSocket, DecideFlow, Endpoint, SocketId
from sansnet_core.policy import Action, Allow, Drop, ProxyConfig, Refuse, Serve, Verdict
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.targets import Target

__all__ = ["UNREACHABLE", "Admission", "NewFlow", "Outcome", "Question", "Refusal", "Undecided"]

MAX_PACKETS: Final = 8
"""Packets of one flow that wait. A run of datagrams counts as one."""

MAX_BYTES: Final = 65536
"""Bytes of one flow that wait: at least one packet of any size."""
MAX_TOTAL: Final = 16 << 20
"""Bytes of all flows of one kind that wait. Beyond it, flows are decided, but their packets are lost."""

PURGE_INTERVAL: Final = 1.0
"""Seconds; how late a refusal may be forgotten. Bounds the work of the timer."""

UNREACHABLE: Final = frozenset((EADDRNOTAVAIL, EAFNOSUPPORT, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH))
"""Failures of one of a host's addresses, after which the next one is tried."""

UNRESOLVED_TIME: Final = 1.0
"""Seconds for which it is remembered that a name had no address. The resolver knows how long that is valid."""

P = TypeVar("P")


class NewFlow(NamedTuple):
    """A flow that is about to open.

    Attributes:
        key: what its packets have in common.
        protocol: IP protocol number.
        guest: the guest's endpoint.
        remote: the remote endpoint in the guest's packets.
        outsider: for an inbound flow, the remote endpoint as the host sees it; else None.
        forward: for an inbound flow, the forwarded port that it came to; else None.
        groups: whether `remote` may be a group.
    """

    key: Hashable
    protocol: int
    guest: Endpoint
    remote: Endpoint
    outsider: Endpoint | None = None
    forward: SocketId | None = None
    groups: bool = False

    @property
    def inbound(self) -> bool:
        """Whether an outsider opens it."""
        return self.outsider is not None


class Admission(NamedTuple):
    """A flow may open.

    Attributes:
        hosts: the host's endpoints, in the order in which they are tried; at least one without a proxy.
        redirected: whether a rule or a verdict chose the endpoint.
        name: the host name that the destination stands for.
        judgement: the one that decided, for notices; None for a verdict.
        proxy: the proxy that it goes through. Then it has no `hosts`.
    """

    hosts: tuple[Endpoint, ...]
    redirected: bool = False
    name: str | None = None
    judgement: Judgement | None = None
    proxy: ProxyConfig | None = None


@mypyc_attr(allow_interpreted_subclasses=True)
class Question(Generic[P]):
    """A flow that waits.

    Attributes:
        socket: its name.
        flow: the flow.
        deadline: when it is refused.
        packets: those that wait, the earliest first.
        size: their bytes.
        name: the host name that the destination stands for.
        allowed: whether the program has allowed it.
        asked: whether the program is asked now.
        resolving: called once the name is resolved, if it is now; else None. If neither, it waits for its first packet.
    """

    __slots__ = ("allowed", "asked", "deadline", "flow", "name", "packets", "resolving", "size", "socket")

    def __init__(self, socket: SocketId, flow: NewFlow, deadline: float, name: str | None) -> None:
        self.socket = socket
        self.flow = flow
        self.deadline = deadline
        self.packets: deque[P] = deque()
        self.size = 0
        self.name = name
        self.allowed = self.asked = False
        self.resolving: Callable[[], None] | None = None


class Refusal(NamedTuple):
    """A flow that was refused.

    Attributes:
        verdict: the answer to its packets; None if that follows from `reason` alone.
        reason: the name under which they are counted.
        until: when it is forgotten.
        names: the names that the destination stood for.
    """

    verdict: Verdict | None
    reason: Reason
    until: float
    names: Sequence[str] = ()


Outcome: TypeAlias = Admission | Question[P] | Refusal | None
"""The result for a new flow: it may open, waits, or is refused. None means that too many wait already."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Undecided(Generic[P]):
    """The new flows of one protocol; `P` is a packet that waits.

    Args:
        context: of the network.
        max_refusals: number of the guest's flows, and of inbound ones, whose refusals are remembered.
        settle: called with each question once it is decided, and the outcome.
    """

    def __init__(
        self,
        context: Context,
        max_refusals: tuple[int, int],
        settle: Callable[[Question[P], Admission | Serve | Refusal], None],
    ) -> None:
        self._context = context
        self._max_refusals = max_refusals
        self._settle = settle
        self._questions: dict[Hashable, Question[P]] = {}
        """Those with the earliest deadline first."""
        self._sockets: dict[SocketId, Question[P]] = {}
        self._counts = [0, 0]
        """Number of questions about the guest's flows, and about inbound ones."""
        self._sizes = [0, 0]
        """Bytes of the packets that wait for them."""
        self._refusals: tuple[dict[Hashable, Refusal], dict[Hashable, Refusal]] = ({}, {})
        """Those of the guest's flows, and of inbound ones; the earliest first."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def known(self, flow: NewFlow) -> Question[P] | Refusal | None:
        """The question about a flow that waits, or the refusal that is remembered."""
        question = self._questions.get(flow.key)
        if question is not None:
            return question
        found = self._refusals[flow.inbound].get(flow.key)
        if found is None or found.until <= self._context.now or found.names != self._names(flow):
            return None
        return found

    def judge(self, flow: NewFlow) -> Outcome[P]:
        """Judge a flow that is not `known`."""
        target = self._find(flow)
        if target is not None and target.opens:
            return _admission(target)
        if target is None or (target.judgement.action is Action.ASK and target.reason is None):
            return self._wait(flow, target)
        return self._refuse_target(flow, target)

    def _find(self, flow: NewFlow, *, allowed: bool = False) -> Target | None:
        """Where a flow leads; None if its name must be resolved first."""
        context = self._context
        if flow.outsider is None:
            return context.targets.find(flow.protocol, flow.remote, groups=flow.groups, allowed=allowed)
        judgement = context.policy.judge(flow.protocol, flow.outsider.address, flow.guest.port, inbound=True)
        if judgement.allowed or (allowed and judgement.action is Action.ASK):
            return Target(judgement, (flow.outsider,))
        reason = None if judgement.action is Action.ASK else Reason.REFUSED
        return Target(judgement, (), None, reason, judgement.errno)

    def _names(self, flow: NewFlow) -> Sequence[str]:
        bindings = self._context.bindings
        return tuple(bindings.names(flow.remote.address)) if bindings is not None and not flow.inbound else ()

    # waiting

    def _wait(self, flow: NewFlow, target: Target | None) -> Question[P] | None:
        """Let a flow wait for a verdict, or with no target for its name; None if too many wait already."""
        context = self._context
        limits = context.config.limits
        names = self._names(flow)
        name = target.name if target is not None else next(iter(names), None)
        if self._counts[flow.inbound] >= limits.undecided_flows:
            if flow.key not in self._refusals[flow.inbound]:  # else it is reported already
                self._refuse(flow, None, Reason.UNDECIDED_LIMIT, name)
            return None
        self._counts[flow.inbound] += 1
        question: Question[P] = Question(context.new_socket(), flow, context.now + limits.decision_time, name)
        self._questions[flow.key] = self._sockets[question.socket] = question
        if name is not None:
            context.targets.pin(flow.remote)
        context.timers.arm(self, min(self.deadline, question.deadline))
        if target is not None:
            self._ask(question)
        return question

    def _ask(self, question: Question[P]) -> None:
        """Ask the program."""
        flow = question.flow
        question.asked = True
        self._context.out.orders.append(
            DecideFlow(
                question.socket, flow.protocol, flow.guest, flow.outsider or flow.remote, flow.inbound, question.name
            )
        )

    def _resolve(self, question: Question[P]) -> None:
        """Resolve the name that the destination stands for."""
        question.resolving = partial(self._resolved, question)
        self._context.targets.wait(question.flow.remote, question.resolving)

    def _resolved(self, question: Question[P]) -> None:
        if not question.resolving or self._questions.get(question.flow.key) is not question:
            return  # it was decided or withdrawn meanwhile
        question.resolving = None
        self._proceed(question, self._find(question.flow, allowed=question.allowed), resolved=True)

    def _proceed(self, question: Question[P], target: Target | None, *, resolved: bool = False) -> None:
        """Do what the target of a flow that waits demands.

        Args:
            question: about the flow.
            target: None if its name must be resolved first.
            resolved: whether it has been resolved just now.
        """
        if target is not None and target.opens:
            self._end(question, _admission(target))
        elif target is None and resolved:
            self._end(question, Refuse(EHOSTUNREACH), Reason.NAME_UNRESOLVED)
        elif target is None:
            self._recall(question)
            if not question.resolving:
                self._resolve(question)
        elif target.judgement.action is Action.ASK and target.reason is None:
            question.resolving = None
            if not question.asked:
                self._ask(question)
        else:
            verdict, reason = _refusal(target)
            self._end(question, verdict or Refuse(target.errno), reason, target.judgement)

    def keep(self, question: Question[P], packet: P, size: int) -> None:
        """Keep a packet until the flow is decided, or drop it if too much waits already.

        Args:
            question: about its flow.
            packet: must hold no view of a frame.
            size: its bytes.
        """
        flow = question.flow
        if (
            len(question.packets) >= MAX_PACKETS
            or question.size + size > MAX_BYTES
            or self._sizes[flow.inbound] + size > MAX_TOTAL
        ):
            ends = (flow.remote, flow.guest) if flow.inbound else (flow.guest, flow.remote)
            self._context.drop_packet(Reason.UNDECIDED_LIMIT, flow.protocol, *ends)
        else:
            question.packets.append(packet)
            question.size += size
            self._sizes[flow.inbound] += size
        if not (question.asked or question.resolving):
            self._resolve(question)  # this may already end the question

    def decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        question = self._sockets.get(socket)
        if question is None or not question.asked:
            return
        flow, context = question.flow, self._context
        checks.verdict(verdict, flow.protocol)
        question.asked = False
        if isinstance(verdict, Serve) and flow.inbound:
            verdict = Refuse()  # the program cannot take the guest's place
        if not isinstance(verdict, Allow):
            self._end(question, verdict)
        elif verdict.to is not None and not flow.inbound:
            self._end(question, Admission((verdict.to,), True, question.name))
        else:
            question.allowed = True
            question.deadline = context.now + context.config.limits.decision_time
            self._questions[flow.key] = self._questions.pop(flow.key)
            self._proceed(question, self._find(flow, allowed=True))

    def withdraw(self, unwanted: Callable[[NewFlow], bool]) -> None:
        """Withdraw the questions about some flows, whose packets are lost."""
        for question in [one for one in self._questions.values() if unwanted(one.flow)]:
            self._recall(question)
            self._forget(question)

    def _recall(self, question: Question[P]) -> None:
        """Tell the program that its verdict is not needed, if it was asked."""
        if question.asked:
            question.asked = False
            del self._sockets[question.socket]
            self._context.out.orders.append(CloseSocket(question.socket))
            question.socket = self._context.new_socket()
            self._sockets[question.socket] = question

    def _end(
        self,
        question: Question[P],
        outcome: Admission | Verdict | None,
        reason: Reason = Reason.REFUSED,
        judgement: Judgement | None = None,
    ) -> None:
        """The flow opens, or is refused for a `reason`."""
        self._recall(question)
        self._forget(question)
        if isinstance(outcome, Admission | Serve):
            self._settle(question, outcome)
        else:
            self._settle(question, self._refuse(question.flow, outcome, reason, question.name, judgement))

    def _forget(self, question: Question[P]) -> None:
        flow = question.flow
        del self._questions[flow.key], self._sockets[question.socket]
        self._counts[flow.inbound] -= 1
        self._sizes[flow.inbound] -= question.size
        if question.name is not None:
            self._context.targets.unpin(flow.remote, question.resolving)

    def abandon(self, owner: object) -> str | None:
        """Give up a flow that waits after an exception in its methods, as text; None if `owner` is none."""
        new = owner.flow if isinstance(owner, Question) else owner
        question = self._questions.pop(new.key, None) if isinstance(new, NewFlow) else None
        if question is None:
            return None
        self._context.out.close(question.socket)
        self._context.drop_packet(Reason.FAILED, question.flow.protocol, question.flow.guest, question.flow.remote)
        return f"new flow of {question.flow.guest} to {question.flow.remote}"

    def named(self, socket: SocketId) -> object:
        """The question with a name, if there is one."""
        return self._sockets.get(socket)

    def recount(self) -> None:
        """Correct the sums after an exception, from the questions that there are."""
        questions = list(self._questions.values())
        self._sockets = {question.socket: question for question in questions}
        for inbound in (False, True):
            self._counts[inbound] = sum(one.flow.inbound is inbound for one in questions)
            self._sizes[inbound] = sum(one.size for one in questions if one.flow.inbound is inbound)
        if self.deadline == inf and (questions or any(self._refusals)):
            self._context.timers.arm(self, self._context.now + PURGE_INTERVAL)

    # refusals

    def _refuse_target(self, flow: NewFlow, target: Target) -> Refusal:
        return self._refuse(flow, *_refusal(target), target.name, target.judgement)

    def _refuse(
        self,
        flow: NewFlow,
        verdict: Verdict | None,
        reason: Reason,
        name: str | None,
        judgement: Judgement | None = None,
    ) -> Refusal:
        """Report that a flow is refused, and remember it; see `Refusal`."""
        context = self._context
        refusals = self._refusals[flow.inbound]
        # At the limit of questions, the flow's next packet may find room
        time = {Reason.UNDECIDED_LIMIT: 0.0, Reason.NAME_UNRESOLVED: UNRESOLVED_TIME}.get(
            reason, context.config.limits.udp_idle_once
        )
        refusal = Refusal(verdict, reason, context.now + time, self._names(flow))
        refusals.pop(flow.key, None)
        if len(refusals) >= self._max_refusals[flow.inbound]:
            del refusals[next(iter(refusals))]
        refusals[flow.key] = refusal
        context.timers.arm(self, min(self.deadline, refusal.until + PURGE_INTERVAL))
        errno = verdict.errno if isinstance(verdict, Refuse) else 0
        context.notify(
            FlowRefused(
                flow.protocol,
                flow.guest,
                flow.remote,
                flow.outsider,
                errno,
                reason,
                flow.inbound,
                context.now,
                name,
                judgement.text if judgement is not None and context.notices else None,
            )
        )
        return refusal

    def forget_refusals(self) -> None:
        """Judge all refused flows again: rules or services have changed."""
        for refusals in self._refusals:
            refusals.clear()

    # changes and time

    def reconfigured(self) -> None:
        """Judge the flows that wait by the context's new configuration."""
        self.forget_refusals()
        for question in list(self._questions.values()):
            if self._questions.get(question.flow.key) is question:
                self._proceed(question, self._find(question.flow, allowed=question.allowed))

    def expire(self) -> None:
        """Refuse the flows that waited too long, and forget old refusals."""
        context = self._context
        again = inf
        while self._questions:
            question = next(iter(self._questions.values()))
            if question.deadline > context.now:
                again = question.deadline
                break
            if question.asked:
                self._end(question, Refuse(EACCES), Reason.UNDECIDED)
            else:
                self._end(question, Refuse(EHOSTUNREACH), Reason.NAME_UNRESOLVED)
        for refusals in self._refusals:
            while refusals:
                key, refusal = next(iter(refusals.items()))
                if refusal.until > context.now:
                    again = min(again, refusal.until + PURGE_INTERVAL)
                    break
                del refusals[key]
        context.timers.arm(self, again)

    def reports(self) -> list[FlowReport]:
        """A report on each flow that waits."""
        return [
            FlowReport(
                question.socket,
                flow.protocol,
                flow.guest,
                flow.remote,
                flow.outsider or flow.remote,
                flow.inbound,
                "UNDECIDED",
                0,
                0,
                question.name,
            )
            for question in self._questions.values()
            for flow in (question.flow,)
        ]


def _admission(target: Target) -> Admission:
    judgement = target.judgement
    to = judgement.rule.to if judgement.rule is not None else None
    hosts = target.hosts if to is None else (to,)
    return Admission(hosts, to is not None, target.name, judgement, target.proxy)


def _refusal(target: Target) -> tuple[Verdict | None, Reason]:
    """The answer to the packets of a flow that has no host endpoint, and the reason."""
    reason = target.reason or Reason.REFUSED
    if reason is Reason.REFUSED:
        verdict = target.judgement.verdict
        return (verdict if isinstance(verdict, Refuse | Drop) else Refuse(target.errno)), reason
    if reason in (Reason.NAME_UNRESOLVED, Reason.PROXY):
        return Refuse(target.errno), reason
    return None, reason
