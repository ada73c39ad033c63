"""Orders to the driver, and the value types that orders and facts share.

An order is a request in the imperative; the list's order is the order of execution. Each order's outcome comes
back as a fact (`Network.stream_connected`, `stream_failed`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NewType, TypeAlias, TypeVar, dataclass_transform

from sansnet_core.addresses import Endpoint

__all__ = [
    "ORIGIN_ICMP",
    "ORIGIN_ICMPV6",
    "ORIGIN_LOCAL",
    "Order",
    "Buffer",
    "CloseSocket",
    "Endpoint",
    "ExtendedError",
    "Frame",
    "KeepAlive",
    "OpenDatagram",
    "OpenEcho",
    "OpenStream",
    "ResumeStream",
    "SendDatagram",
    "SendEcho",
    "SendStream",
    "ShutdownStream",
    "SocketId",
]

Buffer: TypeAlias = bytes | memoryview
"""Read-only bytes. Header slices are dict keys, and a writable view does not hash."""

Frame: TypeAlias = Buffer | tuple[bytes, Buffer]
"""A frame to the guest; a large one may be (headers, payload), to be written with one `writev`."""

ORIGIN_LOCAL: Final = 1
ORIGIN_ICMP: Final = 2
ORIGIN_ICMPV6: Final = 3
"""`SO_EE_ORIGIN_...` (linux/errqueue.h): who reports an `ExtendedError`; 1 is the host's own kernel."""

SocketId = NewType("SocketId", int)
"""Names a host socket; issued by the core, never reused."""

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def message(cls: type[_T]) -> type[_T]:
    """A slots dataclass that is read-only to type checkers, not at run time (frozen costs 3 times as much)."""
    return dataclass(slots=True)(cls)


@message
class ExtendedError:
    """`struct sock_extended_err` (linux/errqueue.h), plus who sent it."""

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
    """Address of the node that sent the error; None if there is none."""
    ttl: int = 255
    """TTL or hop limit that its message arrived with, by which tools count the hops of the way back."""


@message
class OpenStream:
    """Create a TCP socket and connect it. Answer: `stream_connected` or `stream_failed`."""

    socket: SocketId
    remote: Endpoint
    local: bytes | None
    """Source address to bind to, or None for the kernel's choice."""


@message
class SendStream:
    """Take all of `data` and send it in order. Answer: `stream_sent` as the host's socket accepts it."""

    socket: SocketId
    data: Buffer


@message
class ShutdownStream:
    """Send FIN (SHUT_WR) after everything given to `SendStream` before."""

    socket: SocketId


@message
class ResumeStream:
    """Read this stream again: `receive_budget` was 0 and is not any more."""

    socket: SocketId


@message
class KeepAlive:
    """Have the host's kernel probe the peer of a stream while it is silent (SO_KEEPALIVE).

    If the peer is gone: `stream_failed`. A later order for the same stream changes the times.
    """

    socket: SocketId
    idle: int
    """Seconds of silence before the first probe (TCP_KEEPIDLE), 1 to 32767."""
    interval: int
    """Seconds between probes (TCP_KEEPINTVL), 1 to 32767."""
    count: int
    """Unanswered probes that end the connection (TCP_KEEPCNT), 1 to 127."""


@message
class CloseSocket:
    """Close the socket, of whatever kind; no fact about it follows."""

    socket: SocketId
    abort: bool = False
    """TCP: reset the connection (SO_LINGER 0) and forget unsent data."""


@message
class OpenDatagram:
    """Create an unconnected UDP socket bound to `local`, or to any free port if that one is taken."""

    socket: SocketId
    local: Endpoint
    """Address (may be unspecified; its length tells the family) and wished port."""


@message
class SendDatagram:
    """Send one datagram, or a run of datagrams to one destination. On failure: `datagram_failed`."""

    socket: SocketId
    remote: Endpoint
    data: Buffer
    segment_size: int
    """0: `data` is one datagram. Else bytes per datagram; the last may be shorter."""
    ttl: int
    """TTL or hop limit of the guest's packet."""
    tos: int
    """TOS or traffic class of the guest's packet, with its ECN bits."""
    may_fragment: bool = False
    """Whether the packet may be sent in fragments. If not, and it is too large for its path, it fails with EMSGSIZE."""
    local: bytes | None = None
    """The host's address to leave from (IP_PKTINFO), where a socket is bound to none; None leaves it to the kernel."""


@message
class OpenEcho:
    """Create a ping socket (SOCK_DGRAM, IPPROTO_ICMP or IPPROTO_ICMPV6) for `remote`'s family."""

    socket: SocketId
    remote: bytes
    local: bytes | None
    """Source address to bind to, or None for the kernel's choice."""


@message
class SendEcho:
    """Send an echo request. Answer: `echo_received`; on failure `echo_failed`."""

    socket: SocketId
    remote: bytes
    sequence: int
    data: Buffer
    ttl: int
    tos: int
    may_fragment: bool = False
    """As in `SendDatagram`."""


Order: TypeAlias = (
    OpenStream
    | SendStream
    | ShutdownStream
    | ResumeStream
    | KeepAlive
    | CloseSocket
    | OpenDatagram
    | SendDatagram
    | OpenEcho
    | SendEcho
)
