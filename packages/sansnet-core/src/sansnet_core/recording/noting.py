"""Notes the inputs of a network: in memory, and in a recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sansnet_core._version import __version__
from sansnet_core.network import Network
from sansnet_core.recording.calls import Ending, Entry, Raised
from sansnet_core.recording.notes import Notes, note_nothing
from sansnet_core.recording.ring import Ring
from sansnet_core.snapshot import save
from sansnet_core.variant import VARIANT

if TYPE_CHECKING:
    from sansnet_core.config import NetworkConfig
    from sansnet_core.recording.failure import Failure
    from sansnet_core.recording.format import Writer

__all__ = ["RING", "NotingNetwork"]

RING: Final = 4 << 20
"""Bytes of the last inputs that are kept in memory."""
_LEAST_PER_FLOW: Final = 300
"""Bytes of a saved state for each TCP connection, at least; most take 700."""

_NOT_STATE: Final = frozenset(
    (
        "_failed",
        "_interrupted",
        "_notes",
        "_ring",
        "_told",
        "_writer",
    )
)
"""Attributes that belong to the recording, and not to the network."""


class NotingNetwork(Network):
    """A network that keeps its last inputs in memory, and can record all of them.

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
        self.survived: Raised | None = None
        """The first exception that the network recovered from since the caller set this to None."""
        self._keep(ring, failed, b"")

    def _keep(self, ring: int, failed: Callable[[Failure], None] | None, state: bytes | None) -> None:
        """Begin to keep the last inputs; `state` is as in `Beginning`."""
        self._failed = failed
        self._told = 0
        """Number of failures that were reported to the driver."""
        self._writer: Writer | None = None
        self._interrupted = False
        origin = None if state is None else (self._context.config, self._context.now, state)
        self._ring = Ring(ring, origin, self._context.now) if ring else None
        self._notes = notes = Notes()
        if self._ring is not None:
            notes.entries = self._ring.segments[-1].entries
            notes.max_size, notes.max_entries = self._ring.segment_size, self._ring.segment_entries
        self._choose_note()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in _NOT_STATE}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._keep(RING, None, None)

    def load_state(self, state: dict[str, object]) -> None:
        """Take the state of a recorded network, for a replay.

        Raises:
            ValueError: it is that of another version.
        """
        if state.keys() != self.__getstate__().keys():
            raise ValueError("the saved state is that of another version of sansnet_core")
        super().__setstate__(state)

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
            writer, self._writer = self._writer, None
            writer.flush()
        if write is not None:
            from sansnet_core.recording.format import Writer

            fresh = self._ring is not None and len(self._ring.segments) == 1 and not self._notes.entries
            self._interrupted = False
            self._writer = Writer(write, self._beginning(b"" if fresh and self._is_new() else self._save(None)))
        self._choose_note()

    def _is_new(self) -> bool:
        origin = self._ring.segments[0].origin if self._ring else None
        return origin is not None and origin[2] == b""

    def _choose_note(self) -> None:
        notes = self._notes
        notes.with_outputs = self._writer is not None
        if self._writer is not None:
            notes.note = self._note_and_write
        else:
            notes.note = notes.entries.append if self._ring else note_nothing

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
        version = f"{__version__} ({VARIANT})"
        return Beginning(version, config or context.config, self._secret, now, self._epoch, state)

    def _save(self, limit: int | None) -> bytes:
        """The state of the network; see `snapshot.save`. The configuration and what is made of it are left out."""
        context = self._context
        known = (context.config, context.policy, *context.config.rules)
        return save(self, self.__getstate__(), known, limit)

    def _note_and_write(self, entry: Entry) -> None:
        if self._ring is not None:
            self._notes.entries.append(entry)
        self._write_entry(entry)

    def note_outputs(self, entry: Entry) -> None:
        """Note a call whose last part is a list of outputs: their number in memory, and all in the recording."""
        if self._ring is not None:
            self._notes.entries.append((*entry[:-1], len(entry[-1])))
        self._write_entry(entry)

    def _write_entry(self, entry: Entry) -> None:
        """Write a call. If memory is too short, it is left out, and the state follows as soon as possible."""
        if self._writer is not None:
            try:
                if self._interrupted:
                    self._writer.checkpoint(self._save(None), self._context.config)
                    self._interrupted = False
                else:
                    self._writer.call(entry)
            except MemoryError:
                self._interrupted = True
            except Exception as error:  # a mistake here must cost the network nothing
                self.record(None)
                if self._failed is not None:
                    from sansnet_core.recording.failure import Failure

                    self._failed(Failure(error, "the recording, which ends here", None, b"", True))

    def _note_raised(self, entry: Entry, ending: int) -> None:
        """Note a call that raised an exception. If its effect is not known, the state follows."""
        if type(entry[-1]) is list:
            self.note_outputs(entry)
        else:
            self._notes.note(entry)
        if ending == Ending.INTERRUPTED:
            self._interrupted = True
            if self._ring is not None:
                self._ring.interrupt()
                self._notes.size = self._notes.max_size + 1  # so that the next segment begins soon

    def begin_segment(self) -> None:
        """Begin another segment of the last inputs, since the present one is full."""
        assert self._ring is not None
        notes = self._notes
        notes.entries = self._ring.begin_segment(self._context.now, notes.size, self._checkpoint).entries
        notes.size = 0
        self._choose_note()

    def _checkpoint(self, limit: int) -> tuple[Any, int] | None:
        if len(self._tcp) * _LEAST_PER_FLOW > limit:
            return None  # it would be too large: do not spend milliseconds to find that out
        try:
            state = self._save(limit)
        except Exception:  # too large; or a state that cannot be saved, which must not end the network
            return None
        return (self._context.config, self._context.now, state), len(state)
