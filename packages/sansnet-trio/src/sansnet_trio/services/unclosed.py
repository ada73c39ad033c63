"""Objects that the program has dropped without closing them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import trio

__all__ = ["close_unclosed", "current_token"]


def current_token() -> trio.lowlevel.TrioToken | None:
    """The token of the trio that runs in this thread; None if none does."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def close_unclosed(
    dropped: object, token: trio.lowlevel.TrioToken | None, close: Callable[[], None], *, used: bool
) -> None:
    """Close what an object stands for that is still open. Called by its `__del__`.

    The garbage collector may run at any point of the program and in any thread, so trio calls `close` a little later.

    Args:
        dropped: the object.
        token: the token of the trio in which the object is used; None for that of this thread.
        close: closes it. It must not refer to the object.
        used: whether a driver uses it; then warn, as sockets do.
    """
    token = token or current_token()
    try:
        if token is None:
            close()
        else:
            token.run_sync_soon(close)
    except trio.RunFinishedError:
        close()
    if used:
        warnings.warn(f"unclosed {dropped!r}", ResourceWarning, source=dropped, stacklevel=2)
