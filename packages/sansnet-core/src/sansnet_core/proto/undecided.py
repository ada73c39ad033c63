"""New flows of UDP and ping: which may open, which wait for a verdict, and which were refused.

Theory of operation. The rules decide about a new flow, or leave it to the program: then a `DecideFlow` order asks, and
the flow's first packets wait here in order. It has no host socket yet, because the verdict decides which one it gets. A
flow without a verdict in time is refused, and the question is withdrawn by `CloseSocket`.

A refused flow is remembered for a time, so that each further packet gets the same answer without another question or
notice. The time runs from the refusal: packets do not prolong it, so that a guest that repeats its packets for ever is
judged again.

The guest's flows and those of outsiders have separate limits, so that outsiders cannot use up the guest's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from errno import EACCES, ECONNREFUSED
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from sansnet_core import checks
from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.notices import FlowRefused, FlowReport
from sansnet_core.orders import CloseSocket, DecideFlow, Endpoint, SocketId
from sansnet_core.policy import Allow, Drop, Refuse, Serve, Verdict

__all__ = ["NewFlow", "Question", "Refusal", "Undecided"]

MAX_PACKETS: Final = 8
"""Packets of one flow that wait for its verdict. A run of datagrams counts as one."""

MAX_BYTES: Final = 65536
"""Bytes of one flow that wait for its verdict: at least one packet of any size."""

MAX_TOTAL: Final = 16 << 20
"""Bytes of all flows of one kind that wait for verdicts. Beyond it, flows are decided, but their packets are lost."""

PURGE_INTERVAL: Final = 1.0
"""Seconds; how late a refusal may be forgotten. Bounds the work of the timer."""

_ALLOW: Final = Allow()
"""Made once: it is the verdict about nearly every flow."""

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
    """

    key: Hashable
    protocol: int
    guest: Endpoint
    remote: Endpoint
    outsider: Endpoint | None = None
    forward: SocketId | None = None

    @property
    def inbound(self) -> bool:
        """Whether an outsider opens it."""
        return self.outsider is not None


class Question(Generic[P]):
    """A flow that waits for its verdict.

    Attributes:
        socket: its name.
        flow: the flow.
        deadline: when it is refused.
        packets: those that wait, the earliest first.
        size: their bytes.
    """

    __slots__ = ("deadline", "flow", "packets", "size", "socket")

    def __init__(self, socket: SocketId, flow: NewFlow, deadline: float) -> None:
        self.socket = socket
        self.flow = flow
        self.deadline = deadline
        self.packets: deque[P] = deque()
        self.size = 0


class Refusal(NamedTuple):
    """A flow that was refused.

    Attributes:
        verdict: the answer to its packets; None if that follows from `reason` alone.
        reason: the name under which they are counted.
        until: when it is forgotten.
    """

    verdict: Verdict | None
    reason: Reason
    until: float


