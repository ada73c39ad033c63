"""The table of all connections."""

from __future__ import annotations

from collections import OrderedDict
from errno import ENOBUFS

from sansnet_core.config import Limits
from sansnet_core.errors import Reason
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import SocketId
from sansnet_core.proto.tcp import states
from sansnet_core.proto.tcp.flow import TcpFlow
from sansnet_core.proto.tcp.time_wait import TimeWait

__all__ = ["FlowTable"]


@mypyc_attr(allow_interpreted_subclasses=True)
class FlowTable:
    """All connections, by their ends and by their sockets.

    Attributes:
        by_key: addresses and ports as in the guest's segments -> connection.
        draining: connections whose guest's side is over, while the host's has not taken all data yet: those of the
            guest, and inbound ones. They are not in `by_key`: the guest may have another one with the same ends.
        by_socket: name of the host's socket -> connection.
        inbound: number of inbound connections.
    """

    __slots__ = ("by_key", "by_socket", "draining", "inbound")

    def __init__(self) -> None:
        self.by_key: dict[bytes, TcpFlow] = {}
        self.by_socket: dict[SocketId, TcpFlow] = {}
        self.draining: tuple[OrderedDict[TcpFlow, None], OrderedDict[TcpFlow, None]] = (OrderedDict(), OrderedDict())
        self.inbound = 0

    def __len__(self) -> int:
        own, inbound = self.draining
        return len(self.by_key) + len(own) + len(inbound)

    def all(self) -> list[TcpFlow]:
        """All connections."""
        own, inbound = self.draining
        return [*self.by_key.values(), *own, *inbound]

    def add(self, flow: TcpFlow) -> None:
        """Add a connection."""
        self.by_key[flow.key] = self.by_socket[flow.socket] = flow
        self.inbound += flow.inbound

    def drain(self, flow: TcpFlow) -> None:
        """The guest's side of a connection is over."""
        self.discard(flow)
        self.draining[flow.inbound][flow] = None

    def remove(self, flow: TcpFlow) -> bool:
        """Remove a connection; whether it was there."""
        self.discard(flow)
        if self.by_socket.pop(flow.socket, None) is None:
            return False
        self.inbound -= flow.inbound
        return True

    def discard(self, flow: TcpFlow) -> None:
        """Remove a connection, but for its sockets; `recount` removes those of one that is given up."""
        if self.by_key.get(flow.key) is flow:
            del self.by_key[flow.key]
        self.draining[flow.inbound].pop(flow, None)

    def make_room(self, limits: Limits, time_wait: tuple[TimeWait, TimeWait], *, inbound: bool) -> bool:
        """End connections that the guest has no more until there is room for another one; whether there is.

        First come those in TIME-WAIT, which lose nothing. Then come those that drain, of the same direction: outsiders
        must not end those of the guest. Of each kind, it is the one that has waited for longest.

        Args:
            limits: those of the configuration.
            time_wait: connections in TIME-WAIT: those of the guest, and inbound ones.
            inbound: the direction of the new connection.
        """
        same, other, draining = time_wait[inbound], time_wait[not inbound], self.draining[inbound]
        while inbound and self.inbound >= limits.tcp_inbound_flows:
            if not (same.end_first() or self._end_draining(draining)):
                return False
        while len(self) >= limits.tcp_flows:
            if not (same.end_first() or other.end_first() or self._end_draining(draining)):
                return False
        return True

    def _end_draining(self, draining: OrderedDict[TcpFlow, None]) -> bool:
        """End the connection that has drained for longest; whether there was one."""
        for flow in draining:
            flow.close(Reason.TCP_LIMIT, ENOBUFS)
            return True
        return False

    def names(self, flow: TcpFlow) -> list[SocketId]:
        """The names of all sockets of a connection."""
        return [socket for socket, other in self.by_socket.items() if other is flow]

    def recount(self) -> None:
        """Correct what may be wrong after an exception, from the connections that there are."""
        known = set(self.all())
        for socket in [socket for socket, flow in self.by_socket.items() if flow not in known]:
            del self.by_socket[socket]
        self.inbound = sum(flow.inbound for flow in known)

    def rename(self, flow: TcpFlow, socket: SocketId) -> None:
        """Give a connection another name, since the present one was that of a question which is withdrawn."""
        del self.by_socket[flow.socket]
        flow.rename(socket)
        self.by_socket[socket] = flow

    def is_free(self, key: bytes) -> bool:
        """Whether there may be a connection with these ends: one in TIME-WAIT gives way."""
        old = self.by_key.get(key)
        return old is None or old.lifecycle[0] is states.TIME_WAIT

    def give_way(self, key: bytes) -> None:
        """End the connection in TIME-WAIT that has these ends, if there is one."""
        old = self.by_key.get(key)
        if old is not None:
            old.fire(states.TIME_OVER)  # if the guest is in TIME-WAIT too, it decides by itself
