"""The frames of a tap: read and written one by one, as its descriptor wants them. This part of `Tap` is compiled."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sansnet_core.mypyc import mypyc_attr
from sansnet_trio.links import LinkClosed

if TYPE_CHECKING:
    from sansnet_core import Frame

__all__ = ["TapFrames"]

_READ_BYTES: Final = 1 << 20
"""Most bytes of one batch, and so most bytes that the host's sockets get before they are polled again."""

_POLLED: Final = 4
"""Frames of a batch after which a poll tells whether more wait: it costs 0.3 us, the exception of a read that finds
nothing 2 us. Most batches have a few frames; a longer one is read until there are no more."""

_GONE: Final = frozenset({errno.EBADFD, errno.EBADF, errno.EFAULT, errno.ENODEV, errno.ENXIO})
"""Errors of a tap whose interface is gone; EFAULT while the interface is being deleted (tun_ring_recv)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TapFrames:
    """Reads and writes the frames of a tap.

    Args:
        fd: the descriptor.
        size: most bytes of a frame.

    Attributes:
        fd: the descriptor; -1 when it is closed.
        dropped: see `Link`.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.dropped = 0
        self._size = size
        readable = select.poll()
        readable.register(fd, select.POLLIN)
        self._more = readable.poll

    def fileno(self) -> int:
        """See `Link`."""
        return self.fd

    def read_frames(self, limit: int) -> list[bytes]:
        """See `Link`."""
        fd, size, read, more = self.fd, self._size, os.read, self._more
        frames: list[bytes] = []
        room = _READ_BYTES
        try:
            while len(frames) < limit and room > 0:
                frame = read(fd, size)
                frames.append(frame)
                if len(frames) <= _POLLED and not more(0):
                    break
                room -= len(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _GONE:
                raise LinkClosed(f"the tap has lost its interface: {error.strerror}") from error
            raise
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        fd, write = self.fd, os.write
        done = 0
        for frame in frames:
            try:
                if isinstance(frame, tuple):
                    os.writev(fd, frame)
                else:
                    write(fd, frame)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _GONE:
                    raise LinkClosed(f"the tap has lost its interface: {error.strerror}") from error
                self.dropped += 1  # EIO: the interface is down; EINVAL, ENOMEM, ENOBUFS: this frame alone
            done += 1
        return done
