"""What an operator may want to know: a flow's birth, state and end, a lease. Nothing for a packet."""

from __future__ import annotations

from typing import TypeAlias

from sansnet_core.actions import Endpoint, SocketId, action

__all__ = ["FlowClosed", "FlowOpened", "FlowReport", "LeaseGiven", "Notice"]


@action
class FlowOpened:
    """The guest opened a flow, or somebody outside did."""

    socket: SocketId
    protocol: int
    """IP protocol number."""
    guest: Endpoint
    remote: Endpoint
    """What the guest addresses."""
    host: Endpoint
    """What the host's socket addresses."""
    inbound: bool = False
    """Whether it came from outside."""


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
class FlowReport:
    """A flow as it is now; see `Network.flows`."""

    socket: SocketId
    protocol: int
    guest: Endpoint
    remote: Endpoint
    host: Endpoint
    inbound: bool
    state: str
    """One word: for TCP where the guest's end of the connection is; else `OPEN`."""
    sent: int
    received: int
    """As in `FlowOpened` and `FlowClosed`."""


@action
class LeaseGiven:
    """A DHCP or DHCPv6 server gave the guest its address."""

    address: bytes
    mac: bytes


Notice: TypeAlias = FlowOpened | FlowClosed | LeaseGiven
