"""Records: keyword-only, read-only values with named fields, like frozen dataclasses, but cheap to define.

A dataclass generates and compiles source code for each of its methods when its module is loaded, and needs `inspect`
for that. Thirty of them took a third of the time from the start of a command to the fork of its guest. A record's
methods are written once, here. Type checkers see no difference.

A field may be given in several forms and read in one: `gateway: Converted[AnyAddress, bytes] = field(address)` takes
text and reads as bytes. Plain fields of the types int, float, bool and str are checked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar, dataclass_transform

from sansnet_core.addresses import AnyAddress, AnyInterface, AnyMac, AnyPrefix, format_any
from sansnet_core.errors import ConfigError, SansnetError, expect

if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["Converted", "Converter", "Record", "field", "replace"]

Given = TypeVar("Given", contravariant=True)
Kept = TypeVar("Kept", covariant=True)
Converter: TypeAlias = Callable[[Any], Kept]
"""Makes the value that a field keeps from the one that is given. Raises ValueError with a sentence about the value."""

_REQUIRED: Final = object()


class Converted(Generic[Given, Kept]):
    """Annotates a field of a record that is given as `Given`, and kept and read as `Kept`; see `field`.

    It is a descriptor to type checkers only (they derive the parameter from `__set__`): reading costs nothing more.
    """

    def __init__(self, convert: Converter[Kept], default: object) -> None:
        self.convert = convert
        self.default = default

    if TYPE_CHECKING:

        def __get__(self, record: object, owner: object) -> Kept: ...

        def __set__(self, record: object, value: Given) -> None: ...


def field(convert: Converter[Kept], *, default: Any = _REQUIRED) -> Converted[Any, Kept]:
    """A field of a record whose annotation is `Converted`.

    Args:
        convert: makes the value that is kept. If it raises ValueError, the record raises its own error, which begins
            with the name of the field.
        default: the value of a field that is not given, in any form; without a default, the field must be given.
    """
    return Converted(convert, default)


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
                    Parameter.KEYWORD_ONLY if owner._kw_only else Parameter.POSITIONAL_OR_KEYWORD,
                    default=owner._defaults.get(name, Parameter.empty),
                    annotation=_given(hints[name]),
                )
                for name in owner._names
            ]
        )


def _given(hint: Any) -> Any:
    """The type in which a field is given. That of an address has many members, so its alias is shown in their place."""
    return _Alias(hint.__args__[0]) if getattr(hint, "__origin__", None) is Converted else hint


class _Alias:
    """A type in a signature, by the names of `addresses`."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint

    def __repr__(self) -> str:
        return _by_alias(self.hint)


_ALIASES: Final = {"AnyPrefix": AnyPrefix, "AnyInterface": AnyInterface, "AnyAddress": AnyAddress, "AnyMac": AnyMac}
"""The largest first."""


def _by_alias(hint: Any) -> str:
    arguments = getattr(hint, "__args__", ())
    if getattr(hint, "__origin__", None) is not None and arguments:
        return f"{hint.__origin__.__name__}[{', '.join(map(_by_alias, arguments))}]"
    if not arguments:
        return getattr(hint, "__name__", repr(hint)).replace("NoneType", "None").replace("ellipsis", "...")
    rest = list(arguments)
    names = []
    for name, alias in _ALIASES.items():
        if all(member in rest for member in alias.__args__):
            names.append(name)
            rest = [member for member in rest if member not in alias.__args__]
    return " | ".join([*names, *map(_by_alias, rest)])


def _plain(kind: type, remedy: str, optional: bool) -> Converter[Any]:
    """Checks a field that is kept as it is given. True and False are no numbers."""
    kinds = (int, float) if kind is float else kind

    def check(value: object) -> object:
        if (isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))) or (optional and value is None):
            return value
        raise ValueError(f"{value!r:.100} is not {remedy}{' or None' * optional}")

    return check


def _texts(value: Any) -> tuple[str, ...]:
    texts = () if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not (texts or value == ()) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{value!r:.100} is not a tuple of texts; write ('one', 'two') or ('one',)")
    return texts


