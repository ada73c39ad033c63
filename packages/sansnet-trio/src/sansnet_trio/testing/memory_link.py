"""A link in memory, whose other end is in the same program.

Theory of operation. The driver waits for a descriptor, so the link has an eventfd (eventfd(2)). It is readable while
there is something to do for the driver: frames that it wants, room that it waits for, or the end of the link. Since it
is an ordinary descriptor, a clock that jumps (`trio.testing.MockClock`) does not jump while it is readable.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from select import EPOLLIN
from typing import TYPE_CHECKING, Final

from sansnet_trio.links import LinkClosed
from sansnet_trio.linux.descriptors import Uncopyable

if TYPE_CHECKING:
    from sansnet_core import Buffer, Frame, LinkConfig

__all__ = ["MemoryLink"]

_ROOM: Final = 1000
"""Frames: the length of the transmit queue of Linux's taps (TUN_READQ_SIZE is 500, its txqueuelen 1000)."""


class MemoryLink(Uncopyable):
    """A link whose other end is in the same program. It needs no privileges and no device.

    The driver has one end, by the methods of `Link`. The program has the other end, by `send`, `take` and `hang_up`.

    Args:
        config: the abilities of the link.
        room: most frames that wait for `take`; a driver keeps further ones until there is room.

    Attributes:
        config: the abilities of the link.
        dropped: 0; no frame is ever dropped here.
        on_frames: called when there are frames to `take`, where there was none before, and when the driver closes the
            link; None for nothing.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self, config: LinkConfig, *, room: int = _ROOM) -> None:
        self.config: Final = config
        self.dropped: Final = 0
        self.on_frames: Callable[[], None] | None = None
        self._room = room
        self._from_guest: deque[bytes] = deque()
        self._to_guest: list[bytes] = []
        self._wanted = (True, False)
        self._hung_up = False
        self._readable = False
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    # The other end

    @property
    def closed(self) -> bool:
        """The driver closed the link."""
        return self._fd < 0

    @property
    def room(self) -> int:
        """Most frames that wait for `take`. At 0 the link takes no frame, as a guest that does not read."""
        return self._room

    @room.setter
    def room(self, frames: int) -> None:
        self._room = frames
        self._update()

    @property
    def waiting(self) -> int:
        """How many frames wait for the driver to read them."""
        return len(self._from_guest)

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames to the network, as the guest's interface does.

        Args:
            frames: Ethernet frames; each begins with a `virtio_net_hdr` if the link has them.
        """
        self._from_guest.extend(frames)
        self._update()

    def take(self) -> list[bytes]:
        """Take all frames that the network sent."""
        frames, self._to_guest = self._to_guest, []
        if frames:
            self._update()
        return frames

    def hang_up(self) -> None:
        """End the link, as if the guest's interface was deleted: the driver raises `LinkClosed`."""
        self._hung_up = True
        self._update()

    # The driver's end

    def fileno(self) -> int:
        """The descriptor; see `ReadableLink`."""
        return self._fd

    def want(self, *, frames: bool, room: bool) -> int:
        """Set the events that the driver waits for; see `ReadableLink`."""
        self._wanted = (frames, room)
        self._update()
        return EPOLLIN

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        """Take frames that the guest sent, at most `limit`.

        Raises:
            LinkClosed: `hang_up` was called, and there is no more frame.
        """
        queue = self._from_guest
        if self._hung_up and not queue:
            raise LinkClosed("the guest's end of the link in memory was closed")
        frames = [queue.popleft() for _ in range(min(limit, len(queue)))]
        self._update()
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """Send frames to the guest as far as there is room.

        Returns:
            How many frames were taken.

        Raises:
            LinkClosed: `hang_up` was called.
        """
        if self._hung_up:
            raise LinkClosed("the guest's end of the link in memory was closed")
        room = max(0, self._room - len(self._to_guest))
        taken = [b"".join(each) if isinstance(each, tuple) else bytes(each) for each in frames[:room]]
        first = not self._to_guest
        self._to_guest += taken
        if first and taken and self.on_frames is not None:
            self.on_frames()
        return len(taken)

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self.on_frames is not None:
                self.on_frames()

    def _update(self) -> None:
        """Make the descriptor readable, or not."""
        frames, room = self._wanted
        readable = self._hung_up or (frames and bool(self._from_guest)) or (room and len(self._to_guest) < self._room)
        if self._fd >= 0 and readable != self._readable:
            self._readable = readable
            if readable:
                os.eventfd_write(self._fd, 1)
            else:
                os.eventfd_read(self._fd)
