"""The flows of UDP: limits, idle times, reports.

At the limit, the least recently used flow is closed. The order of use is not kept, since each datagram changes it. It
is found when a flow must be closed, and serves until all flows in it have been used or closed: then it is found again.
So each closed flow has its share of one sorting, and eviction is exact. Flows that outsiders or the program began are
counted and ordered separately.

One timer serves all flows. With a timer per flow, a port scan would leave an entry in the timers' heap for each flow
that it evicts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowOpened, FlowReport
from sansnet_core.proto.udp.flow import End, Flow
from sansnet_core.proto.udp.headers import Headers
from sansnet_core.wire.ip import UDP

__all__ = ["FlowTable"]

IDLE_GRANULARITY: Final = 1.0
"""Seconds; how late an idle flow may be closed. Bounds the work of the timer that thousands of flows share."""


@mypyc_attr(allow_interpreted_subclasses=True)
class _Oldest:
    """The flows of a kind in the order of their use, as it was at some time."""

    __slots__ = ("_at", "_keys")

    def __init__(self) -> None:
        self._at = -inf
        self._keys: list[bytes] = []
        """Those used last come first."""

    def take(self, flows: dict[bytes, Flow], inbound: bool, now: float) -> Flow:
        """The least recently used flow of a kind, of which there is one at least."""
        while True:
            while self._keys:
                flow = flows.get(self._keys.pop())
                if flow is not None and flow.inbound == inbound and flow.last_used <= self._at:
                    return flow
            ordered = sorted((flow for flow in flows.values() if flow.inbound == inbound), key=_last_used)
            self._keys = [flow.key for flow in reversed(ordered)]
            self._at = now


def _last_used(flow: Flow) -> float:
    return flow.last_used


@mypyc_attr(allow_interpreted_subclasses=True)
class FlowTable:
    """All flows of UDP.

    Args:
        context: of the network.
        ended: called with the other end of a flow that was closed, if that is needed no longer.

    Attributes:
        flows: `flow_key` -> flow.
        headers: makes the headers of their datagrams to the guest.
    """

    def __init__(self, context: Context, ended: Callable[[End], None]) -> None:
        self._context = context
        self._ended = ended
        self.flows: dict[bytes, Flow] = {}
        self.headers = Headers(context)
        self._numbers = [0, 0]
        """Numbers of flows of the guest, and of inbound ones."""
        self._oldest = (_Oldest(), _Oldest())
        limits = context.config.limits
        self._max_flows = (limits.udp_flows, limits.udp_inbound_flows)
        self._idle_times = (limits.udp_idle_once, limits.udp_idle_stream)
        self.deadline = self.queued = inf
        self.ticket = 0

    def make_room(self, *, inbound: bool) -> None:
        """Close the least recently used flow of a kind if its limit is reached."""
        if self._numbers[inbound] >= self._max_flows[inbound]:
            oldest = self._oldest[inbound].take(self.flows, inbound, self._context.now)
            self._context.drop_packet(Reason.UDP_LIMIT, UDP, oldest.guest, oldest.remote)
            self.close(oldest)

    def add(self, flow: Flow) -> Flow:
        """Add a flow, for which there is room."""
        context = self._context
        flow.end.attach(flow)
        flow.last_used = context.now
        self.flows[flow.key] = flow
        self._numbers[flow.inbound] += 1
        context.timers.arm(self, min(self.deadline, context.now + min(self._idle_times)))
        if flow.name is not None:
            context.targets.pin(flow.remote)
        if context.notices:
            ends = flow.guest, flow.remote, flow.host
            rule = flow.judgement.text if flow.judgement is not None else None
            context.notify(FlowOpened(flow.socket, UDP, *ends, flow.inbound, context.now, flow.name, rule))
        return flow

    def close(self, flow: Flow, reason: Reason | None = None) -> None:
        """Forget a flow, for a reason if a rule ends it."""
        context = self._context
        self.remove(flow)
        context.notify(flow.closed(context.now, reason))
        if flow.name is not None:
            context.targets.unpin(flow.remote)
        if flow.end.detach(flow):
            self._ended(flow.end)

    def remove(self, flow: Flow) -> bool:
        """Remove a flow without its other end; whether it was there."""
        there = self.flows.get(flow.key) is flow
        if there:
            del self.flows[flow.key]
            self._numbers[flow.inbound] -= 1
            self.headers.forget(flow)
        return there

    def recount(self) -> None:
        """Correct the numbers after an exception, from the flows that there are."""
        inbound = sum(flow.inbound for flow in self.flows.values())
        self._numbers = [len(self.flows) - inbound, inbound]
        if self.flows and self.deadline == inf:
            self._context.timers.arm(self, self._context.now + IDLE_GRANULARITY)

    def expire(self) -> None:
        """Close the flows that were idle too long."""
        now = self._context.now
        again = inf
        for flow in list(self.flows.values()):
            deadline = flow.last_used + self._idle_times[flow.is_stream()]
            if deadline <= now:
                self.close(flow)
            else:
                again = min(again, deadline)
        if again < inf:
            self._context.timers.arm(self, max(again, now + IDLE_GRANULARITY))

    def reports(self) -> list[FlowReport]:
        """A report on each flow."""
        return [
            FlowReport(
                one.socket,
                UDP,
                one.guest,
                one.remote,
                one.host,
                one.inbound,
                "OPEN",
                one.sent,
                one.received,
                one.name,
            )
            for one in self.flows.values()
        ]
