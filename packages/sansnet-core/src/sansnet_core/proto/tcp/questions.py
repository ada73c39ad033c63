"""The connections that wait for a verdict or for the addresses of a name, and those that were refused then."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, NamedTuple

from sansnet_core.context import Context
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import DecideFlow, Endpoint, ExtendedError
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.targets import Target
from sansnet_core.wire.ip import TCP

__all__ = ["Questions", "Refusal"]

KEPT_TIME: Final = 150.0
"""Seconds for which a refusal is kept: Linux repeats a SYN for about 130 s by default (tcp_syn_retries in tcp(7))."""


PURGE_INTERVAL: Final = 1.0
"""Seconds; how late a refusal may be forgotten. Bounds the work of the timer."""


class Refusal(NamedTuple):
    """A verdict that refused a connection.

    Attributes:
        irs: sequence number of the guest's SYN.
        host: the address of the host's side that the destination stands for.
        error: the answer; None for none.
        kept_until: seconds.
    """

    irs: int
    host: bytes
    error: ExtendedError | None
    kept_until: float


@mypyc_attr(allow_interpreted_subclasses=True)
class Questions:
    """Bounds the number and the time of connections that wait for a verdict or for the addresses of a name.

    Args:
        context: of the network.
        time_over: called with a connection that has waited for too long.
    """

    __slots__ = ("_context", "_refusals", "_time_over", "_undecided", "deadline", "queued", "ticket")

    def __init__(self, context: Context, time_over: Callable[[TcpFlow], None]) -> None:
        self._context = context
        self._time_over = time_over
        self._undecided: tuple[dict[TcpFlow, float], dict[TcpFlow, float]] = ({}, {})
        """Connections of the guest, and inbound ones -> when they are refused; in order."""
        self._refusals: dict[bytes, Refusal] = {}
        """The oldest first."""
        self.deadline = self.queued = inf
        self.ticket = 0

    def is_full(self, *, inbound: bool) -> bool:
        """Whether there may be no more questions."""
        return len(self._undecided[inbound]) >= self._context.config.limits.undecided_flows

    def add(self, flow: TcpFlow) -> None:
        """A connection waits."""
        context = self._context
        due = context.now + context.config.limits.decision_time
        self._undecided[flow.inbound][flow] = due
        context.timers.arm(self, min(self.deadline, due))

    def ask(self, flow: TcpFlow, destination: Endpoint, target: Target) -> None:
        """Ask the driver for a verdict about a connection.

        Args:
            flow: the connection.
            destination: as in `DecideFlow`.
            target: by the rules, which leave the decision to the driver.
        """
        self.add(flow)
        flow.permission.ask(target)
        order = DecideFlow(flow.socket, TCP, flow.guest, destination, flow.inbound, target.name)
        self._context.out.orders.append(order)

    def __contains__(self, flow: TcpFlow) -> bool:
        return flow in self._undecided[flow.inbound]

    def remove(self, flow: TcpFlow) -> None:
        """A connection waits no more, if it did."""
        self._undecided[flow.inbound].pop(flow, None)

    def forget(self, flow: TcpFlow) -> None:
        """A connection that may be in a wrong state is given up."""
        for flows in self._undecided:
            flows.pop(flow, None)

    def arm_again(self) -> None:
        """Have `expire` called, if anything waits."""
        if self.deadline == inf and (any(self._undecided) or self._refusals):
            self._context.timers.arm(self, self._context.now + PURGE_INTERVAL)

    def undecided(self) -> list[TcpFlow]:
        """All connections that wait."""
        return [flow for flows in self._undecided for flow in flows]

    def expire(self) -> None:
        """Refuse the connections that have waited for too long, and forget old refusals."""
        context = self._context
        for flows in self._undecided:
            while flows:
                flow, due = next(iter(flows.items()))
                if due > context.now:
                    context.timers.arm(self, min(self.deadline, due))
                    break
                del flows[flow]
                self._time_over(flow)
        while self._refusals:
            key, refusal = next(iter(self._refusals.items()))
            if refusal.kept_until > context.now:
                context.timers.arm(self, min(self.deadline, refusal.kept_until + PURGE_INTERVAL))
                break
            del self._refusals[key]

    def remember(self, flow: TcpFlow) -> None:
        """Keep the refusal of a connection of the guest that has waited: it may repeat its SYN."""
        refusals = self._refusals  # without one for the same ends: that would have refused the SYN
        if len(refusals) >= self._context.config.limits.undecided_flows:
            del refusals[next(iter(refusals))]
        until = self._context.now + KEPT_TIME
        refusals[flow.key] = Refusal(flow.irs, flow.host.address, flow.failure, until)
        self._context.timers.arm(self, min(self.deadline, until + PURGE_INTERVAL))

    def refusal(self, key: bytes, irs: int) -> Refusal | None:
        """The refusal of the connection that a SYN belongs to, if the verdict was one."""
        found = self._refusals.get(key)
        if found is None:
            return None
        if found.irs != irs or found.kept_until <= self._context.now:
            del self._refusals[key]
            return None
        return found

    def forget_refusals(self) -> None:
        """The rules have changed."""
        self._refusals.clear()
