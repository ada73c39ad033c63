"""What people see of a guest's packets: a capture, and a line for each."""

from __future__ import annotations

from typing import BinaryIO

from sansnet_cli.options import NetworkOptions
from sansnet_trio.links import Link

__all__ = ["observed"]


def observed(link: Link, options: NetworkOptions, capture: BinaryIO | None) -> Link:
    """A link whose frames are seen as the options want it; `capture` is the open file, if there is one."""
    if options.trace:
        from sansnet_cli.tracing import TracedLink

        link = TracedLink(link)
    if capture is not None:
        from sansnet_trio.capture import CapturedLink

        link = CapturedLink(link, capture)
    return link
