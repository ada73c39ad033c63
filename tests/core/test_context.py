"""A context is complete when it is made: no attribute is set from outside afterwards."""

from __future__ import annotations

from sansnet_core.context import Context
from tests.core.attributes import attributes
from tests.core.proto.bare import config


def test_a_new_context_is_complete() -> None:
    context = Context(config(), now=1.0, secret=bytes(16))
    names = attributes(Context)
    assert "config" in names
    assert [name for name in names if not hasattr(context, name)] == []
