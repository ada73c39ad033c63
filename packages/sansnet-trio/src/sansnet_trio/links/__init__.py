"""Where the guest's frames come from and go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sansnet_core import Buffer, Frame, LinkConfig, SansnetError

__all__ = ["Link", "LinkClosed"]


class LinkClosed(SansnetError):
    """The guest's end is gone: its namespace or machine ended, or its interface was deleted."""


class Link(Protocol):
    """One guest's Ethernet, as a descriptor that an epoll set can wait for. Nothing here blocks."""

    @property
    def config(self) -> LinkConfig:
        """What the link can do; what `NetworkConfig.link` should be."""

    @property
    def dropped(self) -> int:
        """Frames to the guest that the link refused for good, for example while the interface was down."""

    def fileno(self) -> int:
        """The descriptor: readable when there are frames, writable when there is room for some."""

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        """Take what the guest sent: at most `limit` frames. Empty if there is nothing.

        After exactly `limit` there may be more, even if the descriptor does not say so.

        Raises:
            LinkClosed: nothing will ever come again.
        """

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """Give the guest frames, in order, until there is no room.

        Returns:
            How many of them are done with, whether given or dropped. The caller keeps the others.

        Raises:
            LinkClosed: nothing will ever be taken again.
        """

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
