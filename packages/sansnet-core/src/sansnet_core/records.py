"""Records: keyword-only, read-only values with named fields, as frozen dataclasses are, but made at once.

A dataclass has source code written and compiled for each of its methods when its module is loaded, and needs `inspect`
for that. Configurations are loaded by commands that somebody waits for, thirty classes of them: a third of the time
until a guest was forked went into it. A record's methods are written once, here. Type checkers see no difference.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

__all__ = ["Record", "replace"]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base class of records. A subclass annotates its fields, and gives them defaults, which must be immutable.

    `__post_init__` is called when all fields are there. Records of one class with equal fields are equal.

    Raises:
        TypeError: a field is missing, or there is none of that name.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        bases = [name for base in cls.__bases__ if issubclass(base, Record) for name in base._names]
        cls._names = tuple(dict.fromkeys((*bases, *cls.__annotations__)))
        cls._defaults = {name: getattr(cls, name) for name in cls._names if hasattr(cls, name)}

    def __init__(self, **given: Any) -> None:
        fields = {**self._defaults, **given}
        if fields.keys() != set(self._names):
            raise TypeError(_mismatch(type(self).__name__, self._names, fields))
        vars(self).update(fields)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed; make another with replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self)[name] for name in self._names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"

    def __replace__(self, /, **changes: Any) -> Self:
        return type(self)(**{**vars(self), **changes})


R = TypeVar("R", bound=Record)


def replace(record: R, /, **changes: Any) -> R:
    """A record like another, but for some fields.

    Raises:
        TypeError: there is no field of that name.
    """
    return record.__replace__(**changes)


def _mismatch(what: str, names: tuple[str, ...], fields: dict[str, Any]) -> str:
    strange = [name for name in fields if name not in names]
    if strange:
        return f"{what} has no field {', '.join(strange)}"
    return f"{what} needs {', '.join(name for name in names if name not in fields)}"
