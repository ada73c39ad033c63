"""What a command prints on stdout, where that is all that it does."""

from __future__ import annotations

import sys

from sansnet_core.errors import SansnetError

__all__ = ["Unwritable", "put"]


class Unwritable(SansnetError):
    """Stdout takes nothing; the message says why."""


def put(text: str) -> None:
    """Print text.

    Raises:
        Unwritable: stdout does not take it.
        SystemExit: its reader has closed it, and need not be told.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None
    except OSError as error:
        raise Unwritable(f"stdout cannot be written ({error.strerror}); redirect it to a file that takes it") from error
