"""Ethernet frames in a byte stream, as QEMU's `-netdev stream` has them: each behind its length, 4 bytes, big-endian.

Theory of operation. `FrameDecoder` holds what came and was not yet taken: frames that exceeded the reader's limit, and
the beginning of one at the end. Which pieces the stream came in makes no difference. A length out of range means that
the two ends do not agree where a frame begins, which nothing in the stream can mend: the connection has to end.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from sansnet_core.errors import SansnetError
from sansnet_core.orders import Buffer, Frame
from sansnet_core.wire import ethernet

__all__ = ["MAX_FRAME_SIZE", "LENGTH_SIZE", "FrameDecoder", "FrameLengthError", "encode"]

MAX_FRAME_SIZE: Final = 65535 + ethernet.HEADER_SIZE
"""Most bytes of one frame: the largest IP packet and its Ethernet header. QEMU itself would take up to 69632."""

_LENGTH: Final = Struct("!I")
LENGTH_SIZE: Final = _LENGTH.size


class FrameLengthError(SansnetError):
    """A frame has a length that none can have.

    Args:
        length: in bytes.
    """

    def __init__(self, length: int) -> None:
        super().__init__(
            f"a frame of {length} bytes was announced, where {ethernet.HEADER_SIZE} to {MAX_FRAME_SIZE} are possible"
        )
        self.length = length


class FrameDecoder:
    """Cuts a byte stream into frames.

    It holds less than one frame more than what `receive` was given since `take_frames` last gave less than its limit.
    """

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0
        """What is before it was taken."""

    def receive(self, data: bytes) -> None:
        """Bytes came. Then take the frames."""
        self._data = self._data[self._start :] + data if self._start < len(self._data) else data
        self._start = 0

    def take_frames(self, limit: int) -> list[bytes]:
        """The next frames, at most `limit`; fewer if no more are complete.

        Raises:
            FrameLengthError: the stream is of no use any more; whole frames before that are lost with it.
        """
        data, position = self._data, self._start
        last = len(data) - LENGTH_SIZE
        frames: list[bytes] = []
        while position <= last and len(frames) < limit:
            [length] = _LENGTH.unpack_from(data, position)
            if not ethernet.HEADER_SIZE <= length <= MAX_FRAME_SIZE:
                raise FrameLengthError(length)
            begin = position + LENGTH_SIZE
            position = begin + length
            if position > len(data):
                position = begin - LENGTH_SIZE
                break
            frames.append(data[begin:position])
        self._start = position
        return frames


def encode(frames: Iterable[Frame]) -> list[Buffer]:
    """What to write for some frames, in pieces, without copying any."""
    pieces: list[Buffer] = []
    for frame in frames:
        if isinstance(frame, tuple):
            headers, payload = frame
            pieces += (_LENGTH.pack(len(headers) + len(payload)), headers, payload)
        else:
            pieces += (_LENGTH.pack(len(frame)), frame)
    return pieces
