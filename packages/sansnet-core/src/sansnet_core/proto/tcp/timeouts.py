"""The effect of time that has passed on a connection."""

from __future__ import annotations

from errno import ETIMEDOUT
from math import inf
from typing import Final

from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.output import QUIET
from sansnet_core.proto.tcp.states import ESTABLISHED, FLOWING, HANDSHAKE

__all__ = ["expire"]

SYN_RETRIES: Final = 5
"""Retransmissions of our SYN or SYN-ACK, in a minute in all (tcp_synack_retries of Linux)."""
RETRY: Final = 10.0
"""Seconds until a quiet connection that has something to do is asked again whether it can rest."""
DATA_RETRIES: Final = 10
"""Retransmissions of data. With RTOs from 0.2 s on, they take longer than the 100 s of RFC 9293, 3.8.3."""


def expire(flow: TcpFlow) -> None:
    """A deadline of a connection has passed."""
    context = flow.shared.context
    if flow.resting is not None:
        flow.wake(context.egress)
    sender = flow.sender
    now = context.now
    if flow.ends_at <= now:
        if flow.lifecycle[1] is states.DRAINING:
            flow.close(None, ETIMEDOUT)
        else:
            flow.fire(states.TIME_OVER)
        return
    if sender.retransmit_at <= now:
        _retransmission_timeout(flow, now)
    if _keepalive_at(flow) <= now:
        if flow.keep_alive().count_probe(flow.heard, now):
            flow.keepalive_probe()
        else:
            flow.fire(states.GUEST_LOST)
    if flow.lifecycle[1] is not states.GONE:
        due = min(sender.retransmit_at, flow.ends_at, _keepalive_at(flow))
        if flow.lifecycle == FLOWING:
            due = min(due, _rest(flow, now))
        context.timers.arm(flow, due)


def _rest(flow: TcpFlow, now: float) -> float:
    """Let a connection rest if it is quiet and has nothing to do; when to try again, `math.inf` for never."""
    quiet_at = flow.heard + QUIET
    if now < quiet_at:
        return quiet_at
    if flow.gate is not None or not flow.rest(flow.shared.no_headers):
        return now + RETRY
    return inf


def _keepalive_at(flow: TcpFlow) -> float:
    """When to probe a silent guest next. While it owes an acknowledgment, retransmissions find out whether it lives."""
    if flow.lifecycle[0] is not ESTABLISHED or flow.sender.in_flight:
        return inf
    idle = flow.shared.context.config.limits.tcp_keepalive
    return flow.heard + idle if flow.keepalive is None else flow.keepalive.deadline(flow.heard, idle)


def _retransmission_timeout(flow: TcpFlow, now: float) -> None:
    """The retransmission timer has expired or, with nothing in flight, the persist timer."""
    sender = flow.sender
    handshake = flow.lifecycle[0] in HANDSHAKE
    if not sender.in_flight:
        flow.window_probe(now)
    elif sender.retries >= (SYN_RETRIES if handshake else DATA_RETRIES):
        flow.fire(states.GUEST_LOST)
    elif handshake:
        sender.back_off(now)
        flow.send_syn()
    else:
        sender.time_out(now)
        flow.retransmit()
