"""Inputs and outputs as text, for people."""

from __future__ import annotations

from binascii import crc32
from typing import Any, Final

from sansnet_core import addresses
from sansnet_core.recording.calls import METHODS, OUTPUTS, Raised
from sansnet_core.recording.format import Counted
from sansnet_core.recording.values import HEAD, VALUES, Digest
from sansnet_core.records import Record

__all__ = ["call_text", "order_text", "outcome_text", "value_text"]

_SHOWN: Final = 16
"""Bytes of a payload that are shown."""
_MOST: Final = 4
"""Outputs that are shown."""
_VALUES: Final = frozenset(VALUES)


def value_text(value: Any) -> str:
    """An argument or a field."""
    if isinstance(value, addresses.Endpoint):
        return str(value)
    if isinstance(value, bytes | memoryview):
        data = bytes(value)
        if len(data) in (4, 16):
            return addresses.format_any(data)
        return f"<{len(data)} bytes>"
    if isinstance(value, Digest):
        return f"<{value.size} bytes>"
    if isinstance(value, tuple) and len(value) > _MOST:
        return f"({', '.join(map(value_text, value[:_MOST]))}, ... {len(value) - _MOST} more)"
    if isinstance(value, tuple):
        return f"({', '.join(map(value_text, value))})"
    if type(value) in _VALUES:
        return order_text(value)
    return str(value) if isinstance(value, Record) else f"{value!r}"


def order_text(order: Any) -> str:
    """An order, with the fields that differ from their defaults."""
    fields = type(order).__dataclass_fields__
    shown = [
        f"{name}={value_text(value)}"
        for name, field in fields.items()
        if (value := getattr(order, name)) != field.default
    ]
    return f"{type(order).__name__}({', '.join(shown)})"


def call_text(number: int, arguments: dict[str, Any]) -> str:
    """A call, without its time."""
    return f"{METHODS[number]}({', '.join(f'{name}={_argument(name, each)}' for name, each in arguments.items())})"


def _argument(name: str, value: Any) -> str:
    if name == "data" and isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if name == "frames" and isinstance(value, tuple):
        return f"{len(value)} frame{'s' * (len(value) != 1)}"
    return value_text(value)


def outcome_text(number: int, outcome: tuple[Any, ...]) -> str:
    """The exception and the result of a call."""
    shown = [f"{each.error}: {each.text}" if isinstance(each, Raised) else _result(number, each) for each in outcome]
    return " and ".join(shown) or "nothing"


def _result(number: int, result: Any) -> str:
    if isinstance(result, Counted):
        return f"{result.number} {METHODS[number].removeprefix('take_')}"
    if number not in OUTPUTS or not isinstance(result, list | tuple):
        return value_text(result)
    what = METHODS[number].removeprefix("take_")
    shown = ", ".join(map(_output, result[:_MOST]))
    more = f", ... {len(result) - _MOST} more" if len(result) > _MOST else ""
    return f"{len(result)} {what}{': ' * bool(result)}{shown}{more}"


def _output(output: Any) -> str:
    if type(output) in _VALUES:
        return order_text(output)
    if isinstance(output, tuple) and not isinstance(output, Digest):
        output = b"".join(output)
    if isinstance(output, Digest):
        return f"<{output.size} bytes: {output.head.hex()}, sum {output.sum:08x}>"
    if not isinstance(output, bytes | memoryview):
        return value_text(output)
    rest = crc32(output[HEAD:]) if len(output) > HEAD else 0
    return f"<{len(output)} bytes: {bytes(output[:HEAD]).hex()}, sum {rest:08x}>"
