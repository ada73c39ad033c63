"""Tracing: one line on stderr, or in the log, for each frame of a guest."""

from __future__ import annotations

from collections.abc import Iterable

from sansnet_cli.output import report
from sansnet_core import Frame
from sansnet_core.summary import summary
from sansnet_core.wire import virtio_net
from sansnet_trio.links.observed import ObservedLink

__all__ = ["TracedLink"]


class TracedLink(ObservedLink):
    """A link that prints a line for each frame."""

    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        """Print a line for each frame."""
        start = virtio_net.HEADER_SIZE if self.config.vnet_header else 0
        for frame in frames:
            data = b"".join(frame) if isinstance(frame, tuple) else frame
            report.trace(f"{'guest' if up else 'host'}: {summary(memoryview(data)[start:])}")
