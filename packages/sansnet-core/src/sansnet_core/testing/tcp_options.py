"""The abilities of the TCP of a simulated guest."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GuestTcpOptions"]


@dataclass(frozen=True, slots=True)
class GuestTcpOptions:
    """The abilities of the guest's TCP, and its behaviour.

    Attributes:
        mss: that the guest announces.
        window: receive buffer in bytes.
        scale: window scale offered, or None.
        sack: whether SACK is offered.
        autoread: the application reads at once; otherwise by `GuestConnection.read`.
        largest_segment: payload bytes of the offloaded segments that the guest hands to the network; 0 for none.
        partial: leave checksums to the network, if the link has offload headers.
        delayed_ack: seconds that an acknowledgement of less than two segments may wait; 0 for none.
        sequence: initial sequence number.
    """

    mss: int = 1460
    window: int = 256 << 10
    scale: int | None = 7
    sack: bool = True
    autoread: bool = True
    largest_segment: int = 0
    partial: bool = False
    delayed_ack: float = 0.0
    sequence: int = 1000
