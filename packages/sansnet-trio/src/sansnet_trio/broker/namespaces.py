"""The job that notices when the name of an attached namespace no longer leads to it."""

from __future__ import annotations

import math
import time

from sansnet_trio.broker.news import Gone, NewsSource
from sansnet_trio.guest.target import ExistingNamespace, NamespaceWatch

__all__ = ["NamespaceJob"]


class NamespaceJob:
    """Watches the name of a namespace. See `Job`.

    Args:
        namespace: the namespace.
        news: gets the news.
    """

    def __init__(self, namespace: ExistingNamespace, news: NewsSource) -> None:
        self._namespace = namespace
        self._news = news
        self._watch: NamespaceWatch | None = None
        self._is_gone = False
        self._due = 0.0

    def descriptor(self) -> int | None:
        """See `Job`."""
        return None if self._watch is None or self._is_gone else self._watch.descriptor

    def due(self) -> float:
        """See `Job`."""
        return math.inf if self._is_gone else self._due

    def run(self) -> None:
        """See `Job`."""
        if self._is_gone:
            return
        if self._watch is None:
            self._watch = self._namespace.watch()
        self._due = time.monotonic() + self._watch.interval
        if self._watch.is_gone():
            self._is_gone = True
            self._news.send(Gone())
