"""What people see of a guest's packets: a capture, and a line for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from sansnet_cli import report
from sansnet_cli.options import NetworkOptions
from sansnet_core import Frame
from sansnet_core.summary import summary
from sansnet_core.wire import virtio_net
from sansnet_trio.capture import CapturedLink, ObservedLink
from sansnet_trio.links import Link

__all__ = ["observed"]


def observed(link: Link, options: NetworkOptions, capture: BinaryIO | None) -> Link:
    """A link whose frames are seen as the options want it; `capture` is the open file, if there is one."""
    if options.trace:
        link = _TracedLink(link)
    return link if capture is None else CapturedLink(link, capture)


class _TracedLink(ObservedLink):
    def observe(self, frames: Iterable[Frame], *, up: bool) -> None:
        start = virtio_net.HEADER_SIZE if self.config.vnet_header else 0
        for frame in frames:
            data = b"".join(frame) if isinstance(frame, tuple) else frame
            report.trace(f"{'guest' if up else 'host'}: {summary(memoryview(data)[start:])}")
