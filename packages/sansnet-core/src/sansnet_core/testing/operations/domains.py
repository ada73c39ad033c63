"""Operations are data: each field has the values that are worth trying.

From these values follow the strategies of Hypothesis, and a program of bytes for a fuzzer that is guided by coverage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar, dataclass_transform

__all__ = ["ANY_BYTES", "Operation", "among", "any_bytes", "decode_one", "domains", "encode_one", "operation"]

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
    """Make a class of operations."""
    return dataclass(frozen=True, slots=True)(cls)


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
