"""The state that the connections of a network share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from sansnet_core.context import Context
from sansnet_core.egress import FlowHeaders
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Endpoint
from sansnet_core.proto.icmp_errors import IcmpErrors
from sansnet_core.proto.tcp.delayed import DelayedAcks
from sansnet_core.proto.tcp.handshake import Negotiation
from sansnet_core.proto.tcp.memory import Memory
from sansnet_core.proto.tcp.permission import Permission
from sansnet_core.proto.tcp.time_wait import TimeWait
from sansnet_core.wire.ip import TCP

__all__ = ["TcpShared"]

_NOWHERE: Final = Endpoint(bytes(4), 0)
Flow = TypeVar("Flow")
"""A connection. Its class is not imported, because its module imports this one."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpShared(Generic[Flow]):
    """The state that `Tcp` and its connections share.

    Args:
        context: of the network.
        icmp_errors: of the network.
        forget: called with a connection whose guest's side is over, or both sides.
        expire: called with a connection when a deadline of it has passed.

    Attributes:
        context, icmp_errors, forget, expire: the arguments.
        memory: counts the payload bytes that all connections hold.
        delayed: connections whose acknowledgments are delayed.
        no_headers: in the place of those of connections that rest.
        negotiation: of the terms of connections.
        send_buffer: most bytes that a connection holds for the guest.
        time_wait: connections in TIME-WAIT: those of the guest, and inbound ones.
        settled: the permission that most of the latest connections share; None at first.
        dirty: connections to flush at the end of the batch.
        pending: numbers of handshakes under way: of connections that the guest opened, and of inbound ones.
        connecting: connections of the guest whose host socket is not connected yet; the oldest first.
        lost: bytes that the guest has sent, and that a host which failed or was closed by the rules had not taken.
        further: sockets of the host that connect beside another one of the same connection; see `attempts`.
    """

    __slots__ = (
        "connecting",
        "context",
        "delayed",
        "dirty",
        "expire",
        "forget",
        "further",
        "icmp_errors",
        "lost",
        "memory",
        "negotiation",
        "no_headers",
        "pending",
        "send_buffer",
        "settled",
        "time_wait",
    )

    def __init__(
        self,
        context: Context,
        icmp_errors: IcmpErrors,
        forget: Callable[[Flow], None],
        expire: Callable[[Flow], None],
    ) -> None:
        self.context = context
        self.icmp_errors = icmp_errors
        self.forget = forget
        self.expire = expire
        self.memory = Memory(context.config.limits.tcp_memory)
        self.delayed = DelayedAcks(context)
        self.time_wait = (TimeWait(context), TimeWait(context))
        self.no_headers = FlowHeaders(context.egress, _NOWHERE, _NOWHERE, TCP)
        self.negotiation = Negotiation(context.config)
        self.send_buffer = context.config.limits.tcp_send_buffer
        self.settled: Permission | None = None
        self.dirty: list[Flow] = []
        self.pending = [0, 0]
        self.connecting: dict[Flow, None] = {}
        self.further = self.lost = 0

    def count_further(self, change: int) -> None:
        """Count sockets that connect beside another one of the same connection."""
        self.further += change

    def settle(self, permission: Permission) -> Permission:
        """The permission of a connection that has opened to one endpoint, and that nothing inspects; a shared one."""
        target = permission.target
        if target is None or not permission.is_settled:
            return permission
        settled = self.settled
        if settled is None or settled.target is None or settled.target.judgement != target.judgement:
            permission.settle(target)
            settled = self.settled = permission
        return settled
