"""A link some of whose frames have been read already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from select import EPOLLIN, EPOLLOUT, epoll

from sansnet_core.config import LinkConfig
from sansnet_core.orders import Buffer, Frame
from sansnet_trio.links import Link
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["UnreadLink"]


class UnreadLink(Uncopyable):
    """Gives frames that were read from another link, and then passes all on to that link. A `ReadableLink`.

    Args:
        link: the other link, whose descriptor is readable and writable like that of a tap. `close` closes it.
        frames: the frames that were read.
    """

    def __init__(self, link: Link, frames: Sequence[Buffer]) -> None:
        self._link = link
        self._frames = list(frames)
        self._unread = os.eventfd(bool(frames))  # readable until the frames have been given
        self._events = epoll()
        self._events.register(self._unread, EPOLLIN)
        self._events.register(link.fileno(), EPOLLIN)

    @property
    def config(self) -> LinkConfig:
        """See `Link`."""
        return self._link.config

    @property
    def dropped(self) -> int:
        """See `Link`."""
        return self._link.dropped

    def fileno(self) -> int:
        """See `Link`."""
        return self._events.fileno()

    def want(self, *, frames: bool, room: bool) -> int:
        """See `ReadableLink`."""
        self._events.modify(self._unread, EPOLLIN if frames else 0)
        self._events.modify(self._link.fileno(), (EPOLLIN if frames else 0) | (EPOLLOUT if room else 0))
        return EPOLLIN

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        """See `Link`."""
        if not self._frames:
            return self._link.read_frames(limit)
        frames, self._frames = self._frames[:limit], self._frames[limit:]
        if not self._frames:
            os.eventfd_read(self._unread)
        return frames

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """See `Link`."""
        return self._link.write_frames(frames)

    def close(self) -> None:
        """See `Link`."""
        if not self._events.closed:
            self._events.close()
            os.close(self._unread)
        self._link.close()
