"""Printing the result of a command on stdout."""

from __future__ import annotations

import sys

from sansnet_core.errors import SansnetError

__all__ = ["Unwritable", "put"]


class Unwritable(SansnetError):
    """Stdout cannot be written; the message says why."""


def put(text: str) -> None:
    """Print text.

    Raises:
        Unwritable: stdout cannot be written.
        SystemExit: the reader has closed it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None
    except OSError as error:
        raise Unwritable(f"cannot write to stdout ({error.strerror}); redirect it to a writable file") from error
