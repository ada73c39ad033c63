"""Operations are data: each field has the values that are worth trying.

From these values follow the strategies of Hypothesis, and a program of bytes for a fuzzer that is guided by coverage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Any, Final, TypeVar, dataclass_transform

from sansnet_core.errors import UsageError

__all__ = [
    "ANY_BYTES",
    "Operation",
    "among",
    "any_bytes",
    "check_fields",
    "check_text",
    "decode_one",
    "domains",
    "encode_one",
    "operation",
]

ANY_BYTES: Final[Sequence[Any]] = ()
"""The values of a field that holds any bytes."""
_MAX_BYTES: Final = 4096
"""Bytes of such a field in a program."""

_DOMAINS: Final[dict[type[Any], Mapping[str, Sequence[Any]]]] = {}
_T = TypeVar("_T")


class Operation:
    """One step of a sequence. It can always be done: a number that picks a socket counts modulo their number."""

    __slots__ = ()


@dataclass_transform(frozen_default=True)
def operation(cls: type[_T]) -> type[_T]:
    """Make a class of operations. A field of text must have one of its values; numbers may be others, too.

    An operation with another text raises `UsageError`.
    """
    made = dataclass(frozen=True, slots=True)(cls)
    texts = [name for name, values in domains(made).items() if any(isinstance(value, str) for value in values)]
    if not texts:
        return made
    init: Any = made.__init__

    def checked(self: _T, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        for name in texts:
            check_text(made, name, getattr(self, name))

    setattr(made, "__init__", wraps(init)(checked))  # noqa: B010  mypy allows no assignment to a method
    return made


def check_text(cls: type[Any], name: str, value: object) -> None:
    """Check the value of a field of text.

    Raises:
        UsageError: it is not one of the field's values.
    """
    values = domains(cls)[name]
    if value not in values:
        raise UsageError(
            f"{cls.__name__}.{name}: {value!r:.100} is none of {', '.join(map(repr, dict.fromkeys(values)))}"
        )


def check_fields(kinds: Collection[type[Any]], fixed: Mapping[str, Sequence[Any]]) -> None:
    """Check fields whose values are fixed by the caller.

    Args:
        kinds: kinds of operations; each field must be one of some kind.
        fixed: name of a field -> its values.

    Raises:
        UsageError: no kind has such a field, there are no values, or a text is none of its values.
    """
    for name, values in fixed.items():
        having = [kind for kind in kinds if name in domains(kind)]
        if not having:
            known = sorted({each for kind in kinds for each in domains(kind)})
            raise UsageError(f"{name}: there is no such field; the fields are {', '.join(known)}")
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UsageError(f"{name}: {values!r:.100} is not a list of values; write {name}=[...]")
        for kind in having:
            if any(isinstance(each, str) for each in domains(kind)[name]):
                for value in values:
                    check_text(kind, name, value)


def among(*values: _T) -> _T:
    """A field that has one of these values; one that occurs twice is tried more often. The first is the simplest."""
    return field(default=values[0], metadata={"values": values})


def any_bytes() -> bytes:
    """A field that has any bytes."""
    return field(default=b"", metadata={"values": ANY_BYTES})


def domains(cls: type[Any]) -> Mapping[str, Sequence[Any]]:
    """Name of a field -> its values."""
    known = _DOMAINS.get(cls)
    if known is None:
        known = _DOMAINS[cls] = {each.name: each.metadata["values"] for each in fields(cls)}
    return known


def decode_one(cls: type[_T], program: memoryview) -> tuple[_T, memoryview]:
    """Read an operation from a program: a byte for each field, whose value counts modulo the number of values.

    Bytes have their length before them, in two bytes. Missing ones count as 0.

    Returns:
        The operation, and the rest of the program.
    """
    chosen: dict[str, Any] = {}
    for name, values in domains(cls).items():
        if values is ANY_BYTES:
            size = min(int.from_bytes(program[:2], "big"), _MAX_BYTES)
            chosen[name] = bytes(program[2 : 2 + size])
            program = program[2 + size :]
        else:
            chosen[name] = values[program[0] % len(values) if program else 0]
            program = program[1:]
    return cls(**chosen), program


def encode_one(one: object) -> bytes:
    """The bytes from which `decode_one` makes an operation."""
    parts: list[bytes] = []
    for name, values in domains(type(one)).items():
        value = getattr(one, name)
        if values is ANY_BYTES:
            parts.append(len(value).to_bytes(2, "big") + value)
        else:
            parts.append(bytes([_index(values, value)]))
    return b"".join(parts)


def _index(values: Iterable[object], value: object) -> int:
    return next(place for place, each in enumerate(values) if type(each) is type(value) and each == value)
