"""The outputs that wait until the driver takes them."""

from __future__ import annotations

from errno import ECONNABORTED

from sansnet_core.mypyc import mypyc_attr
from sansnet_core.notices import Notice
from sansnet_core.orders import CloseSocket, Frame, Order, SocketId

__all__ = ["Outbox"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Outbox:
    """Frames for the guest, orders for the driver and notices for the operator, each oldest first."""

    __slots__ = ("frames", "notices", "orders")

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.orders: list[Order] = []
        self.notices: list[Notice] = []

    def close(self, socket: SocketId) -> None:
        """Order to close a socket after a mistake of this program, unless that is ordered already."""
        if not any(isinstance(order, CloseSocket) and order.socket == socket for order in self.orders):
            self.orders.append(CloseSocket(socket, True, ECONNABORTED))
