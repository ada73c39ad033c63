"""Orders to the driver, and the types of value that orders and facts share.

An order tells the driver to do something with a host socket. The driver executes orders in the sequence of the list,
and reports each outcome as a fact (`Network.stream_connected`, `stream_failed`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType, TypeAlias, TypeVar, dataclass_transform

from sansnet_core.addresses import Endpoint, packed
from sansnet_core.errors import ConfigError

__all__ = [
    "ORIGIN_ICMP",
    "ORIGIN_ICMPV6",
    "ORIGIN_LOCAL",
    "Order",
    "Buffer",
    "CloseSocket",
    "DecideFlow",
    "DeliverDatagram",
    "Endpoint",
    "ExtendedError",
    "FailDatagram",
    "Frame",
    "KeepAlive",
    "OpenDatagram",
    "OpenEcho",
    "OpenStream",
    "ResumeStream",
    "SendDatagram",
    "SendEcho",
    "SendStream",
    "ServeStream",
    "ShutdownStream",
    "SocketId",
]

Buffer: TypeAlias = bytes | memoryview
"""Read-only bytes. Slices of headers are dict keys, and a writable view is not hashable."""

Frame: TypeAlias = Buffer | tuple[bytes, Buffer]
"""A frame to the guest; a large one may be (headers, payload), for one `writev`."""

ORIGIN_LOCAL: Final = 1
ORIGIN_ICMP: Final = 2
ORIGIN_ICMPV6: Final = 3
"""`SO_EE_ORIGIN_...` (linux/errqueue.h): the source of an `ExtendedError`. 1 is the host's own kernel."""

SocketId = NewType("SocketId", int)
"""Name of a host socket, assigned by the core and never reused."""

_RANGES: Final = {
    "errno": (1 << 32) - 1,
    "origin": 255,
    "type": 255,
    "code": 255,
    "info": (1 << 32) - 1,
    "ttl": 255,
}
"""The fields of an `ExtendedError` that are integers, and their greatest values."""
_UNKNOWN: Final = Endpoint(bytes(4), 0)
_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def value_class(cls: type[_T]) -> type[_T]:
    """Make a dataclass with slots. It is read-only to type checkers only: making a frozen one takes 3 times as long."""
    return dataclass(slots=True)(cls)


@value_class
class ExtendedError:
    """`struct sock_extended_err` (linux/errqueue.h), and the node that sent the error."""

    errno: int
    """ee_errno."""
    origin: int
    """ee_origin: 1 local, 2 ICMP, 3 ICMPv6."""
    type: int
    """ICMP type."""
    code: int
    """ICMP code."""
    info: int
    """ee_info: the path MTU in bytes for EMSGSIZE."""
    offender: bytes | None
    """Address of the node that sent the error, 4 or 16 bytes; None if there is none."""
    ttl: int = 255
    """TTL or hop limit of the message on arrival, from which tools compute the hops of the way back."""

    def __post_init__(self) -> None:
        """Check the fields, which lead to packets of the guest. Errors are rare."""
        for name, most in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise ConfigError(f"{name}: {value!r:.100} is not a number; give an integer from 0 to {most}")
        if self.offender is not None:
            try:
                object.__setattr__(self, "offender", packed(self.offender, zone=True))
            except ConfigError as wrong:
                raise ConfigError(f"offender: {wrong}") from None


@value_class
class OpenStream:
    """Create a TCP socket and connect it. Outcome: `stream_connected` or `stream_failed`."""

    socket: SocketId
    """Name of the new socket, in all later orders and facts."""
    remote: Endpoint
    """The endpoint to connect to."""
    local: bytes | None
    """Source address to bind to, 4 or 16 bytes; None leaves the choice to the kernel."""
    guest: Endpoint = _UNKNOWN
    """The endpoint of the guest that opens the connection."""
    destination: Endpoint = _UNKNOWN
    """The remote endpoint in the guest's packets."""
    name: str | None = None
    """The host name that the destination stands for; None if it stands for none."""


@value_class
class ServeStream:
    """Let a service of the program serve a connection of the guest, without a host socket.

    Outcome: `stream_connected` or `stream_failed`. From then on it is a stream as any other.
    """

    socket: SocketId
    """Name of the connection, in all later orders and facts."""
    service: SocketId | None
    """The service, as `service_added` named it; None if the verdict about the flow was `Serve`."""
    guest: Endpoint
    """The endpoint of the guest that opens the connection."""
    destination: Endpoint
    """The remote endpoint in the guest's packets."""


@value_class
class SendStream:
    """Accept all of `data` and send it in order. Outcome: `stream_sent`, as the host's socket accepts the bytes."""

    socket: SocketId
    data: Buffer


@value_class
class ShutdownStream:
    """Send FIN (SHUT_WR) after the data of all earlier `SendStream` orders."""

    socket: SocketId


@value_class
class ResumeStream:
    """Read this stream again: `receive_budget` was 0 and has risen."""

    socket: SocketId


@value_class
class KeepAlive:
    """Let the host's kernel probe the peer of an idle stream (SO_KEEPALIVE).

    Outcome if the peer does not answer: `stream_failed`. A later order for the same stream changes the times.
    """

    socket: SocketId
    idle: int
    """Idle seconds before the first probe (TCP_KEEPIDLE), 1 to 32767."""
    interval: int
    """Seconds between probes (TCP_KEEPINTVL), 1 to 32767."""
    count: int
    """Unanswered probes that end the connection (TCP_KEEPCNT), 1 to 127."""


