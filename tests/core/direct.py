"""A network whose guest and driver are the test itself: packets and facts in, packets and orders out."""

from __future__ import annotations

from typing import Final, TypeVar

from sansnet_core import Network, NetworkConfig, Notice, Order, Reason
from sansnet_core.testing import SECRET, make_config, packets
from sansnet_core.testing.packets import Ip, read_frame, read_ip

__all__ = ["GUEST", "GUEST6", "Direct"]

GUEST: Final = bytes((10, 0, 2, 15))
GUEST6: Final = bytes.fromhex("20010db8000000000000000000000015")
_MAC: Final = bytes.fromhex("020000000001")

_T = TypeVar("_T", bound=Order)


class Direct:
    """A network at 1000 seconds.

    Attributes:
        now: virtual time in seconds.
        orders: those that were not taken by `take`.
        packets: those to the guest that were not read yet.
        notices: all of them.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or make_config()
        self.now = 1000.0
        self.network = Network(self.config, now=self.now, secret=SECRET)
        self.orders: list[Order] = []
        self.packets: list[Ip] = []
        self.notices: list[Notice] = []
        self.collect()

    def send(self, *sent: Ip, head: bytes = b"") -> None:
        """The guest sends packets, each behind `head` if the link has a `virtio_net_hdr`."""
        if self.config.link.vnet_header and not head:
            head = bytes(12)
        ethertype = {4: packets.IPV4, 6: packets.IPV6}
        frames = [
            head + packets.ethernet(self.config.mac, _MAC, ethertype[packet.version], packet.emit()) for packet in sent
        ]
        self.network.receive_frames(frames, self.now)
        self.collect()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while (deadline := self.network.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.network.handle_deadline(self.now)
            self.collect()
        self.now = end

    def collect(self) -> None:
        """Take the outputs of the network."""
        while orders := self.network.take_orders():
            self.orders += orders
        for frame in self.network.take_frames():
            read = read_frame(frame, vnet=self.config.link.vnet_header)
            if read.ethertype in (packets.IPV4, packets.IPV6):
                self.packets.append(read_ip(read))
        self.notices += self.network.take_notices()

    def take(self) -> list[Order]:
        """The orders since the last call."""
        taken, self.orders = self.orders, []
        return taken

    def one(self, kind: type[_T]) -> _T:
        """The only order since the last call, which must be of a kind."""
        (order,) = self.take()
        assert isinstance(order, kind)
        return order

    def drops(self) -> dict[Reason, int]:
        """How many packets were dropped, by reason."""
        return dict(self.network.statistics().drops)
