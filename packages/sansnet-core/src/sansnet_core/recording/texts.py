"""Inputs and outputs as text, for people."""

from __future__ import annotations

from typing import Any, Final

from sansnet_core import addresses
from sansnet_core.recording.calls import METHODS
from sansnet_core.recording.values import VALUES, Digest
from sansnet_core.records import Record

__all__ = ["call_text", "order_text", "value_text"]

_MOST: Final = 4
"""Parts of a tuple that are shown."""
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
