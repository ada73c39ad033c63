"""News: what the broker tells the serving process."""

from __future__ import annotations

import socket
from typing import NamedTuple, TypeAlias

from sansnet_trio.broker.jobs import Finished
from sansnet_trio.guest.child import Channel
from sansnet_trio.hostinfo import HostInfo

__all__ = ["Gone", "HostChanged", "News", "NewsSource", "Trouble"]


class HostChanged(NamedTuple):
    """The host's network may have changed.

    Attributes:
        host: the host's network now.
        files: whether files that the guest's own files depend on may have changed, too.
    """

    host: HostInfo
    files: bool


class Trouble(NamedTuple):
    """The host's network cannot be read at the moment.

    Attributes:
        reason: the reason.
    """

    reason: str


class Gone(NamedTuple):
    """The name of the guest's namespace no longer leads to it."""


News: TypeAlias = HostChanged | Trouble | Gone


class NewsSource:
    """The broker's end of the channel for news.

    Args:
        channel: a socket of SOCK_SEQPACKET. The serving process sends a byte when it has followed a change of the host.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sender = Channel(channel)

    def fileno(self) -> int:
        """The descriptor of the channel."""
        return self._channel.fileno()

    def send(self, news: News) -> None:
        """Send news. There are few at a time, so this does not wait."""
        self._sender.send(news)

    def has_followed(self) -> bool:
        """Whether the serving process has followed the last change.

        Raises:
            Finished: it has ended.
        """
        try:
            data = self._channel.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            raise Finished from None
        if not data:
            raise Finished
        return True
