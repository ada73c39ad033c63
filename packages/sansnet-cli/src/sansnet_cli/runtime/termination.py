"""Signals that end a command in good order."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trio

__all__ = ["TERMINATING", "cancel_when_signalled", "terminating_signals"]

TERMINATING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def terminating_signals() -> Iterator[AsyncIterator[int]]:
    """Receive the signals of `TERMINATING`, for `cancel_when_signalled`; they are blocked at the end of the block.

    So a signal that comes while the process ends, or a second one, has no effect: with trio's handlers gone it would
    kill the process.
    """
    import trio

    with trio.open_signal_receiver(*TERMINATING) as signals:
        try:
            yield signals
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATING)


async def cancel_when_signalled(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    """Cancel a scope when a signal comes."""
    async for _ in signals:
        scope.cancel()
