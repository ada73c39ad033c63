"""Records: keyword-only, read-only values with named fields, like frozen dataclasses, but cheap to define.

A dataclass generates and compiles source code for each of its methods when its module is loaded, and needs `inspect`
for that. Thirty of them took a third of the time from the start of a command to the fork of its guest. A record's
methods are written once, here. Type checkers see no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["Record", "replace"]


class _Signature:
    """The signature of a record class; computed on access, since it needs `inspect`."""

    def __get__(self, instance: Record | None, owner: type[Record]) -> Signature:
        from inspect import Parameter, Signature
        from typing import get_type_hints

        try:
            hints = get_type_hints(owner)
        except NameError:  # a type is imported for type checkers only
            hints = {}
            for cls in reversed(owner.__mro__):
                hints.update(cls.__annotations__ if issubclass(cls, Record) else {})
        return Signature(
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=owner._defaults.get(name, Parameter.empty),
                    annotation=hints[name],
                )
                for name in owner._names
            ]
        )


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base class of records. A subclass annotates its fields and may give them defaults, which must be immutable.

    `__post_init__` is called when all fields are set. Records of one class with equal fields are equal.

    Raises:
        TypeError: a field is missing, or unknown.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    __signature__ = _Signature()

    def __init_subclass__(cls) -> None:
        bases = [name for base in cls.__bases__ if issubclass(base, Record) for name in base._names]
        cls._names = tuple(dict.fromkeys((*bases, *cls.__annotations__)))
        cls._defaults = {name: getattr(cls, name) for name in cls._names if hasattr(cls, name)}

    def __init__(self, **values: Any) -> None:
        fields = {**self._defaults, **values}
        if fields.keys() != set(self._names):
            raise TypeError(_mismatch(type(self).__name__, self._names, fields))
        vars(self).update(fields)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed; use sansnet_core.records.replace()")

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
    """A copy of a record with some fields changed, such as `replace(config, notices=True)`.

    Args:
        record: the record; it stays as it is.
        **changes: new values, by the names of the fields.

    Raises:
        TypeError: there is no field of that name.
    """
    return record.__replace__(**changes)


def _mismatch(name: str, names: tuple[str, ...], fields: dict[str, Any]) -> str:
    unknown = [field for field in fields if field not in names]
    if unknown:
        return f"{name} has no field {', '.join(unknown)}"
    return f"{name} needs {', '.join(field for field in names if field not in fields)}"
