"""The interface of a network, as the driver uses it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from sansnet_core import Buffer, Endpoint, ExtendedError, Frame, Notice, Order, Prefix, SocketId, UsageError, Verdict

__all__ = ["NetworkProtocol", "TrafficProtocol", "expect_network"]


class TrafficProtocol(Protocol):
    """The methods that packets and connections cause, most often: those of a network or of its `Traffic`."""

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None: ...

    def stream_connected(self, socket: SocketId, now: float) -> None: ...

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None: ...

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None: ...

    def stream_ended(self, socket: SocketId, now: float) -> None: ...

    def stream_accepted(
        self, remote: Endpoint, guest_address: bytes | None, guest_port: int, now: float
    ) -> SocketId | None: ...

    def datagram_received(
        self,
        socket: SocketId,
        source: Endpoint,
        data: bytes,
        segment_size: int,
        ttl: int,
        tos: int,
        now: float,
        local: bytes | None = None,
    ) -> None: ...

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...

    def take_frames(self) -> list[Frame]: ...

    def take_orders(self) -> list[Order]: ...

    def take_notices(self) -> Sequence[Notice]: ...

    def receive_budget(self, socket: SocketId) -> int: ...


class NetworkProtocol(TrafficProtocol, Protocol):
    """The methods of `sansnet_core.Network` that the driver calls. A proxy that records or replays has them too."""

    def guest_attached(self, now: float) -> None: ...

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None: ...

    def forward_added(
        self, guest_address: bytes | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId: ...

    def forward_removed(self, socket: SocketId, now: float) -> None: ...

    def datagram_failed(
        self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes, now: float
    ) -> None: ...

    def echo_received(
        self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int, now: float
    ) -> None: ...

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes, now: float) -> None: ...

    def service_added(self, protocol: int, prefix: Prefix | None, port: int | None, now: float) -> SocketId: ...

    def service_removed(self, socket: SocketId, now: float) -> None: ...

    def service_sent(self, socket: SocketId, guest: Endpoint, source: Endpoint, data: bytes, now: float) -> None: ...

    def stream_opened(
        self, source: Endpoint | None, guest_address: bytes | None, guest_port: int, now: float
    ) -> SocketId | int: ...

    def program_addresses(self, source: bytes | None, guest_address: bytes | None) -> tuple[bytes, bytes] | int: ...

    def stream_endpoints(self, socket: SocketId) -> tuple[Endpoint, Endpoint] | None: ...

    def stream_unacknowledged(self, socket: SocketId) -> int: ...

    def flow_decided(self, socket: SocketId, verdict: Verdict, now: float) -> None: ...

    def report_notices(self, wanted: bool) -> None: ...


def expect_network(network: object) -> None:
    """Check an argument.

    Raises:
        UsageError: it is no network.
    """
    if not hasattr(network, "receive_frames"):
        raise UsageError(f"network: {network!r:.100} is not a network; give a sansnet_core.Network")
