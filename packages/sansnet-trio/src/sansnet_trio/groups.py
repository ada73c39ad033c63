"""Exceptions of tasks: where one thing failed, its exception is raised alone."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["only", "raise_alone"]


def only(error: BaseException) -> BaseException:
    """The only exception of nested groups; or the innermost group that has several, or the exception itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
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
