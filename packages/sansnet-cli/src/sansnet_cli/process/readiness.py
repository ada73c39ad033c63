"""What this process needs before it serves a network, whatever the guest."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from sansnet_cli.output import report
from sansnet_trio.linux import privileges

if TYPE_CHECKING:
    from sansnet_cli.options.ports import PortOptions

__all__ = [
    "allow_many_descriptors",
    "prepare",
    "renounce",
    "report_what_is_logged",
    "require_descriptors",
    "secret",
]

_SECRET_SIZE: Final = 32

_DESCRIPTORS: Final = 16
"""What a network without flows needs of them: for trio, epoll sets, a scratch socket and the like."""


def prepare() -> None:
    """Make ready to serve. After this the limit on descriptors is not what a child should inherit.

    Raises:
        OSError: there are too few of them.
    """
    report_what_is_logged()
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
            made.append(os.eventfd(0))
    finally:
        for descriptor in made:
            os.close(descriptor)


def renounce(ports: PortOptions, *, controlled: bool, keep: Collection[int] = ()) -> None:
    """Give up all privileges, once everything is there that takes some; what is executed or forked later has none.

    Args:
        ports: those that are forwarded. Where they follow others, ports below 1024 may still have to be bound.
        controlled: whether there is a control socket, by which others may be added.
        keep: capabilities that are needed besides.
    """
    later = controlled or any(forward.auto for forward in ports.forwards)
    privileges.renounce({*keep, privileges.CAP_NET_BIND_SERVICE} if later else keep)


def secret() -> bytes:
    """A new secret for a `Network`."""
    return os.urandom(_SECRET_SIZE)


def report_what_is_logged() -> None:
    """Say warnings of the driver like our own. A second call does nothing."""
    import logging  # not before a guest is ready

    class Reporter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.warn(record.getMessage())

    logger = logging.getLogger("sansnet")
    if not logger.handlers:
        logger.addHandler(Reporter())


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
