"""The outputs that wait until the driver takes them."""

from __future__ import annotations

from sansnet_core.notices import Notice
from sansnet_core.orders import Frame, Order

__all__ = ["Outbox"]


class Outbox:
    """Frames for the guest, orders for the driver and notices for the operator, each oldest first."""

    __slots__ = ("frames", "notices", "orders")

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.orders: list[Order] = []
        self.notices: list[Notice] = []
