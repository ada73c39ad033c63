"""What people see of a guest's packets: a capture, and a line for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from sansnet_cli.options.records import NetworkOptions
from sansnet_trio.links import Link

if TYPE_CHECKING:
    from sansnet_trio.links.observed import CaptureFile

__all__ = ["captured", "observed"]


@contextmanager
def captured(file: BinaryIO | None) -> Iterator[CaptureFile | None]:
    """A capture in an open file, if there is one, as long as the block runs."""
    if file is None:
        yield None
        return
    from sansnet_cli.process.readiness import report_what_is_logged
    from sansnet_trio.links.observed import CaptureFile

    report_what_is_logged()
    capture = CaptureFile(file)
    try:
        yield capture
    finally:
        capture.close()


def observed(link: Link, options: NetworkOptions, capture: CaptureFile | None) -> Link:
    """A link whose frames are seen as the options want it."""
    if options.trace:
        from sansnet_cli.runtime.trace import TracedLink

        link = TracedLink(link)
    if capture is not None:
        from sansnet_trio.links.observed import CapturedLink

        link = CapturedLink(link, capture)
    return link
