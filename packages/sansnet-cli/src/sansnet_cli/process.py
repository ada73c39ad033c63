"""What this process needs before it serves a network, whatever the guest."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from typing import Final

from sansnet_cli import report

__all__ = ["allow_many_descriptors", "prepare", "require_descriptors", "secret"]

_SECRET_SIZE: Final = 32

_DESCRIPTORS: Final = 16
"""What a network without flows needs of them: for trio, epoll sets, a scratch socket and the like."""


def prepare() -> None:
    """Make ready to serve. After this the limit on descriptors is not what a child should inherit.

    Raises:
        OSError: there are too few of them.
    """
    _report_what_is_logged()
    require_descriptors()
    gc.freeze()  # what is loaded stays, so later collections need not look at it
    gc.enable()


def require_descriptors() -> None:
    """Allow as many descriptors as we may have, and see that they are enough to begin with.

    Raises:
        OSError: there are too few.
    """
    allow_many_descriptors()
    made: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            made.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    finally:
        for descriptor in made:
            os.close(descriptor)


def secret() -> bytes:
    """A new secret for a `Network`."""
    return os.urandom(_SECRET_SIZE)


def _report_what_is_logged() -> None:
    """Say warnings of the driver like our own."""
    import logging  # not before a guest is ready

    class Reporter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.warn(record.getMessage())

    logging.getLogger("sansnet").addHandler(Reporter())


def allow_many_descriptors() -> tuple[int, int]:
    """Allow as many descriptors as we may have: each flow takes one, and each port that is forwarded.

    Returns:
        The limits that there were, soft and hard, which are what a child should have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
