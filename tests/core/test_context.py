"""A context is complete when it is made: no attribute is set from outside afterwards."""

from __future__ import annotations

import inspect

from sansnet_core.context import Context
from tests.core.proto.bare import config


def test_a_new_context_is_complete() -> None:
    context = Context(config(), now=1.0, secret=bytes(16))
    # A compiled class has no __slots__, but as they do, a descriptor for each attribute
    names = [name for name, value in vars(Context).items() if inspect.isdatadescriptor(value)]
    assert "config" in names
    assert [name for name in names if not hasattr(context, name)] == []
