"""The state that this process needs before it serves a network: descriptors, privileges, logging, a secret."""

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
    "report_logged",
    "require_descriptors",
]

_DESCRIPTORS: Final = 16
"""Descriptors that a network without flows needs: for trio, epoll sets and other sockets."""

_COLLECT: Final = (10_000, 20, 20)
"""Thresholds of the garbage collection. Hardly any garbage is in cycles, and each connection makes some objects that
stay a while: by Python's thresholds, which are lower, collections took 4 % of the time of a connection."""


def prepare() -> None:
    """Get ready to serve. Afterwards the limit on descriptors is too high for a child to inherit.

    Raises:
        OSError: too few descriptors are allowed.
    """
    report_logged()
    require_descriptors()
    gc.freeze()  # loaded modules stay, so later collections can skip them
    gc.set_threshold(*_COLLECT)
    gc.enable()


def require_descriptors() -> None:
    """Raise the limit on descriptors as far as possible, and check that enough are free to start.

    Raises:
        OSError: too few are free.
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
    """Give up all capabilities, when none are needed any more. Later child processes have none either.

    The one for ports below 1024 is kept, if such ports may still have to be bound.

    Args:
        ports: the forwarded ports. Those that follow listening programs are bound later.
        controlled: whether there is a control socket, which can add ports.
        keep: other capabilities to keep.
    """
    later = controlled or any(forward.auto for forward in ports.forwards)
    privileges.renounce({*keep, privileges.CAP_NET_BIND_SERVICE} if later else keep)


def report_logged() -> None:
    """Report the packages' log messages (logger `sansnet`) like the command's warnings. Further calls do nothing."""
    import logging  # loaded only when the guest is ready

    class Reporter(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report.warn(record.getMessage())

    logger = logging.getLogger("sansnet")
    if not logger.handlers:
        logger.addHandler(Reporter())


def allow_many_descriptors() -> tuple[int, int]:
    """Raise the limit on descriptors as far as possible: each flow and each forwarded port takes one.

    Returns:
        The soft and hard limits before, for child processes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
