"""In all tests of the core, orders, notices, reports and dropped packets have fields of the declared types."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cache, wraps
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from sansnet_core import Endpoint, Network, Reason, SendStream
from sansnet_core.context import Context
from sansnet_core.dropped import Dropped

LISTS = ("take_orders", "take_notices", "flows")
"""The methods of `Network` whose results are checked."""


@cache
def declared(kind: type) -> dict[str, tuple[type, ...]]:
    """The fields of a class, and the types that their values may have."""
    return {name: _members(hint) for name, hint in get_type_hints(kind).items()}


def _members(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) in (Union, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _members(part))
    kind = getattr(hint, "__supertype__", None) or get_origin(hint) or hint
    return (int, float) if kind is float else (NoneType if kind is None else kind,)


def assert_declared(record: object) -> None:
    kind: type = type(record)
    fields = declared(kind)
    assert fields, f"{record!r} is no record"
    for name, kinds in fields.items():
        value = getattr(record, name)
        assert isinstance(value, kinds), f"{kind.__name__}.{name} is {value!r}"
        if isinstance(value, Endpoint):
            assert isinstance(value.address, bytes), f"{kind.__name__}.{name} is {value!r}"
    assert not isinstance(record, SendStream) or record.data, "there is something to send"


def _checked(method: Callable[..., Iterable[object]]) -> Callable[..., Iterable[object]]:
    @wraps(method)
    def wrapper(network: Network) -> Iterable[object]:
        records = method(network)
        for record in records:
            assert_declared(record)
        return records

    return wrapper


@pytest.fixture(autouse=True, scope="module")
def records_are_as_declared() -> Generator[None]:
    drop_packet = Context.drop_packet

    @wraps(drop_packet)
    def checked_drop(self: Context, *dropped: Any) -> None:
        assert_declared(Dropped(*dropped[1:]))
        assert isinstance(dropped[0], Reason)
        assert dropped[1] is not None, "there is a packet"
        drop_packet(self, *dropped)

    with pytest.MonkeyPatch.context() as patch:
        for name in LISTS:
            patch.setattr(Network, name, _checked(getattr(Network, name)))
        patch.setattr(Context, "drop_packet", checked_drop)
        yield
