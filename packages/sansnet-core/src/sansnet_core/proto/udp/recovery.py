"""Gives up a flow after an exception in its methods, whatever state that left it in.

The other ends of flows are computed again from the flows that are left; those that are not needed any more are closed.
"""

from __future__ import annotations

from sansnet_core.context import Context
from sansnet_core.errors import Reason
from sansnet_core.proto.udp.flow import Flow, Relayed
from sansnet_core.proto.udp.host import HostFlows
from sansnet_core.proto.udp.runs import Runs
from sansnet_core.proto.udp.served import ServedFlows
from sansnet_core.proto.udp.table import FlowTable
from sansnet_core.wire.ip import UDP

__all__ = ["abandon", "recount"]


def abandon(owner: object, context: Context, table: FlowTable, runs: Runs) -> str | None:
    """Give up a flow; `recount` must follow.

    Args:
        owner: the flow, or the relay of several.
        context: of the network.
        table: all flows.
        runs: the datagrams that were held back.

    Returns:
        The flow as text; None if `owner` is none.
    """
    if isinstance(owner, Relayed):
        flows = [flow for flow in table.flows.values() if flow.end is owner]
        texts = [abandon(flow, context, table, runs) for flow in flows]
        return ", ".join(text for text in texts if text) or f"udp through proxy {owner.proxy.name}"
    if not isinstance(owner, Flow):
        return None
    if owner.headers is not None:
        runs.forget(owner.headers)
    context.drop_packet(Reason.FAILED, UDP, owner.guest, owner.remote)
    if table.remove(owner):
        context.notify(owner.closed(context.now, Reason.FAILED))
        if owner.name is not None:
            context.targets.unpin(owner.remote)
    return f"udp {owner.guest} to {owner.remote}"


def recount(table: FlowTable, host: HostFlows, served: ServedFlows) -> None:
    """Correct the other ends of all flows, and the order of use."""
    table.recount()
    flows = list(table.flows.values())
    host.recount(flows)
    served.recount(flows)
    if host.associations is not None:
        host.associations.recount(flows)
