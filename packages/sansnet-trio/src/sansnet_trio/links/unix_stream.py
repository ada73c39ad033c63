"""A virtual machine's Ethernet over a connected UNIX stream socket: QEMU's `-netdev stream`, without offloads.

Theory of operation. One system call reads or writes many frames. If the socket took only a part of a frame, the frame
does not count as handled: the caller passes it again, as the first one, and the link remembers how much was sent. So
nothing is buffered here on the way to the guest, and a guest that does not read makes the caller wait, as `Link`
requires.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from sansnet_core import Frame, LinkConfig
from sansnet_core.errors import expect
from sansnet_core.link.stream import LENGTH_SIZE, MAX_FRAME_SIZE, FrameDecoder, FrameLengthError, encode
from sansnet_core.orders import Buffer
from sansnet_core.wire import ethernet
from sansnet_trio.links import LinkClosed, MtuLimits
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["MTU", "UnixStream"]

MTU: Final = MtuLimits(default=65520, largest=MAX_FRAME_SIZE - ethernet.HEADER_SIZE)
"""Without offloads no frame is larger than the MTU, so the default is as large as that of a tap."""

_WRITE_FRAMES: Final = 256
"""Most frames of one `sendmsg`, which takes 1024 pieces (IOV_MAX); a frame has at most 3."""

_BUFFER: Final = 4 << 20
"""Requested buffer size in each direction; net.core.wmem_max and rmem_max may limit it."""


class UnixStream(Uncopyable):
    """A link over a connected socket.

    Args:
        connection: the socket; `close` closes it.
        mtu: MTU of the guest, in bytes.
    """

    def __init__(self, connection: socket.socket, *, mtu: int = MTU.default) -> None:
        expect("connection", connection, socket.socket, "a connected UNIX stream socket")
        self.config = LinkConfig(mtu=mtu, max_frame_size=MAX_FRAME_SIZE)
        self.dropped = 0
        """Always 0: a stream takes every frame, or ends."""
        self._socket = connection
        self._decoder = FrameDecoder()
        self._written = 0
        """Bytes of the next frame, including its length field, that the socket has already taken."""
        connection.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):  # other kinds of sockets may lack the option, but still work
                connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def fileno(self) -> int:
        """See `Link`."""
        return self._socket.fileno()

    def read_frames(self, limit: int) -> list[bytes]:
        """See `Link`.

        Raises:
            LinkClosed: the guest has closed the connection, or sent data that is not a frame.
        """
        try:
            frames = self._decoder.take_frames(limit)
            if not frames and self._receive():
                frames = self._decoder.take_frames(limit)
        except FrameLengthError as error:
            raise LinkClosed(f"{error}: the guest does not use the protocol of `-netdev stream`") from error
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        done = 0
        while done < len(frames):
            batch = frames[done : done + _WRITE_FRAMES]
            pieces = encode(batch)
            if self._written:
                pieces = _without(pieces, self._written)
            sent = self._send(pieces)
            if sent == sum(map(len, pieces)):
                done += len(batch)
                self._written = 0
                continue
            left = sent + self._written
            for frame in batch:
                size = LENGTH_SIZE + (len(frame[0]) + len(frame[1]) if isinstance(frame, tuple) else len(frame))
                if left < size:
                    self._written = left
                    return done
                left -= size
                done += 1
        return done

    def close(self) -> None:
        """See `Link`."""
        self._socket.close()

    def _receive(self) -> bool:
        """Receive the bytes that have arrived; whether there are any."""
        room = self._decoder.room()
        if not room:
            return False  # frames wait to be taken
        try:
            count = self._socket.recv_into(room)
        except BlockingIOError:
            return False
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LinkClosed("the guest has closed the connection") from error
        if not count:
            raise LinkClosed("the guest has closed the connection")
        self._decoder.received(count)
        return True

    def _send(self, pieces: list[Buffer]) -> int:
        """Send as much as the socket takes; the number of bytes that it took."""
        try:
            return self._socket.sendmsg(pieces, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LinkClosed("the guest has closed the connection") from error


def _without(pieces: list[Buffer], count: int) -> list[Buffer]:
    """The pieces without their first `count` bytes."""
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[number + 1 :]]
        count -= len(piece)
    return []
