"""Links carry Ethernet frames between a guest and its network. This is their interface; each kind has a module."""

from __future__ import annotations

from collections.abc import Sequence
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sansnet_core.errors import SansnetError, UsageError
from sansnet_core.records import Record

if TYPE_CHECKING:
    from sansnet_core import Buffer, Frame, LinkConfig

__all__ = ["Link", "LinkClosed", "MtuLimits", "ReadableLink", "expect_link", "want"]


class LinkClosed(SansnetError):
    """The guest's end of the link is gone: its namespace or machine ended, or its interface was deleted."""


def expect_link(link: object) -> None:
    """Check an argument.

    Raises:
        UsageError: it is no link.
    """
    if not hasattr(link, "read_frames"):
        raise UsageError(f"link: {link!r:.100} is not a link; give a Tap, UnixStream or VhostUserLink")


class MtuLimits(Record):
    """The MTUs that a kind of link can have, in bytes; the constant `MTU` in the module of each kind.

    Attributes:
        default: the MTU if none is configured.
        largest: the largest MTU that the link's frames and the guest's interface allow.
    """

    default: int
    largest: int


class Link(Protocol):
    """The Ethernet of one guest, with a descriptor that an epoll set can wait for. No method blocks."""

    @property
    def config(self) -> LinkConfig:
        """The abilities of the link; use it as `NetworkConfig.link`."""

    @property
    def dropped(self) -> int:
        """Number of frames to the guest that the link dropped, for example because the interface was down."""

    def fileno(self) -> int:
        """The descriptor. It is readable when there are frames, and writable when there is room for frames."""

    def read_frames(self, limit: int) -> Sequence[Buffer]:
        """Take frames that the guest sent, at most `limit`; an empty sequence if there are none.

        After exactly `limit` frames there may be more, even if the descriptor is not readable.

        Raises:
            LinkClosed: no frame will ever arrive again.
        """

    def write_frames(self, frames: Sequence[Frame]) -> int:
        """Send frames to the guest, in sequence, until there is no room.

        Returns:
            How many frames were handled, that is sent or dropped. The caller keeps the others.

        Raises:
            LinkClosed: no frame will ever be accepted again.
        """

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""


@runtime_checkable
class ReadableLink(Link, Protocol):
    """A link whose descriptor is never writable: while the driver waits for room, it is readable when there is room."""

    def want(self, *, frames: bool, room: bool) -> int:
        """Set the events that the driver waits for: frames from the guest, room for frames to it.

        Returns:
            The events to ask epoll for.
        """


def want(link: Link, *, frames: bool, room: bool) -> int:
    """The events to ask epoll for, to wait for frames from the guest or for room on any kind of link."""
    if isinstance(link, ReadableLink):
        return link.want(frames=frames, room=room)
    return (EPOLLIN if frames else 0) | (EPOLLOUT if room else 0)
