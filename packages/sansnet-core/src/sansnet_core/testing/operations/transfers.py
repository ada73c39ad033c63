"""Connections of well-behaved programs in a guest, beside those of a hostile one: they must get what they are due."""

from __future__ import annotations

from dataclasses import dataclass

from sansnet_core.addresses import Endpoint
from sansnet_core.testing.connection import GuestConnection
from sansnet_core.testing.operations.content import Content
from sansnet_core.testing.packets import SYN, Segment

__all__ = ["FIRST_PORT", "Transfer"]

FIRST_PORT = 50_000
"""The guest's ports of transfers begin here."""


@dataclass(slots=True)
class Transfer:
    """A connection with a fixed number of bytes each way.

    Attributes:
        connection: the guest's end.
        up, down: bytes of the guest, and bytes for it.
        content: the bytes for it.
        failed: it need not end well: the host's socket failed, or an order ended the connection for a reason.
        first: the network's initial sequence number.
    """

    connection: GuestConnection
    up: int
    down: int
    content: Content
    failed: bool = False
    first: int | None = None

    def receive(self, segment: Segment, now: float) -> None:
        """Take a segment from the network, unless it is a SYN-ACK of another connection.

        The network makes one for an old SYN if it has reset the connection, and the reset was lost.
        """
        if segment.flags & SYN and not self.connection.established:
            self.first = segment.sequence
        if not segment.flags & SYN or segment.sequence == self.first:
            self.connection.receive(segment, now)

    @property
    def key(self) -> tuple[Endpoint, Endpoint]:
        """The guest's endpoint and the remote one."""
        return Endpoint(*self.connection.local), Endpoint(*self.connection.peer)

    def check(self, got: int) -> None:
        """Check a transfer after enough time; `got` is the number of bytes that the host has got.

        Raises:
            AssertionError: it was established, and has stalled, ended early or was reset without a reason.
        """
        one = self.connection
        if not one.established or self.failed:
            return
        about = f"{self.up} up, {self.down} down; {got} and {len(one.received)} came; {one.segments_received[-3:]}"
        if one.reset and one.fin_received and got == self.up:
            return  # our last acknowledgments were lost, and the network was not in TIME-WAIT any more
        assert not one.reset, f"a connection of port {one.local[1]} is reset without a reason: {about}"
        assert one.closed, f"a connection of port {one.local[1]} does not end: {about}"
        assert bytes(one.received) == self.content.at(0, self.down), f"wrong bytes for port {one.local[1]}: {about}"
        assert got == self.up, f"bytes of port {one.local[1]} are lost: {about}"
