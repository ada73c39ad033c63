"""A network that notes its inputs, and goes on after an exception of its own.

Theory of operation. Each method that changes what the network does later lets `Network` do the work, and then notes the
call with its result (`calls`). The note is appended to the last inputs in memory (`ring`), and written to the recording
if there is one (`format`). If the work raises an exception by mistake, `recovery` gives up the flow that it belongs to,
and the call goes on with the rest of its work. A replay does the same, so a recording has only the call.

The methods are written out, since they are called for each packet: what they add is about as much as one more call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from sansnet_core._version import __version__
from sansnet_core.errors import ConfigError, UsageError
from sansnet_core.network import Network
from sansnet_core.orders import Buffer, Endpoint, ExtendedError, Frame, Order, SocketId
from sansnet_core.recording.calls import Call, Ending, Entry, Raised
from sansnet_core.recording.ring import Ring
from sansnet_core.snapshot import TooLarge, save

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyAddress, AnyPrefix
    from sansnet_core.config import NetworkConfig
    from sansnet_core.fields import AnyEndpoint
    from sansnet_core.notices import Notice
    from sansnet_core.policy import Verdict
    from sansnet_core.recording.failure import Failure
    from sansnet_core.recording.format import Writer

__all__ = ["RING", "RecordedNetwork"]

RING: Final = 4 << 20
"""Bytes of the last inputs that are kept in memory."""

_NOT_STATE: Final = frozenset(
    ("_entries", "_failed", "_note", "_noted", "_ring", "_segment_entries", "_segment_size", "_writer", "_interrupted")
)
"""Attributes that belong to the recording, and not to the network."""


class RecordedNetwork(Network):
    """A network that keeps its last inputs in memory, can record all of them, and survives its own mistakes.

    Args:
        config: see `Network`.
        now: see `Network`.
        secret: see `Network`.
        ring: bytes of memory for the last inputs, approximately; 0 keeps none.
        epoch: the date of time 0 of the clock of `now`, in seconds since 1970; recordings have it for captures.
        failed: called with each `Failure` before the input that caused it returns; it must not call the network.
    """

    def __init__(
        self,
        config: NetworkConfig,
        *,
        now: float,
        secret: bytes,
        ring: int = RING,
        epoch: float = 0.0,
        failed: Callable[[Failure], None] | None = None,
    ) -> None:
        super().__init__(config, now=now, secret=secret)
        self._secret = secret
        self._epoch = epoch
        self._failures: list[float] = []
        self.survived: list[Raised] = []
        """Exceptions that the latest calls recovered from; the owner may clear it."""
        self._keep(ring, failed, b"")

    def _keep(self, ring: int, failed: Callable[[Failure], None] | None, state: bytes | None) -> None:
        """Begin to keep the last inputs; `state` is as in `Beginning`."""
        self._failed = failed
        self._writer: Writer | None = None
        self._interrupted = False
        origin = None if state is None else (self._context.config, self._context.now, state)
        self._ring = Ring(ring, origin) if ring else None
        self._noted = 0
        self._entries: list[Entry] = self._ring.segments[-1].entries if self._ring else []
        self._segment_size = self._ring.segment_size if self._ring else 1 << 62
        self._segment_entries = self._ring.segment_entries if self._ring else 1 << 62
        self._note: Callable[[Entry], object] = self._entries.append if self._ring else _note_nothing

    def _state(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in _NOT_STATE}

    def _set_state(self, state: dict[str, object]) -> None:
        super()._set_state(state)
        self._keep(RING, None, None)

    def load_state(self, state: dict[str, object]) -> None:
        """Take the state of a recorded network, for a replay."""
        super()._set_state(state)

    @property
    def config(self) -> NetworkConfig:
        """The present configuration."""
        return self._context.config

    # the recording

    def record(self, write: Callable[[bytes], object] | None) -> None:
        """Begin a recording of all inputs, in place of the present one; None ends that.

        It begins with the whole state of the network, and can be replayed by itself.

        Args:
            write: called with each part of the recording, as bytes to be put one behind the other, within the inputs.
                It must not raise, nor call the network.
        """
        if self._writer is not None:
            self._writer.flush()
            self._writer = None
        if write is not None:
            from sansnet_core.recording.format import Writer

            fresh = self._ring is not None and len(self._ring.segments) == 1 and not self._entries
            self._interrupted = False
            self._writer = Writer(write, self._beginning(b"" if fresh and self._is_new() else self._save(None)))
        self._choose_note()

    def _is_new(self) -> bool:
        origin = self._ring.segments[0].origin if self._ring else None
        return origin is not None and origin[2] == b""

    def _choose_note(self) -> None:
        if self._writer is not None:
            self._note = self._note_and_write
        else:
            self._note = self._entries.append if self._ring else _note_nothing

    def flush_recording(self) -> None:
        """Write what the present recording has not written yet: entries wait until there are 64 KiB."""
        if self._writer is not None:
            self._writer.flush()

    @property
    def recorded(self) -> int:
        """Bytes of the present recording so far; 0 without one."""
        return self._writer.written if self._writer is not None else 0

    def last_inputs(self) -> bytes:
        """A recording of the last inputs; empty if none are kept.

        It can be replayed if it begins with a new network or a saved state. That is so unless the network has much
        state, or there is much traffic.
        """
        if self._ring is None:
            return b""
        from sansnet_core.recording.format import Writer

        pieces: list[bytes] = []
        segments = self._ring.last()
        config, now, state = segments[0].origin or (self._context.config, self._context.now, None)
        writer = Writer(pieces.append, self._beginning(state, config, now))
        for segment in segments:
            for entry in segment.entries:
                writer.call(entry)
        writer.flush()
        return b"".join(pieces)

    def _beginning(self, state: bytes | None, config: NetworkConfig | None = None, now: float | None = None) -> Any:
        from sansnet_core.recording.format import Beginning

        context = self._context
        now = context.now if now is None else now
        return Beginning(__version__, config or context.config, self._secret, now, self._epoch, state)

    def _save(self, limit: int | None) -> bytes:
        """The state of the network; see `snapshot.save`. The configuration and what is made of it are left out."""
        context = self._context
        known = (context.config, context.policy, *context.config.rules)
        return save(self, self._state(), known, limit)

    def _note_and_write(self, entry: Entry) -> None:
        if self._ring is not None:
            self._entries.append(entry)
        if self._writer is not None:
            if self._interrupted:
                self._writer.checkpoint(self._save(None))
                self._interrupted = False
            self._writer.call(entry)

    def _note_outputs(self, number: int, outputs: list[Any]) -> None:
        """Note outputs: their number in memory, and all of them in the recording."""
        if self._ring is not None:
            self._entries.append((number, None, len(outputs)))
        if self._writer is not None:
            self._writer.call((number, None, outputs))

    def _begin_segment(self) -> None:
        assert self._ring is not None
        self._entries = self._ring.begin_segment(self._context.now, self._noted, self._checkpoint).entries
        self._noted = 0
        self._choose_note()

    def _checkpoint(self, limit: int) -> tuple[Any, int] | None:
        try:
            state = self._save(limit)
        except TooLarge:
            return None
        return (self._context.config, self._context.now, state), len(state)

    # exceptions

    def _raised(self, error: BaseException, number: int, now: Any, *arguments: Any, result: Any = None) -> Any:
        """Note a call that raised an exception, and raise it again."""
        if isinstance(error, UsageError) or (number == Call.RECONFIGURE and isinstance(error, ConfigError)):
            ending = Ending.MISUSE
        else:
            ending = Ending.FAILED if isinstance(error, Exception) else Ending.INTERRUPTED
        self._note((-number, now, *arguments, Raised(ending, type(error).__name__, str(error))))
        raise error

    # inputs

    def guest_attached(self, now: float) -> None:
        """See `Network.guest_attached`."""
        try:
            Network.guest_attached(self, now)
        except BaseException as error:
            self._raised(error, Call.GUEST_ATTACHED, now)
        else:
            self._note((Call.GUEST_ATTACHED, now))

    def receive_frames(self, frames: Iterable[Buffer], now: float) -> None:
        """See `Network.receive_frames`."""
        batch = tuple(frames) if type(frames) is list else _batch(frames)
        try:
            Network.receive_frames(self, batch, now)
            self._noted += sum(map(len, batch))
        except BaseException as error:
            self._raised(error, Call.RECEIVE_FRAMES, now, batch)
        else:
            self._note((Call.RECEIVE_FRAMES, now, batch))

    def stream_accepted(
        self, remote: AnyEndpoint, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | None:
        """See `Network.stream_accepted`."""
        arguments = (remote, guest_address, guest_port)
        try:
            result = Network.stream_accepted(self, remote, guest_address, guest_port, now)
        except BaseException as error:
            result = self._raised(error, Call.STREAM_ACCEPTED, now, *arguments)
        else:
            self._note((Call.STREAM_ACCEPTED, now, *arguments, result))
        return result

    def stream_connected(self, socket: SocketId, now: float) -> None:
        """See `Network.stream_connected`."""
        try:
            Network.stream_connected(self, socket, now)
        except BaseException as error:
            self._raised(error, Call.STREAM_CONNECTED, now, socket)
        else:
            self._note((Call.STREAM_CONNECTED, now, socket))

    def stream_received(self, socket: SocketId, data: bytes, now: float) -> None:
        """See `Network.stream_received`."""
        try:
            Network.stream_received(self, socket, data, now)
            self._noted += len(data)
        except BaseException as error:
            self._raised(error, Call.STREAM_RECEIVED, now, socket, data)
        else:
            self._note((Call.STREAM_RECEIVED, now, socket, data))

    def stream_sent(self, socket: SocketId, count: int, now: float) -> None:
        """See `Network.stream_sent`."""
        try:
            Network.stream_sent(self, socket, count, now)
        except BaseException as error:
            self._raised(error, Call.STREAM_SENT, now, socket, count)
        else:
            self._note((Call.STREAM_SENT, now, socket, count))

    def stream_ended(self, socket: SocketId, now: float) -> None:
        """See `Network.stream_ended`."""
        try:
            Network.stream_ended(self, socket, now)
        except BaseException as error:
            self._raised(error, Call.STREAM_ENDED, now, socket)
        else:
            self._note((Call.STREAM_ENDED, now, socket))

    def stream_failed(self, socket: SocketId, errno: int, error: ExtendedError | None, now: float) -> None:
        """See `Network.stream_failed`."""
        try:
            Network.stream_failed(self, socket, errno, error, now)
        except BaseException as raised:
            self._raised(raised, Call.STREAM_FAILED, now, socket, errno, error)
        else:
            self._note((Call.STREAM_FAILED, now, socket, errno, error))

    def forward_added(
        self, guest_address: AnyAddress | None, guest_port: int, now: float, outgoing: Collection[int] = ()
    ) -> SocketId:
        """See `Network.forward_added`."""
        arguments = (guest_address, guest_port, outgoing)
        try:
            result = Network.forward_added(self, guest_address, guest_port, now, outgoing)
        except BaseException as error:
            result = self._raised(error, Call.FORWARD_ADDED, now, *arguments)
        else:
            self._note((Call.FORWARD_ADDED, now, *arguments, result))
        return result

    def forward_removed(self, socket: SocketId, now: float) -> None:
        """See `Network.forward_removed`."""
        try:
            Network.forward_removed(self, socket, now)
        except BaseException as error:
            self._raised(error, Call.FORWARD_REMOVED, now, socket)
        else:
            self._note((Call.FORWARD_REMOVED, now, socket))

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
            self._noted += len(data)
        except BaseException as error:
            self._raised(error, Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local)
        else:
            self._note((Call.DATAGRAM_RECEIVED, now, socket, source, data, segment_size, ttl, tos, local))

    def datagram_failed(
        self, socket: SocketId, remote: Endpoint, error: ExtendedError, data: bytes, now: float
    ) -> None:
        """See `Network.datagram_failed`."""
        try:
            Network.datagram_failed(self, socket, remote, error, data, now)
        except BaseException as raised:
            self._raised(raised, Call.DATAGRAM_FAILED, now, socket, remote, error, data)
        else:
            self._note((Call.DATAGRAM_FAILED, now, socket, remote, error, data))

    def echo_received(
        self, socket: SocketId, source: bytes, sequence: int, data: bytes, ttl: int, tos: int, now: float
    ) -> None:
        """See `Network.echo_received`."""
        try:
            Network.echo_received(self, socket, source, sequence, data, ttl, tos, now)
        except BaseException as error:
            self._raised(error, Call.ECHO_RECEIVED, now, socket, source, sequence, data, ttl, tos)
        else:
            self._note((Call.ECHO_RECEIVED, now, socket, source, sequence, data, ttl, tos))

    def echo_failed(self, socket: SocketId, sequence: int, error: ExtendedError, data: bytes, now: float) -> None:
        """See `Network.echo_failed`."""
        try:
            Network.echo_failed(self, socket, sequence, error, data, now)
        except BaseException as raised:
            self._raised(raised, Call.ECHO_FAILED, now, socket, sequence, error, data)
        else:
            self._note((Call.ECHO_FAILED, now, socket, sequence, error, data))

    def service_added(self, protocol: int, prefix: AnyPrefix | None, port: int | None, now: float) -> SocketId:
        """See `Network.service_added`."""
        try:
            result = Network.service_added(self, protocol, prefix, port, now)
        except BaseException as error:
            result = self._raised(error, Call.SERVICE_ADDED, now, protocol, prefix, port)
        else:
            self._note((Call.SERVICE_ADDED, now, protocol, prefix, port, result))
        return result

    def service_removed(self, socket: SocketId, now: float) -> None:
        """See `Network.service_removed`."""
        try:
            Network.service_removed(self, socket, now)
        except BaseException as error:
            self._raised(error, Call.SERVICE_REMOVED, now, socket)
        else:
            self._note((Call.SERVICE_REMOVED, now, socket))

    def service_sent(self, socket: SocketId, guest: AnyEndpoint, source: AnyEndpoint, data: bytes, now: float) -> None:
        """See `Network.service_sent`."""
        try:
            Network.service_sent(self, socket, guest, source, data, now)
            self._noted += len(data)
        except BaseException as error:
            self._raised(error, Call.SERVICE_SENT, now, socket, guest, source, data)
        else:
            self._note((Call.SERVICE_SENT, now, socket, guest, source, data))

    def stream_opened(
        self, source: AnyEndpoint | None, guest_address: AnyAddress | None, guest_port: int, now: float
    ) -> SocketId | int:
        """See `Network.stream_opened`."""
        arguments = (source, guest_address, guest_port)
        try:
            result = Network.stream_opened(self, source, guest_address, guest_port, now)
        except BaseException as error:
            result = self._raised(error, Call.STREAM_OPENED, now, *arguments)
        else:
            self._note((Call.STREAM_OPENED, now, *arguments, result))
        return result

    def flow_decided(self, socket: SocketId, verdict: Verdict, now: float) -> None:
        """See `Network.flow_decided`."""
        try:
            Network.flow_decided(self, socket, verdict, now)
        except BaseException as error:
            self._raised(error, Call.FLOW_DECIDED, now, socket, verdict)
        else:
            self._note((Call.FLOW_DECIDED, now, socket, verdict))

    def report_notices(self, wanted: bool) -> None:
        """See `Network.report_notices`."""
        Network.report_notices(self, wanted)
        self._note((Call.REPORT_NOTICES, None, wanted))

    def handle_deadline(self, now: float) -> None:
        """See `Network.handle_deadline`."""
        try:
            Network.handle_deadline(self, now)
        except BaseException as error:
            self._raised(error, Call.HANDLE_DEADLINE, now)
        else:
            self._note((Call.HANDLE_DEADLINE, now))

    def reconfigure(self, config: NetworkConfig, now: float, *, moved: bool = False, keep_flows: bool = False) -> None:
        """See `Network.reconfigure`."""
        try:
            Network.reconfigure(self, config, now, moved=moved, keep_flows=keep_flows)
        except BaseException as error:
            self._raised(error, Call.RECONFIGURE, now, config, moved, keep_flows)
        else:
            self._note((Call.RECONFIGURE, now, config, moved, keep_flows))

    # outputs

    def take_orders(self) -> list[Order]:
        """See `Network.take_orders`."""
        try:
            orders = Network.take_orders(self)
        except BaseException as error:
            orders = self._raised(error, Call.TAKE_ORDERS, None)
        else:
            if self._writer is None:
                self._note((Call.TAKE_ORDERS, None, len(orders)))
            else:
                self._note_outputs(Call.TAKE_ORDERS, orders)
        return orders

    def take_frames(self) -> list[Frame]:
        """See `Network.take_frames`."""
        try:
            frames = Network.take_frames(self)
        except BaseException as error:
            frames = self._raised(error, Call.TAKE_FRAMES, None)
        else:
            if self._writer is None:
                self._note((Call.TAKE_FRAMES, None, len(frames)))
            else:
                self._note_outputs(Call.TAKE_FRAMES, frames)
        if self._noted > self._segment_size or len(self._entries) > self._segment_entries:
            self._begin_segment()
        return frames

    def take_notices(self) -> list[Notice]:
        """See `Network.take_notices`."""
        notices = Network.take_notices(self)
        if self._writer is None:
            self._note((Call.TAKE_NOTICES, None, len(notices)))
        else:
            self._note_outputs(Call.TAKE_NOTICES, notices)
        return notices

    def receive_budget(self, socket: SocketId) -> int:
        """See `Network.receive_budget`."""
        try:
            budget = Network.receive_budget(self, socket)
        except BaseException as error:
            budget = self._raised(error, Call.RECEIVE_BUDGET, None, socket)
        else:
            self._note((Call.RECEIVE_BUDGET, None, socket, budget))
        return budget


def _note_nothing(entry: Entry) -> None:
    """Keep no inputs."""


def _batch(frames: Any) -> Any:
    """Frames that were not given as a list, as a tuple; what is no sequence of frames stays as it is."""
    if isinstance(frames, tuple | bytes | bytearray | memoryview | str) or not isinstance(frames, Iterable):
        return frames
    return tuple(frames)
