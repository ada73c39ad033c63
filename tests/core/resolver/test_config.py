"""The configuration of a resolver."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core import ConfigError, Endpoint
from sansnet_core.addresses import parse, with_zone
from sansnet_core.config import ResolverConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"families": ()}, r"families: \(\) is not"),
        ({"families": (4, 5)}, "families"),
        ({"families": (4, 4)}, "families"),
        ({"prefix4": "fd00::/64"}, "prefix4: .* is not a network of IPv4"),
        ({"prefix4": "198.18.0.0/31"}, "prefix4"),
        ({"prefix6": "198.18.0.0/15"}, "prefix6: .* is not a network of IPv6"),
        ({"prefix6": "fd00::/127"}, "prefix6"),
        ({"min_ttl": 0.5}, "min_ttl"),
        ({"min_ttl": 100.0, "max_ttl": 50.0}, "min_ttl, max_ttl"),
        ({"grace": -1.0}, "grace"),
        ({"servers": ("192.0.2.1",)}, "servers"),
        ({"servers": (("192.0.2.1", 0),)}, "servers"),
    ],
)
def test_a_wrong_value_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResolverConfig(**fields)


def test_a_server_may_have_a_zone() -> None:
    server = Endpoint(with_zone(parse("fe80::1"), 3), 53)
    assert ResolverConfig(servers=(server,)).servers == (server,)
