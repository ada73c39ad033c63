"""Gives up a connection after an exception in its methods, whatever state that left it in.

It does what it does at the end of its host's socket, as far as that is possible, and then the rest of its traces is
removed. The sums that all connections share are computed again from those that are left.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ECONNABORTED

from sansnet_core.errors import Reason
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.attempts import Attempts
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.refusal import local_error
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.states import DRAINING, GONE, HANDSHAKE, HOST_EXISTS, SYN_RECEIVED, TIME_WAIT
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.wire.ip import TCP

__all__ = ["abandon", "recount"]


def abandon(owner: object, table: FlowTable, shared: TcpShared[TcpFlow], questions: Questions) -> str | None:
    """Give up a connection: both ends are reset. `recount` must follow.

    Args:
        owner: the connection, or a part of it.
        table: all connections.
        shared: the state that they share.
        questions: connections that wait.

    Returns:
        The connection as text; None if `owner` is none.
    """
    if isinstance(owner, Attempts):
        owner = owner.flow
    if not isinstance(owner, TcpFlow) or not hasattr(owner, "_awaits_budget"):  # else it is not made completely
        return None
    flow = owner
    context = shared.context
    with suppress(Exception):
        flow.awake()
    guest, host, _, _ = flow.lifecycle
    names = table.names(flow) or [flow.socket]
    if guest is GONE and host is not DRAINING:  # perhaps the effects of that are missing
        with suppress(Exception):
            flow.reset_connection()
    context.drop_packet(Reason.FAILED, TCP, flow.guest, flow.remote)
    with suppress(Exception):
        flow.refuse(local_error(ECONNABORTED), Reason.FAILED, None)
    for event in (states.HOST_FAILED, states.TIME_OVER):
        with suppress(Exception):
            flow.give_up(event, reason=Reason.FAILED)
    table.discard(flow)
    questions.forget(flow)
    shared.delayed.remove(flow)
    shared.time_wait[flow.inbound].remove(flow)
    for owner in (flow, flow.attempts):
        if owner is not None:
            context.timers.forget(owner)
    for clean in (flow.permission.unpin, flow.free_buffers):
        with suppress(Exception):
            clean()
    if host in HOST_EXISTS or guest is not TIME_WAIT:
        for name in names:
            context.out.close(name)
    return f"tcp {flow.guest} to {flow.remote}"


def recount(table: FlowTable, shared: TcpShared[TcpFlow], questions: Questions) -> None:
    """Correct all sums, from the connections that there are."""
    table.recount()
    flows = table.all()
    shared.pending[:] = [
        sum(flow.lifecycle[0] in HANDSHAKE and flow.inbound is inbound for flow in flows) for inbound in (False, True)
    ]
    shared.connecting = {flow: None for flow in flows if flow.lifecycle[0] is SYN_RECEIVED and not flow.inbound}
    shared.further = sum(flow.attempts.further for flow in flows if flow.attempts is not None)
    shared.memory.recount(sum(flow.held for flow in flows), {flow: flow.receiver.queued for flow in flows})
    questions.arm_again()
    shared.delayed.arm_again()
    for time_wait in shared.time_wait:
        time_wait.arm_again()
