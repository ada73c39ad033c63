"""Frames of a guest for users to inspect: in a capture file, or as one line each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from sansnet_cli.options.records import CommandLineError, CommandOptions
from sansnet_trio.hostinfo import HostError
from sansnet_trio.links import Link
from sansnet_trio.linux.files import open_output

if TYPE_CHECKING:
    from sansnet_trio.links.observed import CaptureFile

__all__ = ["captured", "observed", "open_capture"]

_BUFFER: Final = 1 << 20


def open_capture(name: str | None) -> BinaryIO | None:
    """Open the file of `--pcap` for `captured`; None if the option was not given.

    A capture that is there already stays until the new one begins: what fails before that destroys nothing.

    Raises:
        CommandLineError: the name stands for stdout, and not for a file.
        HostError: the file cannot be written.
    """
    if name is None:
        return None
    if name == "-":
        raise CommandLineError("-p - cannot write to stdout, which is the command's; give -p a file or a FIFO")
    try:
        return os.fdopen(open_output(name, truncate=False), "wb", _BUFFER)
    except OSError as error:
        raise HostError(
            f"the capture file {name} cannot be written ({error.strerror}); give another one to -p"
        ) from error


@contextmanager
def captured(file: BinaryIO | None) -> Iterator[CaptureFile | None]:
    """A capture in an open file, if there is one; closed at the end of the block."""
    if file is None:
        yield None
        return
    from sansnet_cli.process.readiness import report_logged
    from sansnet_trio.links.observed import CaptureFile

    report_logged()
    capture = CaptureFile(file, replace=True)
    try:
        yield capture
    finally:
        capture.close()


def observed(link: Link, options: CommandOptions, capture: CaptureFile | None) -> Link:
    """The link itself, or a link around it that traces and captures its frames, according to the options."""
    if options.trace:
        from sansnet_cli.runtime.trace import TracedLink

        link = TracedLink(link)
    if capture is not None:
        from sansnet_trio.links.observed import CapturedLink

        link = CapturedLink(link, capture)
    return link