@value_class
class CloseSocket:
    """Close a socket of any kind; no fact about it follows."""

    socket: SocketId
    abort: bool = False
    """TCP: reset the connection (SO_LINGER 0) and discard unsent data."""
    errno: int = 0
    """Why: ECONNREFUSED if the guest refused it, ECONNRESET if it was reset, ETIMEDOUT if the guest did not answer; 0
    for an ordinary end."""


@value_class
class OpenDatagram:
    """Create an unconnected UDP socket bound to `local`, or to any free port if that one is in use."""

    socket: SocketId
    """Name of the new socket, in all later orders and facts."""
    local: Endpoint
    """Address (may be unspecified; its length gives the family) and preferred port."""
    guest: Endpoint = _UNKNOWN
    """The endpoint of the guest that the socket stands for."""


@value_class
class SendDatagram:
    """Send a datagram, or a run of datagrams to one destination. Outcome on failure: `datagram_failed`."""

    socket: SocketId
    remote: Endpoint
    """The destination."""
    data: Buffer
    """Payload of all datagrams of the run."""
    segment_size: int
    """0: `data` is one datagram. Otherwise bytes per datagram; the last may be shorter."""
    ttl: int
    """TTL or hop limit of the guest's packet."""
    tos: int
    """TOS or traffic class of the guest's packet, with its ECN bits."""
    may_fragment: bool = False
    """Whether the packet may be fragmented, by the host or a router. If not, and the host's kernel knows a smaller path
    MTU, it fails with EMSGSIZE."""
    local: bytes | None = None
    """Source address (IP_PKTINFO), for a socket that is bound to none; None leaves the choice to the kernel."""
    fragment_here: bool = False
    """Whether it is sent in fragments in that case, as datagrams of the host's own programs are (IP_PMTUDISC_WANT).
    Routers must not fragment it all the same."""


@value_class
class DeliverDatagram:
    """Give a datagram of the guest, or a run of them, to a service of the program. There is no outcome."""

    socket: SocketId
    """The service, as `service_added` named it; the flow, as `DecideFlow` named it, if the verdict was `Serve`."""
    guest: Endpoint
    """The endpoint of the guest that sent it."""
    destination: Endpoint
    """The remote endpoint in the guest's packets."""
    data: Buffer
    """Payload of all datagrams of the run."""
    segment_size: int
    """0: `data` is one datagram. Otherwise bytes per datagram; the last may be shorter."""
    ttl: int
    """TTL or hop limit of the guest's packet."""
    tos: int
    """TOS or traffic class of the guest's packet, with its ECN bits."""


@value_class
class FailDatagram:
    """Tell a service of the program that the guest could not take a datagram of a flow. There is no outcome."""

    socket: SocketId
    """As in `DeliverDatagram`."""
    guest: Endpoint
    """The endpoint of the guest that it was sent to."""
    destination: Endpoint
    """The program's endpoint, as the guest sees it."""
    errno: int
    """Why: ECONNREFUSED for ICMP "port unreachable", as for a connected socket of the host (udp(7))."""


@value_class
class DecideFlow:
    """Decide about a new flow. Outcome: `flow_decided`; a `CloseSocket` order withdraws the question."""

    socket: SocketId
    """Name of the flow, in the outcome."""
    protocol: int
    """IP protocol number: 6 for TCP, 17 for UDP, 1 and 58 for ping."""
    guest: Endpoint
    """The guest's endpoint. For ping, the port of an endpoint is the identifier."""
    destination: Endpoint
    """The remote endpoint in the guest's packets; for an inbound flow, the outsider's endpoint as the host sees it."""
    inbound: bool
    """Whether an outsider opens it."""
    name: str | None = None
    """The host name by which the guest knows the destination; None if it is not known."""


@value_class
class OpenEcho:
    """Create a ping socket (SOCK_DGRAM, IPPROTO_ICMP or IPPROTO_ICMPV6) for `remote`'s family."""

    socket: SocketId
    """Name of the new socket, in all later orders and facts."""
    remote: bytes
    """Address of the destination, 4 or 16 bytes; all requests of the socket go there."""
    local: bytes | None
    """Source address to bind to, 4 or 16 bytes; None leaves the choice to the kernel."""
    guest: Endpoint = _UNKNOWN
    """The guest's address and the identifier of its ping."""
    destination: Endpoint = _UNKNOWN
    """The destination in the guest's packets, and the identifier."""


@value_class
class SendEcho:
    """Send an echo request. Outcome: `echo_received`, or on failure `echo_failed`."""

    socket: SocketId
    remote: bytes
    """As in the socket's `OpenEcho`."""
    sequence: int
    """Sequence number of the request, 16 bits. The host's kernel chooses the identifier."""
    data: Buffer
    """The part of the message after identifier and sequence number."""
    ttl: int
    tos: int
    may_fragment: bool = False
    """`ttl`, `tos` and `may_fragment` have the same meaning as in `SendDatagram`."""


Order: TypeAlias = (
    OpenStream
    | ServeStream
    | SendStream
    | ShutdownStream
    | ResumeStream
    | KeepAlive
    | CloseSocket
    | OpenDatagram
    | SendDatagram
    | DeliverDatagram
    | FailDatagram
    | DecideFlow
    | OpenEcho
    | SendEcho
)
