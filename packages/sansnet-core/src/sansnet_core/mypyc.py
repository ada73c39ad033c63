"""The decorator by which a class tells mypyc how it is used, without the package `mypy_extensions` at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import mypyc_attr as mypyc_attr

__all__ = ["mypyc_attr"]

_T = TypeVar("_T")

if not TYPE_CHECKING:  # mypyc reads the decorator and never calls it

    def mypyc_attr(**_: bool) -> Callable[[_T], _T]:
        """Leave a class as it is.

        `allow_interpreted_subclasses=True` is for classes whose objects are copied with a network: it makes `__new__`
        and `__init__` of a compiled class the two steps that they are in Python, and `pickle` needs the first alone.
        It also lets classes that are not compiled inherit from one that is.
        """
        return lambda cls: cls
