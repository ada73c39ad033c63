"""The flows of UDP in the order of their use: limits, idle times, reports.

Flows that outsiders or the program began are ordered separately. So eviction at the limit is exact, and one timer
serves all flows: it looks only at idle ones, at most once a second. With a timer per flow, a port scan would leave an
entry in the timers' heap for each flow that it evicts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Final

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import FlowOpened, FlowReport
from sansnet_core.proto.udp.flow import End, Flow
from sansnet_core.wire.ip import UDP

__all__ = ["FlowTable"]

IDLE_GRANULARITY: Final = 1.0
"""Seconds; how late an idle flow may be closed. Bounds the work of the timer that thousands of flows share."""


@mypyc_attr(allow_interpreted_subclasses=True)
class FlowTable:
    """All flows of UDP.

    Args:
        context: of the network.
        ended: called with the other end of a flow that was closed, if that is needed no longer.

    Attributes:
        flows: `flow_key` -> flow.
    """

    def __init__(self, context: Context, ended: Callable[[End], None]) -> None:
        self._context = context
        self._ended = ended
        self.flows: dict[bytes, Flow] = {}
        self._recent: tuple[OrderedDict[bytes, Flow], OrderedDict[bytes, Flow]] = (OrderedDict(), OrderedDict())
        """The same flows in two tables, those of the guest and inbound ones; least recently used first."""
        limits = context.config.limits
        self._max_flows = (limits.udp_flows, limits.udp_inbound_flows)
        self._idle_times = (limits.udp_idle_once, limits.udp_idle_stream)
        self.deadline = self.queued = inf
        self.ticket = 0

    def touch(self, flow: Flow) -> None:
        """Make a flow the most recently used one."""
        flow.last_used = self._context.now
        self._recent[flow.inbound].move_to_end(flow.key)

    def make_room(self, *, inbound: bool) -> None:
        """Close the least recently used flow of a kind if its limit is reached."""
        recent = self._recent[inbound]
        if len(recent) >= self._max_flows[inbound]:
            oldest = next(iter(recent.values()))
            self._context.drop_packet(Reason.UDP_LIMIT, UDP, oldest.guest, oldest.remote)
            self.close(oldest)

    def add(self, flow: Flow) -> Flow:
        """Add a flow, for which there is room."""
        context = self._context
        flow.end.attach(flow)
        self.flows[flow.key] = self._recent[flow.inbound][flow.key] = flow
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
        del self.flows[flow.key], self._recent[flow.inbound][flow.key]
        context.notify(flow.closed(context.now, reason))
        if flow.name is not None:
            context.targets.unpin(flow.remote)
        if flow.end.detach(flow):
            self._ended(flow.end)

    def remove(self, flow: Flow) -> bool:
        """Remove a flow that is given up, without its other end; whether it was there."""
        there = self.flows.get(flow.key) is flow
        if there:
            del self.flows[flow.key]
        return there

    def recount(self) -> None:
        """Correct the order of use after an exception, from the flows that there are."""
        for inbound, recent in enumerate(self._recent):
            for key in [key for key, flow in recent.items() if self.flows.get(key) is not flow]:
                del recent[key]
            for key, flow in self.flows.items():
                if flow.inbound == bool(inbound) and key not in recent:
                    recent[key] = flow
                    recent.move_to_end(key, last=False)
        if self.flows and self.deadline == inf:
            self._context.timers.arm(self, self._context.now + IDLE_GRANULARITY)

    def expire(self) -> None:
        """Close the flows that were idle too long."""
        now = self._context.now
        shortest = min(self._idle_times)
        again = inf
        for recent in self._recent:
            for flow in list(recent.values()):
                if flow.last_used + shortest > now:  # all flows behind it were used later
                    again = min(again, flow.last_used + shortest)
                    break
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
