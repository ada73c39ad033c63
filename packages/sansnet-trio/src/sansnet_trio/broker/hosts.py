"""The job that watches the host's network, and reads it again after changes."""

from __future__ import annotations

import math
import socket
from collections.abc import Collection

from sansnet_core import SansnetError
from sansnet_trio.broker.news import HostChanged, NewsSource, Trouble
from sansnet_trio.host_watch import HostWatch
from sansnet_trio.hostinfo import HostInfo, read_resolvers
from sansnet_trio.plan.host import read_again
from sansnet_trio.plan.options import NetworkOptions

__all__ = ["HostJob"]


class HostJob:
    """Watches the host's network. After a change it goes on when the serving process has followed. See `Job`.

    Args:
        options: name the interfaces of the host.
        host: the host's network as it was read last.
        files: the files to watch.
        changes: a socket from `rtnetlink.subscribe`, made before `host` was read; None makes one now.
        news: gets the changes.
    """

    def __init__(
        self,
        options: NetworkOptions,
        host: HostInfo,
        files: Collection[str],
        changes: socket.socket | None,
        news: NewsSource,
    ) -> None:
        self._options = options
        self._host = host
        self._files = files
        self._changes = changes
        self._news = news
        self._watch: HostWatch | None = None
        self._waits = False
        """Whether the serving process has not followed the last change yet."""
        self._failed = False

    def descriptor(self) -> int | None:
        """See `Job`."""
        if self._waits:
            return self._news.fileno()
        return self._watch.fileno() if self._watch is not None and self._watch.is_listening() else None

    def due(self) -> float:
        """See `Job`."""
        if self._watch is None:
            return math.inf if self._failed else 0.0
        return math.inf if self._waits else self._watch.due()

    def run(self) -> None:
        """See `Job`."""
        if self._watch is None:
            self._begin()
        elif self._waits:
            self._waits = not self._news.has_followed()
        elif (files := self._watch.poll()) is not None:
            self._read(files=files)

    def _begin(self) -> None:
        try:
            self._watch = HostWatch(self._files, self._changes)
        except OSError as error:
            self._failed = True
            self._news.send(Trouble(str(error)))
            return
        # Changes before the watch began; `changes` has those of addresses and routes
        if self._changes is None or read_resolvers() != self._host.resolvers:
            self._read(files=True)

    def _read(self, *, files: bool) -> None:
        try:
            self._host = read_again(self._options, self._host)
        except (OSError, SansnetError) as error:  # no descriptor is left; there may be some at the next change
            self._news.send(Trouble(str(error)))
            return
        self._news.send(HostChanged(self._host, files))
        self._waits = True
