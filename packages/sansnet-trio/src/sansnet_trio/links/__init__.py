"""Where the guest's frames come from and go to."""

from __future__ import annotations

from collections.abc import Sequence
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from sansnet_core import SansnetError

if TYPE_CHECKING:
    from sansnet_core import Buffer, Frame, LinkConfig

__all__ = ["Link", "LinkClosed", "MtuLimits", "ReadableLink", "want"]


class LinkClosed(SansnetError):
    """The guest's end is gone: its namespace or machine ended, or its interface was deleted."""


class MtuLimits(NamedTuple):
    """Which MTUs a kind of link can have; each module of a link has its own as `MTU`.

    Attributes:
        default: where nobody asks for another one.
        largest: for which its frames have room, and the guest's interface as well.
    """

    default: int
    largest: int


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


@runtime_checkable
class ReadableLink(Link, Protocol):
    """A link whose descriptor is never writable: it is readable for room, too, if it was told that room is wanted."""

    def want(self, *, frames: bool, room: bool) -> int:
        """Say what is waited for: frames from the guest, room for some to it.

        Returns:
            What to ask epoll for.
        """


def want(link: Link, *, frames: bool, room: bool) -> int:
    """What to ask epoll for, of any link, if frames from the guest or room for some to it are waited for."""
    if isinstance(link, ReadableLink):
        return link.want(frames=frames, room=room)
    return (EPOLLIN if frames else 0) | (EPOLLOUT if room else 0)
