"""Exceptions of tasks: where one thing failed, its exception is raised alone."""

from __future__ import annotations

from typing import NoReturn

import trio

__all__ = ["combined", "only", "raise_alone"]


def combined(body: BaseException | None, tasks: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception to raise when tasks have failed, and the body of their block perhaps too.

    Args:
        body: the exception of the body; None if there is none.
        tasks: the exceptions of the tasks.
    """
    own, others = _failed(body), _failed(tasks)
    if own is None:
        return only(others or tasks)
    if others is None:
        return own
    among = others.exceptions if isinstance(others, BaseExceptionGroup) else [others]
    return BaseExceptionGroup("the body of a block and its tasks failed", [own, *among])


def _failed(error: BaseException | None) -> BaseException | None:
    """An exception without cancellations."""
    if error is None or isinstance(error, trio.Cancelled):
        return None
    return error.split(trio.Cancelled)[1] if isinstance(error, BaseExceptionGroup) else error


def only(error: BaseException) -> BaseException:
    """The only exception of nested groups; or the innermost group that has several, or the exception itself.

    `trio.Cancelled` counts only if nothing else is there, and then once: a cancelled block may have any number of them.
    """
    if isinstance(error, BaseExceptionGroup):
        cancelled, failed = error.split(trio.Cancelled)
        error = failed or _first(cancelled or error)
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def raise_alone(error: BaseException) -> NoReturn:
    """Raise an exception without the exceptions that are being handled, such as `trio.Cancelled`, as its context."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context  # they refer to this frame
