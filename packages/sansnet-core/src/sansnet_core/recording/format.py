"""The file format of recordings: a line of text, and blocks with checksums.

docs/recording.md describes it.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

from sansnet_core.config import NetworkConfig
from sansnet_core.errors import SansnetError
from sansnet_core.recording.calls import ARGUMENTS, METHODS, OUTPUTS, RETURNING, Call, Ending, Entry, Raised
from sansnet_core.recording.values import Reader, printable, put, put_frames, put_orders

__all__ = [
    "Beginning",
    "Checkpoint",
    "Counted",
    "Part",
    "Position",
    "RecordingError",
    "Writer",
    "expected",
    "is_time",
    "parts",
]

VERSION: Final = 1
MAGIC: Final = b"sansnet recording "
_BLOCK: Final = Struct("<II")
"""Bytes of the block, and their CRC-32."""
_BLOCK_SIZE: Final = 1 << 16
"""Bytes of entries after which a block ends."""
_MAX_BLOCK: Final = 1 << 31

_BEGINNING: Final = 0x60
_TIME: Final = 0x61
_CHECKPOINT: Final = 0x62
_FAR: Final = 1e15
"""Seconds: no clock is so far from its beginning."""
_RAISED: Final = 0x40
"""Added to the number of a method if it raised an exception."""
_COUNTED: Final = 0x80
"""Added to the number of a method that returns outputs if only their number is written."""


class RecordingError(SansnetError, ValueError):
    """A recording is damaged, cut off, or of a kind that cannot be replayed.

    Args:
        message: a sentence.
        position: where, in bytes from the beginning; everything before was used. Also an attribute.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(printable(message))  # it may have texts of the recording
        self.position = position

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.position)


class Counted(NamedTuple):
    """The number of outputs, if nothing else of them was kept."""

    number: int


class Beginning(NamedTuple):
    """The first part of a recording.

    Attributes:
        version: of sansnet_core, a space, and its variant in parentheses (see `sansnet_core.variant`). Old recordings
            do not have the variant.
        config: the configuration at that time.
        secret: see `Network`.
        now: the time of the last input before it.
        epoch: see `RecordedNetwork`.
        state: the state of the network (`snapshot.save`); empty for a new network; None if it is not known, so that
            the recording cannot be replayed.
    """

    version: str
    config: Any
    secret: bytes
    now: Any
    epoch: float
    state: bytes | None


class Checkpoint(NamedTuple):
    """The state of the network after a call that was interrupted, and its configuration."""

    config: Any
    state: bytes


class Position(NamedTuple):
    """Where a part is: the block begins at `block` bytes of the file, the part at `offset` bytes of the block."""

    block: int
    offset: int


class Part(NamedTuple):
    """A part of a recording.

    Attributes:
        position: where it is.
        entry: a call, as in `calls`; or a `Beginning` or a `Checkpoint`.
        outcome: what the call returned or raised, encoded; two calls with equal ones did the same.
    """

    position: Position
    entry: Entry | Beginning | Checkpoint
    outcome: bytes = b""


class Writer:
    """Writes a recording.

    Args:
        write: called with its parts.
        beginning: the first part.

    Attributes:
        written: bytes so far, with those that are not written yet.
    """

    def __init__(self, write: Callable[[bytes], object], beginning: Beginning) -> None:
        self._write = write
        self._out = bytearray(_BLOCK.size)  # the entries of the block, behind the place for its header
        self._now: object = None
        self._passed = 0
        self._put(b"%b%d\n" % (MAGIC, VERSION))
        self._out.append(_BEGINNING)
        for value in beginning:
            put(self._out, value)
        self._mark(beginning.now)
        self.flush()

    @property
    def written(self) -> int:
        """See above."""
        return self._passed + len(self._out) - _BLOCK.size

    def call(self, entry: Entry) -> None:
        """Write a call; the result of one that takes outputs is a list of them, or their number."""
        out, start = self._out, len(self._out)
        try:
            self._put_call(out, entry)
        except BaseException:
            del out[start:]
            self._now = None
            raise
        if len(out) > _BLOCK_SIZE:
            self.flush()

    def _put_call(self, out: bytearray, entry: Entry) -> None:
        number, now = entry[0], entry[1]
        # Not by identity, since compiled code makes a new number for each call
        if now is not None and now != self._now:
            self._mark(now)
        raised = number < 0
        number = abs(number)
        counted = number in OUTPUTS and type(entry[-1]) is int
        out.append(number | _RAISED * raised | _COUNTED * counted)
        end = 2 + len(ARGUMENTS[number])
        for value in entry[2:end]:
            put(out, value)
        _put_outcome(out, number, entry[end:])

    def checkpoint(self, state: bytes, config: NetworkConfig) -> None:
        """Write the state after a call that was interrupted, and the configuration."""
        self.flush()
        out = bytearray(_BLOCK.size)
        out.append(_CHECKPOINT)
        put(out, config)
        put(out, state)
        self._out = out
        self._now = None  # the block with the last time may be lost
        self.flush()

    def flush(self) -> None:
        """Write the entries that wait for the end of their block."""
        out = self._out
        if len(out) > _BLOCK.size:
            self._out = bytearray(_BLOCK.size)
            with memoryview(out) as block:
                entries = block[_BLOCK.size :]
                _BLOCK.pack_into(out, 0, len(entries), crc32(entries))
            self._put(bytes(out))  # at once: a full disk gets all of it or nothing

    def _mark(self, now: object) -> None:
        self._now = now
        self._out.append(_TIME)
        put(self._out, now)

    def _put(self, data: bytes) -> None:
        self._passed += len(data)
        self._write(data)


