"""What this process needs before it serves a network, whatever the guest."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
from typing import Final

from sansnet_cli import report

__all__ = ["prepare", "secret"]

_SECRET_SIZE: Final = 32


def prepare() -> None:
    """Make ready to serve. After this the limit on descriptors is not what a child should inherit."""
    _report_what_is_logged()
    _allow_many_descriptors()
    gc.freeze()  # what is loaded stays, so later collections need not look at it
    gc.enable()


def secret() -> bytes:
    """A new secret for a `Network`."""
    return os.urandom(_SECRET_SIZE)


class _Reporter(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report.warn(record.getMessage())


def _report_what_is_logged() -> None:
    """Say warnings of the driver like our own."""
    logging.getLogger("sansnet").addHandler(_Reporter())


def _allow_many_descriptors() -> None:
    """Each flow is a descriptor here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
