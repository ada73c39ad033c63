"""Ethernet frames in a byte stream, as in QEMU's `-netdev stream`: before each frame its length, 4 bytes, big-endian.

Theory of operation. `FrameDecoder` buffers the bytes that were received and not taken: frames beyond the reader's
limit, and an incomplete frame at the end. It makes no difference how the stream is divided into pieces. A length out of
range means that the two ends disagree where a frame begins. The stream cannot recover from that, so the connection must
end.
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
    """The stream announces a frame of an impossible length.

    Args:
        length: in bytes.
    """

    def __init__(self, length: int) -> None:
        super().__init__(
            f"a frame of {length} bytes was announced; possible are {ethernet.HEADER_SIZE} to {MAX_FRAME_SIZE}"
        )
        self.length = length


class FrameDecoder:
    """Divides a byte stream into frames.

    Memory bound: the bytes passed to `receive` since the buffer was last drained, plus less than one frame. It is
    drained when `take_frames` returns fewer frames than its limit.
    """

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data = b""
        self._start = 0
        """The bytes before this position were taken."""

    def receive(self, data: bytes) -> None:
        """Add bytes of the stream. Then take the frames."""
        self._data = self._data[self._start :] + data if self._start < len(self._data) else data
        self._start = 0

    def take_frames(self, limit: int) -> list[bytes]:
        """The next complete frames, at most `limit`.

        Raises:
            FrameLengthError: the stream cannot be used any more; the complete frames before that one are lost.
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
    """The bytes to write for some frames, in pieces; no frame is copied."""
    pieces: list[Buffer] = []
    for frame in frames:
        if isinstance(frame, tuple):
            headers, payload = frame
            pieces += (_LENGTH.pack(len(headers) + len(payload)), headers, payload)
        else:
            pieces += (_LENGTH.pack(len(frame)), frame)
    return pieces
