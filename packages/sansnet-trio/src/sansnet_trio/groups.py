"""Exception groups: where one thing failed, its exception is raised alone."""

from __future__ import annotations

__all__ = ["only"]


def only(error: BaseException) -> BaseException:
    """The only exception of nested groups; or the innermost group that has several, or the exception itself.

    Raise it outside of the `except` clause that caught the group, because that would replace its context.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