def _put_outcome(out: bytearray, number: int, outcome: tuple[Any, ...]) -> None:
    for value in outcome:
        if type(value) is not list:
            put(out, value)
        elif number == Call.TAKE_FRAMES:
            put_frames(out, value)
        elif number == Call.TAKE_ORDERS:
            put_orders(out, value)
        else:
            put(out, value)


def expected(number: int, outcome: tuple[Any, ...]) -> bytes:
    """The encoding of what a call returned or raised; see `Part`."""
    out = bytearray()
    _put_outcome(out, number, outcome)
    return bytes(out)


def parts(data: Iterable[bytes]) -> Iterator[Part]:
    """Read a recording.

    Args:
        data: the recording in pieces.

    Raises:
        RecordingError: it is damaged or cut off; all parts before that are given first.
    """
    now: object = None
    for start, block in _blocks(data):
        reader = Reader(block)
        while reader.position < len(block):
            at = Position(start, reader.position)
            try:
                kind = reader.byte()
                if kind == _TIME:
                    now = reader.value()
                    continue
                yield _part(reader, at, kind, now)
            except ValueError as wrong:
                place = start + _BLOCK.size + at.offset
                raise RecordingError(
                    f"the recording has something that this version does not know, at byte {place}: {wrong}", place
                ) from None


def _part(reader: Reader, at: Position, kind: int, now: object) -> Part:
    if kind == _BEGINNING:
        return Part(at, _beginning(*[reader.value() for _ in Beginning._fields]))
    if kind == _CHECKPOINT:
        return Part(at, Checkpoint(reader.value(), _expect_bytes(reader.value())))
    number = kind & ~(_RAISED | _COUNTED)
    if number not in METHODS:
        raise ValueError(f"there is no input number {number}")
    arguments = [reader.value() for _ in ARGUMENTS[number]]
    start = reader.position
    results: list[Any] = []
    if kind & _RAISED:
        results.append(_raised(reader.value()))
    if number in RETURNING and (not results or results[0].ending == Ending.RECOVERED):
        results.append(reader.value())
    if kind & _COUNTED and results:
        results[-1] = Counted(results[-1])
    sign = -1 if kind & _RAISED else 1
    time = None if number in _TIMELESS else now
    return Part(at, (sign * number, time, *arguments, *results), reader.data[start : reader.position])


_TIMELESS: Final = OUTPUTS | {Call.RECEIVE_BUDGET, Call.REPORT_NOTICES}
"""Methods without a time."""


def _beginning(version: Any, config: Any, secret: Any, now: Any, epoch: Any, state: Any) -> Beginning:
    if not (
        isinstance(version, str)
        and version.isprintable()
        and isinstance(config, NetworkConfig)
        and isinstance(secret, bytes)
        and is_time(now)
        and is_time(epoch)
        and isinstance(state, bytes | None)
    ):
        raise ValueError("the beginning has wrong values")
    return Beginning(version, config, secret, now, epoch, state)


def is_time(value: object) -> bool:
    """Whether a value is a time in seconds. A driver may have given something else by mistake."""
    return isinstance(value, int | float) and -_FAR < value < _FAR


def _raised(value: Any) -> Raised:
    match value:
        case (int(ending), str(error), str(text)):
            return Raised(ending, printable(error), "\n".join(map(printable, text.split("\n"))))
    raise ValueError("an exception is missing")


def _expect_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("the state is missing")
    return value


def _blocks(data: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The blocks, each with its place."""
    pieces = iter(data)
    rest = bytearray()
    line = _line(pieces, rest)
    if not line:
        raise RecordingError("the file is empty; a recording begins when a guest comes", 0)
    if not line.startswith(MAGIC):
        raise RecordingError("this is no recording of sansnet; recordings are made with --record", 0)
    if line != b"%b%d\n" % (MAGIC, VERSION):
        version = line[len(MAGIC) :].strip().decode(errors="replace")
        raise RecordingError(
            f"the recording has format {version:.20}, and this version of sansnet reads format {VERSION}", len(MAGIC)
        )
    start = len(line)
    while _fill(pieces, rest, 1):
        if not _fill(pieces, rest, _BLOCK.size):
            raise _cut_off(start)
        size, checksum = _BLOCK.unpack_from(rest)
        if size > _MAX_BLOCK:
            raise _damaged(start)
        if not _fill(pieces, rest, _BLOCK.size + size):
            raise _cut_off(start)
        block = bytes(memoryview(rest)[_BLOCK.size : _BLOCK.size + size])
        if crc32(block) != checksum:
            raise _damaged(start)
        del rest[: _BLOCK.size + size]
        yield start, block
        start += _BLOCK.size + size


def _line(pieces: Iterator[bytes], rest: bytearray) -> bytes:
    """The first line."""
    longest = len(MAGIC) + 20
    while b"\n" not in rest[:longest] and len(rest) < longest and _fill(pieces, rest, len(rest) + 1):
        pass
    line, newline, _ = bytes(rest[:longest]).partition(b"\n")
    del rest[: len(line) + len(newline)]
    return line + newline


def _fill(pieces: Iterator[bytes], rest: bytearray, size: int) -> bool:
    """Read until there are `size` bytes; gives whether there are."""
    while len(rest) < size:
        piece = next(pieces, None)
        if piece is None:
            return False
        rest += piece
    return True


def _cut_off(start: int) -> RecordingError:
    return RecordingError(f"the recording is cut off: its last block, at byte {start}, is not complete", start)


def _damaged(start: int) -> RecordingError:
    return RecordingError(f"the recording is damaged: the block at byte {start} has another checksum", start)
