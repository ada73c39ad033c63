"""The file that `-p` names."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from sansnet_cli.options.records import UsageProblem
from sansnet_cli.output.files import open_output
from sansnet_trio.hostinfo import HostError

__all__ = ["open_capture"]

_BUFFER: Final = 1 << 20


def open_capture(name: str) -> BinaryIO:
    """Open a file for a `CaptureFile`.

    Raises:
        UsageProblem: it is no file's name.
        HostError: it cannot be written.
    """
    if name == "-":
        raise UsageProblem("-p - cannot write to stdout, which is the command's; give -p a file or a FIFO")
    try:
        return os.fdopen(open_output(name), "wb", _BUFFER)
    except OSError as error:
        raise HostError(
            f"the capture file {name} cannot be written ({error.strerror}); give another one to -p"
        ) from error
