"""A network that notes its inputs, and goes on after an exception of its own.

Theory of operation. Each method that changes what the network does later lets `Network` do the work, and then notes the
call with its result (`calls`). The note is appended to the last inputs in memory (`ring`), and written to the recording
if there is one (`format`). If the work raises an exception by mistake, `rescue` goes on with the rest of it. A replay
does the same, so a recording has only the call.

The methods are written out, since they are called for each packet: what they add is about as much as one more call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from errno import ECONNABORTED
from typing import TYPE_CHECKING, Any

from sansnet_core.network import Network
from sansnet_core.orders import Buffer, Endpoint, ExtendedError, Frame, Order, SocketId
from sansnet_core.recording.calls import Call
from sansnet_core.recording.rescue import RescuedNetwork
from sansnet_core.recording.traffic import Traffic

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyAddress, AnyPrefix
    from sansnet_core.config import NetworkConfig
    from sansnet_core.fields import AnyEndpoint
    from sansnet_core.notices import Notice
    from sansnet_core.policy import Verdict

__all__ = ["RecordedNetwork"]


class RecordedNetwork(RescuedNetwork):
    """A network that keeps its last inputs in memory, can record all of them, and survives its own mistakes.

    Args:
        config: see `Network`.
        now: see `Network`.
        secret: see `Network`.
        ring: bytes of memory for the last inputs, approximately; 0 keeps none.
        epoch: the date of time 0 of the clock of `now`, in seconds since 1970; recordings have it for captures.
        failed: called with each `Failure` before the input that caused it returns; it must not call the network.
    """

    def traffic(self) -> Traffic:
        """The most frequent calls, for a driver whose arguments need no checks."""
        return Traffic(self, self._context, self._protocols, self._notes)

    # inputs

    def guest_attached(self, now: float) -> None:
        """See `Network.guest_attached`."""
        try:
            Network.guest_attached(self, now)
        except BaseException as error:
            self.raised(error, Call.GUEST_ATTACHED, now)
        else:
            self._notes.note((Call.GUEST_ATTACHED, now))

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """See `Network.receive_frames`."""
        batch = tuple(frames) if type(frames) is list else _batch(frames)
        left = iter(batch) if type(batch) is tuple else batch
        try:
            Network.receive_frames(self, left, now)
            self._notes.size += sum(map(len, batch))
        except BaseException as error:
            self.raised(error, Call.RECEIVE_FRAMES, now, batch, left=left)
        else:
            self._notes.note((Call.RECEIVE_FRAMES, now, batch))

    def stream_accepted(
        self, remote: AnyEndpoint, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | None:
        """See `Network.stream_accepted`."""
        arguments = (remote, guest_address, guest_port)
        try:
            result = Network.stream_accepted(self, remote, guest_address, guest_port, now)
        except BaseException as error:
            result = self.raised(error, Call.STREAM_ACCEPTED, now, *arguments)
        else:
            self._notes.note((Call.STREAM_ACCEPTED, now, *arguments, result))
        return result

    def stream_connected(self, socket: SocketId, now: float) -> None:
        """See `Network.stream_connected`."""
        try:
            Network.stream_connected(self, socket, now)
        except BaseException as error:
            self.raised(error, Call.STREAM_CONNECTED, now, socket)
        else:
            self._notes.note((Call.STREAM_CONNECTED, now, socket))

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None:
        """See `Network.stream_received`."""
        try:
            Network.stream_received(self, socket, data, now)
            self._notes.size += len(data)
        except BaseException as error:
            self.raised(error, Call.STREAM_RECEIVED, now, socket, data)
        else:
            self._notes.note((Call.STREAM_RECEIVED, now, socket, data))

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None:
        """See `Network.stream_sent`."""
        try:
            Network.stream_sent(self, socket, count, now)
        except BaseException as error:
            self.raised(error, Call.STREAM_SENT, now, socket, count)
        else:
            self._notes.note((Call.STREAM_SENT, now, socket, count))

    def stream_ended(self, socket: SocketId, now: float) -> None:
        """See `Network.stream_ended`."""
        try:
            Network.stream_ended(self, socket, now)
        except BaseException as error:
            self.raised(error, Call.STREAM_ENDED, now, socket)
        else:
            self._notes.note((Call.STREAM_ENDED, now, socket))

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None:
        """See `Network.stream_failed`."""
        try:
            Network.stream_failed(self, socket, errno, error, now)
        except BaseException as raised:
            self.raised(raised, Call.STREAM_FAILED, now, socket, errno, error)
        else:
            self._notes.note((Call.STREAM_FAILED, now, socket, errno, error))

    def forward_added(
        self, guest_address: AnyAddress | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId:
        """See `Network.forward_added`."""
        arguments = (guest_address, guest_port, outgoing)
        try:
            result = Network.forward_added(self, guest_address, guest_port, now, outgoing)
        except BaseException as error:
            result = self.raised(error, Call.FORWARD_ADDED, now, *arguments)
        else:
            self._notes.note((Call.FORWARD_ADDED, now, *arguments, result))
        return result

    def forward_removed(self, socket: SocketId, now: float) -> None:
        """See `Network.forward_removed`."""
        try:
            Network.forward_removed(self, socket, now)
        except BaseException as error:
            self.raised(error, Call.FORWARD_REMOVED, now, socket)
        else:
            self._notes.note((Call.FORWARD_REMOVED, now, socket))

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
        """See `Network.datagram_received`."""
        try:
            Network.datagram_received(self, socket, source, data, segment_size, ttl, tos, now, local)
            self._notes.size += len(data)
        except BaseException as error:
            self.raised(error, Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local)
        else:
            self._notes.note((Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local))

    def datagram_failed(
        self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes, now: float
    ) -> None:
        """See `Network.datagram_failed`."""
        try:
            Network.datagram_failed(self, socket, remote, error, data, now)
            self._notes.size += len(data)
        except BaseException as raised:
            self.raised(raised, Call.DATAGRAM_FAILED, now, socket, remote, error, data)
        else:
            self._notes.note((Call.DATAGRAM_FAILED, now, socket, remote, error, data))

    def echo_received(
        self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int, now: float
    ) -> None:
        """See `Network.echo_received`."""
        try:
            Network.echo_received(self, socket, source, sequence, data, ttl, tos, now)
            self._notes.size += len(data)
        except BaseException as error:
            self.raised(error, Call.ECHO_RECEIVED, now, socket, source, sequence, data, ttl, tos)
        else:
            self._notes.note((Call.ECHO_RECEIVED, now, socket, source, sequence, data, ttl, tos))

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes, now: float) -> None:
        """See `Network.echo_failed`."""
        try:
            Network.echo_failed(self, socket, sequence, error, data, now)
            self._notes.size += len(data)
        except BaseException as raised:
            self.raised(raised, Call.ECHO_FAILED, now, socket, sequence, error, data)
        else:
            self._notes.note((Call.ECHO_FAILED, now, socket, sequence, error, data))

    def service_added(self, protocol: int, prefix: AnyPrefix | None, port: int | None, now: float) -> SocketId:
        """See `Network.service_added`."""
        try:
            result = Network.service_added(self, protocol, prefix, port, now)
        except BaseException as error:
            result = self.raised(error, Call.SERVICE_ADDED, now, protocol, prefix, port)
        else:
            self._notes.note((Call.SERVICE_ADDED, now, protocol, prefix, port, result))
        return result

    def service_removed(self, socket: SocketId, now: float) -> None:
        """See `Network.service_removed`."""
        try:
            Network.service_removed(self, socket, now)
        except BaseException as error:
            self.raised(error, Call.SERVICE_REMOVED, now, socket)
        else:
            self._notes.note((Call.SERVICE_REMOVED, now, socket))

    def service_sent(self, socket: SocketId, guest: AnyEndpoint, source: AnyEndpoint, data: bytes, now: float) -> None:
        """See `Network.service_sent`."""
        try:
            Network.service_sent(self, socket, guest, source, data, now)
            self._notes.size += len(data)
        except BaseException as error:
            self.raised(error, Call.SERVICE_SENT, now, socket, guest, source, data)
        else:
            self._notes.note((Call.SERVICE_SENT, now, socket, guest, source, data))

    def stream_opened(
        self, source: AnyEndpoint | None, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | int:
        """See `Network.stream_opened`."""
        arguments = (source, guest_address, guest_port)
        try:
            result = Network.stream_opened(self, source, guest_address, guest_port, now)
        except BaseException as error:
            result = self.raised(error, Call.STREAM_OPENED, now, *arguments, result=-ECONNABORTED)
        else:
            self._notes.note((Call.STREAM_OPENED, now, *arguments, result))
        return result

    def flow_decided(self, socket: SocketId, verdict: Verdict, now: float) -> None:
        """See `Network.flow_decided`."""
        try:
            Network.flow_decided(self, socket, verdict, now)
        except BaseException as error:
            self.raised(error, Call.FLOW_DECIDED, now, socket, verdict)
        else:
            self._notes.note((Call.FLOW_DECIDED, now, socket, verdict))

    def report_notices(self, wanted: bool) -> None:
        """See `Network.report_notices`."""
        try:
            Network.report_notices(self, wanted)
        except BaseException as error:
            self.raised(error, Call.REPORT_NOTICES, None, wanted)
        else:
            self._notes.note((Call.REPORT_NOTICES, None, wanted))

    def handle_deadline(self, now: float) -> None:
        """See `Network.handle_deadline`."""
        try:
            Network.handle_deadline(self, now)
        except BaseException as error:
            self.raised(error, Call.HANDLE_DEADLINE, now)
        else:
            self._notes.note((Call.HANDLE_DEADLINE, now))

    def reconfigure(self, config: NetworkConfig, now: float, *, moved: bool = False, keep_flows: bool = False) -> None:
        """See `Network.reconfigure`."""
        old = self._context.config
        try:
            Network.reconfigure(self, config, now, moved=moved, keep_flows=keep_flows)
        except BaseException as error:
            self.raised(error, Call.RECONFIGURE, now, config, moved, keep_flows, left=old)
        else:
            self._notes.note((Call.RECONFIGURE, now, config, moved, keep_flows))

    # outputs

    def take_orders(self) -> list[Order]:
        """See `Network.take_orders`."""
        try:
            orders = Network.take_orders(self)
        except BaseException as error:
            orders = self.raised(error, Call.TAKE_ORDERS, None)
        else:
            if not self._notes.with_outputs:
                self._notes.note((Call.TAKE_ORDERS, None, len(orders)))
            else:
                self.note_outputs((Call.TAKE_ORDERS, None, orders))
        return orders

    def take_frames(self) -> list[Frame]:
        """See `Network.take_frames`."""
        try:
            frames = Network.take_frames(self)
        except BaseException as error:
            frames = self.raised(error, Call.TAKE_FRAMES, None)
        else:
            if not self._notes.with_outputs:
                self._notes.note((Call.TAKE_FRAMES, None, len(frames)))
            else:
                self.note_outputs((Call.TAKE_FRAMES, None, frames))
        if self._notes.full:
            self.begin_segment()
        return frames

    def take_notices(self) -> list[Notice]:
        """See `Network.take_notices`."""
        try:
            notices = Network.take_notices(self)
        except BaseException as error:
            notices = self.raised(error, Call.TAKE_NOTICES, None)
        else:
            if not self._notes.with_outputs:
                self._notes.note((Call.TAKE_NOTICES, None, len(notices)))
            else:
                self.note_outputs((Call.TAKE_NOTICES, None, notices))
        return notices

    def receive_budget(self, socket: SocketId) -> int:
        """See `Network.receive_budget`."""
        try:
            budget = Network.receive_budget(self, socket)
        except BaseException as error:
            budget = self.raised(error, Call.RECEIVE_BUDGET, None, socket, result=0)
        else:
            self._notes.note((Call.RECEIVE_BUDGET, None, socket, budget))
        return budget


def _batch(frames: Any) -> Any:
    """Frames that were not given as a list, as a tuple; what is no sequence of frames stays as it is."""
    if isinstance(frames, tuple | bytes | bytearray | memoryview | str) or not isinstance(frames, Iterable):
        return frames
    return tuple(frames)