_KINDS: Final = {int: "an integer", float: "a number", bool: "True or False", str: "text"}
_CHECKS: Final[dict[str, Converter[Any]]] = {
    kind.__name__ + " | None" * optional: _plain(kind, remedy, optional)
    for kind, remedy in _KINDS.items()
    for optional in (False, True)
}
"""Annotation of a plain field -> its check. Annotations are text, so no type has to be looked up."""
_CHECKS["tuple[str, ...]"] = _texts
_CHECKS["tuple[str, ...] | None"] = lambda value: None if value is None else _texts(value)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Record:
    """Base class of records. A subclass annotates its fields and may give them defaults, which must be immutable.

    `__post_init__` is called when all fields are set. Records of one class with equal fields are equal.
    A subclass may name its error and a text to put before the names of fields, which are inherited:
    `class Ipv4Config(Record, error=ConfigError, label="ipv4.")`. With `kw_only=False`, fields may be given by position.
    `frozen=False` is for type checkers alone, and for records that have subclasses: mypy (2.4) reads an inherited
    `Converted` field of a frozen class in the type in which it is given.

    Raises:
        TypeError: a field is missing, or unknown.
        ConfigError, or the error of the subclass: the value of a field is wrong.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _converters: ClassVar[dict[str, Converter[Any]]] = {}
    _error: ClassVar[type[SansnetError]] = ConfigError
    _label: ClassVar[str] = ""
    _kw_only: ClassVar[bool] = True
    __signature__ = _Signature()

    def __init_subclass__(
        cls,
        *,
        error: type[SansnetError] | None = None,
        label: str | None = None,
        kw_only: bool = True,
        frozen: bool = True,
    ) -> None:
        cls._kw_only = kw_only
        cls._error = cls._error if error is None else error
        cls._label = cls._label if label is None else label
        bases = [base for base in cls.__bases__ if issubclass(base, Record)]
        cls._names = tuple(dict.fromkeys([*(name for base in bases for name in base._names), *cls.__annotations__]))
        cls._converters = {name: each for base in reversed(bases) for name, each in base._converters.items()}
        for name, annotation in cls.__annotations__.items():
            own = vars(cls).get(name)
            convert = own.convert if isinstance(own, Converted) else _CHECKS.get(annotation)
            if convert is not None:
                cls._converters[name] = convert
            if isinstance(own, Converted):  # its default replaces it, so that it is found where any default is
                delattr(cls, name)
                if own.default is not _REQUIRED:
                    setattr(cls, name, own.convert(own.default))
        cls._defaults = {name: getattr(cls, name) for name in cls._names if hasattr(cls, name)}

    def __init__(self, /, *given: Any, **values: Any) -> None:
        if given:
            values = self._by_name(given, values)
        for name, convert in self._converters.items():
            if name in values:
                try:
                    values[name] = convert(values[name])
                except ValueError as wrong:
                    raise self._error(f"{self._label}{name}: {wrong}") from None
        fields = {**self._defaults, **values}
        if fields.keys() != set(self._names):
            raise TypeError(_mismatch(type(self).__name__, self._names, fields))
        vars(self).update(fields)
        try:
            self.__post_init__()
        except SansnetError:
            raise
        except ValueError as wrong:
            raise self._error(f"{self._label}{wrong}") from None

    def _by_name(self, given: tuple[Any, ...], values: dict[str, Any]) -> dict[str, Any]:
        """Fields by name, from some that were given by position."""
        by_position = dict(zip(self._names, given, strict=False))
        if self._kw_only or len(given) > len(self._names) or by_position.keys() & values.keys():
            raise TypeError(f"{type(self).__name__} takes its fields by name: {', '.join(self._names)}")
        return by_position | values

    def __post_init__(self) -> None:
        """Check the fields together. A ValueError that begins with the name of a field becomes the record's error."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed; use sansnet_core.records.replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self)[name] for name in self._names))

    def __repr__(self) -> str:
        """Addresses are shown as text, in which they can be given."""
        return f"{type(self).__name__}({', '.join(f'{name}={_shown(getattr(self, name))}' for name in self._names)})"

    def __str__(self) -> str:
        """The fields that differ from the defaults."""
        given = [name for name in self._names if name not in self._defaults or vars(self)[name] != self._defaults[name]]
        return f"{type(self).__name__}({', '.join(f'{name}={_shown(vars(self)[name], str)}' for name in given)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The short form where failures are reported: by Hypothesis, and IPython, which define this method."""
        printer.text(str(self))

    def __replace__(self, /, **changes: Any) -> Self:
        return type(self)(**{**vars(self), **changes})


def _shown(value: Any, show: Callable[[Record], str] = repr) -> str:
    """The text of a field, with `show` for records."""
    if isinstance(value, bytes) and len(value) in (4, 6, 16):
        return repr(format_any(value))
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value) is tuple:
        return f"({', '.join(_shown(each, show) for each in value)}{',' * (len(value) == 1)})"
    return show(value) if isinstance(value, Record) else repr(value)


R = TypeVar("R", bound=Record)


def replace(record: R, /, **changes: Any) -> R:
    """A copy of a record with some fields changed, such as `replace(config, notices=True)`.

    Args:
        record: the record; it stays as it is.
        **changes: new values, by the names of the fields.

    Raises:
        TypeError: there is no field of that name.
        UsageError: it is no record.
    """
    expect("record", record, Record, "a record, such as a NetworkConfig")
    return record.__replace__(**changes)


_ALIKE: Final = 3
"""Letters that similar words have in common, at their beginning."""


def _mismatch(name: str, names: tuple[str, ...], fields: dict[str, Any]) -> str:
    unknown = [field for field in fields if field not in names]
    if unknown:
        begins = {part[:_ALIKE] for word in unknown for part in word.split("_") if len(part) >= _ALIKE}
        similar = [each for each in names if begins & {part[:_ALIKE] for part in each.split("_")}]
        proposal = f"; similar ones are {', '.join(similar)}" if similar else ""
        return f"{name} has no field {', '.join(unknown)}{proposal}"
    return f"{name} needs {', '.join(field for field in names if field not in fields)}"