class Undecided(Generic[P]):
    """The new flows of one protocol; `P` is a packet that waits.

    Args:
        context: of the network.
        max_refusals: number of the guest's flows, and of inbound ones, whose refusals are remembered.
        settle: called with each question once it is decided, the verdict, and the reason if that is a refusal.
    """

    def __init__(
        self,
        context: Context,
        max_refusals: tuple[int, int],
        settle: Callable[[Question[P], Verdict, Reason], None],
    ) -> None:
        self._context = context
        self._max_refusals = max_refusals
        self._settle = settle
        self._questions: dict[Hashable, Question[P]] = {}
        """The earliest first."""
        self._sockets: dict[SocketId, Question[P]] = {}
        self._counts = [0, 0]
        """Number of questions about the guest's flows, and about inbound ones."""
        self._sizes = [0, 0]
        """Bytes of the packets that wait for them."""
        self._refusals: tuple[dict[Hashable, Refusal], dict[Hashable, Refusal]] = ({}, {})
        """Those of the guest's flows, and of inbound ones; the earliest first."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def question(self, key: Hashable) -> Question[P] | None:
        """The question about a flow that waits."""
        return self._questions.get(key)

    def refusal(self, key: Hashable, *, inbound: bool = False) -> Refusal | None:
        """The refusal of a flow that is remembered."""
        found = self._refusals[inbound].get(key)
        return found if found is not None and found.until > self._context.now else None

    def judge(self, flow: NewFlow) -> Verdict | None:
        """The verdict of the rules about a flow; None if the program must be asked."""
        guest, remote, inbound = flow.guest, flow.outsider or flow.remote, flow.inbound
        port = guest.port if inbound else remote.port
        judgement = self._context.policy.judge(flow.protocol, remote.address, port, inbound=inbound)
        return (
            _ALLOW if judgement.allowed and (judgement.rule is None or judgement.rule.to is None) else judgement.verdict
        )

    def ask(self, flow: NewFlow) -> Question[P] | None:
        """Ask the program about a flow; None if too many wait already."""
        context = self._context
        limits = context.config.limits
        if self._counts[flow.inbound] >= limits.undecided_flows:
            if flow.key not in self._refusals[flow.inbound]:  # else it is reported already
                self.refuse(flow, None, Reason.UNDECIDED_LIMIT)
            return None
        self._counts[flow.inbound] += 1
        question: Question[P] = Question(context.new_socket(), flow, context.now + limits.decision_time)
        self._questions[flow.key] = self._sockets[question.socket] = question
        context.timers.arm(self, min(self.deadline, question.deadline))
        context.out.orders.append(
            DecideFlow(question.socket, flow.protocol, flow.guest, flow.outsider or flow.remote, flow.inbound)
        )
        return question

    def keep(self, question: Question[P], packet: P, size: int) -> None:
        """Keep a packet until the verdict, or drop it if too much waits already.

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
            return
        question.packets.append(packet)
        question.size += size
        self._sizes[flow.inbound] += size

    def decided(self, socket: SocketId, verdict: Verdict) -> None:
        """See `Network.flow_decided`."""
        question = self._sockets.get(socket)
        if question is not None:
            checks.verdict(verdict, question.flow.protocol)
            self._forget(question)
            if isinstance(verdict, Serve) and question.flow.inbound:
                verdict = Refuse()  # the program cannot take the guest's place
            self._settle(question, verdict, Reason.REFUSED)

    def withdraw(self, unwanted: Callable[[NewFlow], bool]) -> None:
        """Withdraw the questions about some flows, whose packets are lost."""
        for question in [one for one in self._questions.values() if unwanted(one.flow)]:
            self._forget(question)
            self._context.out.orders.append(CloseSocket(question.socket))

    def refuse(self, flow: NewFlow, verdict: Verdict | None, reason: Reason) -> Refusal:
        """Report that a flow is refused, and remember it; see `Refusal`."""
        context = self._context
        refusals = self._refusals[flow.inbound]
        # At the limit of questions, the flow's next packet may find room
        time = 0.0 if reason is Reason.UNDECIDED_LIMIT else context.config.limits.udp_idle_once
        refusal = Refusal(verdict, reason, context.now + time)
        refusals.pop(flow.key, None)
        if len(refusals) >= self._max_refusals[flow.inbound]:
            del refusals[next(iter(refusals))]
        refusals[flow.key] = refusal
        context.timers.arm(self, min(self.deadline, refusal.until + PURGE_INTERVAL))
        errno = verdict.errno if isinstance(verdict, Refuse) else 0
        context.notify(
            FlowRefused(flow.protocol, flow.guest, flow.remote, flow.outsider, errno, reason, flow.inbound, context.now)
        )
        return refusal

    def forget_refusals(self) -> None:
        """Judge all refused flows again: rules or services have changed."""
        for refusals in self._refusals:
            refusals.clear()

    def reconfigured(self, is_open: Callable[[NewFlow], bool]) -> None:
        """Follow the context's new configuration.

        Args:
            is_open: whether the address map has a host endpoint for a flow of the guest that waits.
        """
        self.forget_refusals()
        address_map = self._context.address_map
        for question in list(self._questions.values()):
            flow = question.flow
            verdict, reason = self.judge(flow), Reason.REFUSED
            if not (flow.inbound or is_open(flow)):
                reason = address_map.refusal(flow.remote.address)
                verdict = Refuse(ECONNREFUSED if reason is Reason.OWN_ADDRESS else EACCES)
            if isinstance(verdict, Refuse | Drop):
                self._refuse_waiting(question, verdict, reason)

    def _refuse_waiting(self, question: Question[P], verdict: Verdict, reason: Reason) -> None:
        self._forget(question)
        self._context.out.orders.append(CloseSocket(question.socket))
        self._settle(question, verdict, reason)

    def expire(self) -> None:
        """Refuse the flows without a verdict in time, and forget old refusals."""
        context = self._context
        again = inf
        while self._questions:
            question = next(iter(self._questions.values()))
            if question.deadline > context.now:
                again = question.deadline
                break
            self._refuse_waiting(question, Refuse(EACCES), Reason.UNDECIDED)
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
            )
            for question in self._questions.values()
            for flow in (question.flow,)
        ]

    def _forget(self, question: Question[P]) -> None:
        flow = question.flow
        del self._questions[flow.key], self._sockets[question.socket]
        self._counts[flow.inbound] -= 1
        self._sizes[flow.inbound] -= question.size
