"""What an operator may want to know: a flow's birth and end, a lease. Nothing for a packet."""

from __future__ import annotations

from typing import TypeAlias

from sansnet_core.actions import Endpoint, SocketId, action

__all__ = ["FlowClosed", "FlowOpened", "LeaseGiven", "Notice"]


@action
class FlowOpened:
    """The guest opened a flow."""

    socket: SocketId
    protocol: int
    """IP protocol number."""
    guest: Endpoint
    remote: Endpoint
    """What the guest addressed."""
    host: Endpoint
    """What the host's socket addresses."""


@action
class FlowClosed:
    """A flow ended."""

    socket: SocketId
    protocol: int
    guest: Endpoint
    remote: Endpoint
    sent: int
    """Payload bytes from the guest to the host."""
    received: int
    """Payload bytes from the host to the guest."""


@action
class LeaseGiven:
    """A DHCP or DHCPv6 server gave the guest its address."""

    address: bytes
    mac: bytes


Notice: TypeAlias = FlowOpened | FlowClosed | LeaseGiven
