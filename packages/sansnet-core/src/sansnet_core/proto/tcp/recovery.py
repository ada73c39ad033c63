"""Gives up a connection after an exception in its methods, whatever state that left it in.

Nothing is read from the connection but what was there before. What all connections share is computed again from those
that are left.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ECONNABORTED
from typing import Final

from sansnet_core.errors import Reason
from sansnet_core.orders import CloseSocket
from sansnet_core.proto.tcp import reports
from sansnet_core.proto.tcp.attempts import Attempts
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.questions import Questions
from sansnet_core.proto.tcp.shared import TcpShared
from sansnet_core.proto.tcp.states import ESTABLISHED, GONE, HANDSHAKE, HOST_EXISTS, SYN_RECEIVED, TIME_WAIT, UNDECIDED
from sansnet_core.proto.tcp.table import FlowTable
from sansnet_core.wire.ip import TCP

__all__ = ["abandon", "recount"]

_ANSWERED: Final = HANDSHAKE - {UNDECIDED, SYN_RECEIVED} | {ESTABLISHED}
"""States in which the guest has a connection."""


def abandon(owner: object, table: FlowTable, shared: TcpShared[TcpFlow], questions: Questions) -> str | None:
    """Give up a connection: both ends are reset.

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
    guest, host, up, down = flow.lifecycle
    if guest in _ANSWERED or guest is GONE:
        with suppress(Exception):
            flow.output.reset_connection()
    names = [socket for socket, other in table.by_socket.items() if other is flow] or [flow.socket]
    closed = {order.socket for order in context.out.orders if isinstance(order, CloseSocket)}
    if host in HOST_EXISTS or guest is not TIME_WAIT:
        context.out.orders += [CloseSocket(name, True, ECONNABORTED) for name in names if name not in closed]
    flow.lifecycle = (GONE, GONE, up, down)
    if table.by_key.get(flow.key) is flow:
        del table.by_key[flow.key]
    for name in names:
        table.by_socket.pop(name, None)
    if flow.attempts is not None:
        context.timers.forget(flow.attempts)
        flow.attempts = None
    context.timers.forget(flow)
    questions.forget(flow)
    shared.connecting.pop(flow, None)
    with suppress(Exception):
        flow.permission.unpin()
    flow.errno, flow.reason = ECONNABORTED, Reason.FAILED
    context.drop_packet(Reason.FAILED, TCP, flow.guest, flow.remote)
    if context.notices and flow.told:
        context.notify(reports.closed(flow, context.now))
    with suppress(Exception):
        flow.free_buffers()
    return f"tcp {flow.guest} to {flow.remote}"


def recount(table: FlowTable, shared: TcpShared[TcpFlow], questions: Questions) -> None:
    """Correct all sums, from the connections that there are."""
    flows = list(table.by_key.values())
    known = set(flows)
    for name in [name for name, flow in table.by_socket.items() if flow not in known]:
        del table.by_socket[name]
    table.inbound = sum(flow.inbound for flow in flows)
    shared.pending[:] = [
        sum(flow.lifecycle[0] in HANDSHAKE and flow.inbound is inbound for flow in flows) for inbound in (False, True)
    ]
    shared.connecting = {flow: None for flow in flows if flow.lifecycle[0] is SYN_RECEIVED and not flow.inbound}
    shared.further = sum(flow.attempts.further for flow in flows if flow.attempts is not None)
    shared.memory.recount(sum(flow.held for flow in flows), {flow: flow.receiver.queued for flow in flows})
    questions.arm_again()
