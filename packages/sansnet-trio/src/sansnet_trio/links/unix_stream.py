"""A virtual machine's Ethernet over a connected UNIX stream socket: QEMU's `-netdev stream`, without offloads.

Theory of operation. One system call reads or writes many frames. A frame that the socket took only a part of is not
done with: the caller gives it again, first of all, and the link remembers how far it got. So nothing is buffered here
on the way to the guest, and a guest that does not read makes the caller wait, as the `Link` contract has it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from sansnet_core import Frame, LinkConfig
from sansnet_core.link.stream import LENGTH_SIZE, MAX_FRAME_SIZE, FrameDecoder, FrameLengthError, encode
from sansnet_core.orders import Buffer
from sansnet_core.wire import ethernet
from sansnet_trio.links import LinkClosed, MtuLimits

__all__ = ["MTU", "UnixStream"]

MTU: Final = MtuLimits(default=65520, largest=MAX_FRAME_SIZE - ethernet.HEADER_SIZE)
"""Without offloads the MTU is the size of a unit: so it is as large as for a tap, whose guests may be behind it."""

_READ_BYTES: Final = 256 << 10
"""Of one `recv`: about what a socket with the kernel's default limits holds."""

_WRITE_FRAMES: Final = 256
"""Of one `sendmsg`, which takes 1024 pieces (IOV_MAX); a frame has 3 at most."""

_BUFFER: Final = 4 << 20
"""Asked for in each direction. The kernel gives less where net.core.wmem_max and rmem_max say so."""


class UnixStream:
    """A link over a connected socket.

    Args:
        connection: the socket; closed by `close`.
        mtu: of the guest, in bytes.
    """

    def __init__(self, connection: socket.socket, *, mtu: int = MTU.default) -> None:
        self.config = LinkConfig(mtu=mtu, max_frame_size=MAX_FRAME_SIZE)
        self.dropped = 0
        """Stays 0: a stream takes every frame, or ends."""
        self._socket = connection
        self._decoder = FrameDecoder()
        self._written = 0
        """Bytes of the first frame not done with, its length included, that the socket has taken."""
        connection.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):  # a socket of another kind may not have it, and works all the same
                connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def fileno(self) -> int:
        """See `Link`."""
        return self._socket.fileno()

    def read_frames(self, limit: int) -> list[bytes]:
        """See `Link`.

        Raises:
            LinkClosed: the guest has closed the connection, or sent what is no frame.
        """
        try:
            frames = self._decoder.take_frames(limit)
            if not frames and (data := self._receive()):
                self._decoder.receive(data)
                frames = self._decoder.take_frames(limit)
        except FrameLengthError as error:
            raise LinkClosed(f"{error}: the guest does not speak the protocol of `-netdev stream`") from error
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        done = 0
        while done < len(frames):
            batch = frames[done : done + _WRITE_FRAMES]
            pieces = encode(batch)
            if self._written:
                pieces = _without(pieces, self._written)
            left = self._send(pieces) + self._written
            for frame in batch:
                size = LENGTH_SIZE + (len(frame[0]) + len(frame[1]) if isinstance(frame, tuple) else len(frame))
                if left < size:
                    self._written = left
                    return done
                left -= size
                done += 1
            self._written = 0
        return done

    def close(self) -> None:
        """See `Link`."""
        self._socket.close()

    def _receive(self) -> bytes:
        """Some bytes; none if there are none now."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LinkClosed("the guest has closed the connection") from error
        if not data:
            raise LinkClosed("the guest has closed the connection")
        return data

    def _send(self, pieces: list[Buffer]) -> int:
        """How many bytes the socket took."""
        try:
            return self._socket.sendmsg(pieces, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except (ConnectionResetError, BrokenPipeError) as error:
            raise LinkClosed("the guest has closed the connection") from error


def _without(pieces: list[Buffer], count: int) -> list[Buffer]:
    """What is left of some pieces without their first bytes."""
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[number + 1 :]]
        count -= len(piece)
    return []
