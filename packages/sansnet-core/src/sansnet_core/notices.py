"""What an operator may want to know: a flow's birth, state and end, a lease. Nothing for a packet."""

from __future__ import annotations

from typing import TypeAlias

from sansnet_core.addresses import Endpoint
from sansnet_core.orders import SocketId, message

__all__ = ["FlowClosed", "FlowOpened", "FlowRefused", "FlowReport", "LeaseGiven", "NameAsked", "Notice"]


@message
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


@message
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


@message
class FlowRefused:
    """The guest tried to open a flow in vain: the host's socket failed, the guest gave up, or the address is closed.

    Of a UDP flow only the first failure is told, and only if nothing was received before.
    """

    protocol: int
    """TCP or UDP."""
    guest: Endpoint
    remote: Endpoint
    """What the guest addressed."""
    host: Endpoint | None
    """What the host's socket addressed; None if the configuration closes the address."""
    errno: int
    """What the host's socket failed with; 0 if the guest gave up before, or there was none."""


@message
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


@message
class LeaseGiven:
    """A DHCP or DHCPv6 server gave the guest its address."""

    address: bytes
    mac: bytes


@message
class NameAsked:
    """The guest asked a name server for one of the names in `NetworkConfig.hosts`."""

    name: str
    """As the configuration has it."""
    answered: bool
    """Whether it was answered here; otherwise the query was forwarded."""


Notice: TypeAlias = FlowOpened | FlowClosed | FlowRefused | LeaseGiven | NameAsked
