"""The attributes of objects, pure or compiled."""

from __future__ import annotations

import inspect

__all__ = ["attributes"]


def attributes(owner: type) -> list[str]:
    """The names of the attributes of a class's objects, in order.

    A compiled class has no `__slots__`, but as they do, a descriptor for each attribute.
    """
    return sorted(
        name
        for cls in owner.__mro__
        for name, value in vars(cls).items()
        if inspect.isdatadescriptor(value) and not isinstance(value, property) and not name.startswith("__")
    )
