"""What this process needs before it serves a network, whatever the guest."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import sys
from typing import Final

__all__ = ["prepare", "secret"]

_SECRET_SIZE: Final = 32


def prepare() -> None:
    """Make ready to serve. After this the limit on descriptors is not what a child should inherit."""
    _log_to_stderr()
    _allow_many_descriptors()
    gc.freeze()  # what is loaded stays, so later collections need not look at it
    gc.enable()


def secret() -> bytes:
    """A new secret for a `Network`."""
    return os.urandom(_SECRET_SIZE)


def _log_to_stderr() -> None:
    """Show warnings of the driver like our own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("sansnet: %(message)s"))
    logging.getLogger("sansnet").addHandler(handler)


def _allow_many_descriptors() -> None:
    """Each flow is a descriptor here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
