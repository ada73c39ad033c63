"""The calls of a recorded network that packets and connections cause, for the driver.

Theory of operation. A driver that hands over what the kernel returned needs no checks of its arguments, and of all
calls these are the most frequent. So here each of them is one step: it stores the time, calls the protocol, and notes
the call. The effects and the notes are those of `RecordedNetwork`, and a replay calls that. Unlike that it is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sansnet_core.context import Context
from sansnet_core.orders import Buffer, Endpoint, Frame, Order, SocketId
from sansnet_core.protocols import Protocols
from sansnet_core.recording.calls import Call
from sansnet_core.recording.notes import Notes

if TYPE_CHECKING:
    from sansnet_core.notices import Notice

__all__ = ["Traffic"]


class Traffic:
    """Some methods of a `RecordedNetwork`, without checks of their arguments: see `Network` for each of them.

    Args:
        network: the network, which goes on after an exception.
        context: of the network.
        protocols: of the network.
        notes: where the network notes its calls.
    """

    def __init__(self, network: Any, context: Context, protocols: Protocols, notes: Notes) -> None:
        self._network = network
        self._context = context
        self._protocols = protocols
        self._notes = notes

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """See `Network`."""
        notes = self._notes
        batch = tuple(frames)
        left = iter(batch)
        self._context.now = now
        try:
            self._protocols.receive_frames(left)
            notes.size += sum(map(len, batch))
        except BaseException as error:
            self._network.raised(error, Call.RECEIVE_FRAMES, now, batch, left=left)
        else:
            notes.note((Call.RECEIVE_FRAMES, now, batch))

    def stream_connected(self, socket: SocketId, now: float) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._protocols.streams.stream_connected(socket)
        except BaseException as error:
            self._network.raised(error, Call.STREAM_CONNECTED, now, socket)
        else:
            self._notes.note((Call.STREAM_CONNECTED, now, socket))

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._protocols.streams.stream_received(socket, data)
            self._notes.size += len(data)
        except BaseException as error:
            self._network.raised(error, Call.STREAM_RECEIVED, now, socket, data)
        else:
            self._notes.note((Call.STREAM_RECEIVED, now, socket, data))

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._protocols.streams.stream_sent(socket, count)
        except BaseException as error:
            self._network.raised(error, Call.STREAM_SENT, now, socket, count)
        else:
            self._notes.note((Call.STREAM_SENT, now, socket, count))

    def stream_ended(self, socket: SocketId, now: float) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._protocols.streams.stream_ended(socket)
        except BaseException as error:
            self._network.raised(error, Call.STREAM_ENDED, now, socket)
        else:
            self._notes.note((Call.STREAM_ENDED, now, socket))

    def stream_accepted(
        self, remote: Endpoint, guest_address: bytes | None, guest_port: int, now: float
    ) -> SocketId | None:
        """See `Network`."""
        self._context.now = now
        result: SocketId | None = None
        try:
            result = self._protocols.tcp.opening.inbound.stream_accepted(remote, guest_address, guest_port)
        except BaseException as error:
            result = self._network.raised(error, Call.STREAM_ACCEPTED, now, remote, guest_address, guest_port)
        else:
            self._notes.note((Call.STREAM_ACCEPTED, now, remote, guest_address, guest_port, result))
        return result

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
    ) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._protocols.datagrams.datagram_received(socket, source, data, segment_size, ttl, tos, local)
            self._notes.size += len(data)
        except BaseException as error:
            self._network.raised(
                error, Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local
            )
        else:
            self._notes.note((Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local))

    def next_deadline(self) -> float | None:
        """See `Network`."""
        try:
            return self._context.timers.next_deadline()
        except Exception:
            self._network.next_deadline()  # it fails again, and reports that
            raise

    def handle_deadline(self, now: float) -> None:
        """See `Network`."""
        self._context.now = now
        try:
            self._context.timers.expire(now)
        except BaseException as error:
            self._network.raised(error, Call.HANDLE_DEADLINE, now)
        else:
            self._notes.note((Call.HANDLE_DEADLINE, now))

    def take_orders(self) -> list[Order]:
        """See `Network`."""
        orders: list[Order] = []
        try:
            orders = self._protocols.take_orders()
        except BaseException as error:
            orders = self._network.raised(error, Call.TAKE_ORDERS, None)
        else:
            notes = self._notes
            if notes.with_outputs:
                self._network.note_outputs((Call.TAKE_ORDERS, None, orders))
            else:
                notes.note((Call.TAKE_ORDERS, None, len(orders)))
        return orders

    def take_frames(self) -> list[Frame]:
        """See `Network`."""
        frames: list[Frame] = []
        notes = self._notes
        try:
            frames = self._protocols.take_frames()
        except BaseException as error:
            frames = self._network.raised(error, Call.TAKE_FRAMES, None)
        else:
            if notes.with_outputs:
                self._network.note_outputs((Call.TAKE_FRAMES, None, frames))
            else:
                notes.note((Call.TAKE_FRAMES, None, len(frames)))
        if notes.full:
            self._network.begin_segment()
        return frames

    def take_notices(self) -> list[Notice]:
        """See `Network`."""
        notices: list[Notice] = []
        try:
            notices = self._protocols.take_notices()
        except BaseException as error:
            notices = self._network.raised(error, Call.TAKE_NOTICES, None)
        else:
            notes = self._notes
            if notes.with_outputs:
                self._network.note_outputs((Call.TAKE_NOTICES, None, notices))
            else:
                notes.note((Call.TAKE_NOTICES, None, len(notices)))
        return notices

    def receive_budget(self, socket: SocketId) -> int:
        """See `Network`."""
        budget = 0
        try:
            budget = self._protocols.streams.receive_budget(socket)
        except BaseException as error:
            budget = self._network.raised(error, Call.RECEIVE_BUDGET, None, socket, result=0)
        else:
            self._notes.note((Call.RECEIVE_BUDGET, None, socket, budget))
        return budget
