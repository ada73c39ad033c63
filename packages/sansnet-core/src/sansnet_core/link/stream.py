"""Ethernet frames in a byte stream, as in QEMU's `-netdev stream`: before each frame its length, 4 bytes, big-endian.

Theory of operation. `FrameDecoder` has one buffer, into which the driver receives (`recv_into`): it has the bytes that
were received and not taken, which are frames beyond the reader's limit, and an incomplete frame at the end. Each frame
is copied once, out of the buffer. An incomplete frame is moved only when there is little room behind it. It makes no
difference how the stream is divided into pieces. A length out of range means that the two ends disagree where a frame
begins. The stream cannot recover from that, so the connection must end.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from sansnet_core.errors import SansnetError, UsageError
from sansnet_core.orders import Buffer, Frame
from sansnet_core.wire import ethernet

__all__ = ["LENGTH_SIZE", "MAX_FRAME_SIZE", "FrameDecoder", "FrameLengthError", "encode"]

MAX_FRAME_SIZE: Final = 65535 + ethernet.HEADER_SIZE
"""Most bytes of one frame: the largest IP packet and its Ethernet header. QEMU itself would take up to 69632."""

_LENGTH: Final = Struct("!I")
LENGTH_SIZE: Final = _LENGTH.size

_READ_SIZE: Final = 256 << 10
"""Bytes: about what a socket with the kernel's default limits holds."""
_BUFFER_SIZE: Final = _READ_SIZE + 2 * MAX_FRAME_SIZE
"""So there is room for one read behind an incomplete frame, which need not be moved after each read."""


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
    """Divides a byte stream into frames: receive into `room`, report that to `received`, then take the frames.

    Memory: the buffer, which never grows.
    """

    __slots__ = ("_buffer", "_end", "_start", "_view")

    def __init__(self) -> None:
        self._buffer: Final = bytearray(_BUFFER_SIZE)
        self._view: Final = memoryview(self._buffer)
        self._start = 0
        """The bytes before this position were taken."""
        self._end = 0
        """The bytes from this position on are free."""

    def room(self) -> memoryview:
        """Where the next bytes belong: at least 256 KiB after `take_frames` returned fewer frames than its limit."""
        start, end = self._start, self._end
        if start == end:
            self._start = self._end = end = 0
        elif _BUFFER_SIZE - end < _READ_SIZE and start:
            end -= start
            # Through a copy, since the two places may overlap
            self._view[:end] = bytes(self._view[start : start + end])
            self._start, self._end = 0, end
        return self._view[end:]

    def received(self, count: int) -> None:
        """Report bytes that were received into `room`. Then take the frames.

        Raises:
            UsageError: there was less room.
        """
        if not 0 <= count <= _BUFFER_SIZE - self._end:
            raise UsageError(f"count: {count} bytes do not fit into the buffer")
        self._end += count

    def receive(self, data: Buffer) -> None:
        """Add bytes that were received elsewhere. Then take the frames.

        Raises:
            UsageError: there is less room.
        """
        room = self.room()[: len(data)]
        self.received(len(data))
        room[:] = data

    def take_frames(self, limit: int) -> list[bytes]:
        """The next complete frames, at most `limit`.

        Raises:
            FrameLengthError: the stream cannot be used any more; the complete frames before that one are lost.
        """
        view, position, end = self._view, self._start, self._end
        frames: list[bytes] = []
        while position + LENGTH_SIZE <= end and len(frames) < limit:
            [length] = _LENGTH.unpack_from(view, position)
            if not ethernet.HEADER_SIZE <= length <= MAX_FRAME_SIZE:
                raise FrameLengthError(length)
            begin = position + LENGTH_SIZE
            if begin + length > end:
                break
            position = begin + length
            frames.append(view[begin:position].tobytes())
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
