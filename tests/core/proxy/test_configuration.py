"""Proxies in a configuration, and rules that name them."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core import Action, ConfigError, Endpoint, Rule
from sansnet_core.policy import Policy, ProxyConfig, ProxyKind
from sansnet_core.records import replace
from sansnet_core.testing import make_config

SERVER = Endpoint("192.0.2.9", 1080)
PROXY = ProxyConfig(name="office", kind=ProxyKind.SOCKS5, server=SERVER)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": ""}, "name: it is empty"),
        ({"server": Endpoint("0.0.0.0", 1080)}, "server: .* is no server"),
        ({"server": Endpoint("224.0.0.1", 1080)}, "server: .* is no server"),
        ({"password": "x"}, "without a user"),
        ({"user": "ü" * 128}, "user: it has more than 255 bytes"),
        ({"user": "x", "password": "x" * 256}, "password: it has more than 255 bytes"),
        ({"user": "a\r\nb"}, "control characters"),
        ({"user": ""}, "user: it is empty"),
        ({"user": "a:b", "kind": ProxyKind.HTTP}, "colon"),
    ],
)
def test_wrong_proxies(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        replace(PROXY, **fields)


def test_rules_name_proxies_that_exist() -> None:
    rule = Rule(action=Action.ALLOW, via="home")
    with pytest.raises(ConfigError, match="'home' is not the name of a proxy; there are: office"):
        replace(make_config(), rules=(rule,), proxies=(PROXY,))
    with pytest.raises(ConfigError, match="there are: none"):
        replace(make_config(), rules=(rule,))
    with pytest.raises(ConfigError, match="two proxies have the name 'office'"):
        replace(make_config(), proxies=(PROXY, replace(PROXY, user="x")))


def test_a_proxy_needs_a_resolver() -> None:
    """So that names are passed on to it."""
    assert Policy(rules=(Rule(action=Action.ALLOW, via="office"),), proxies=(PROXY,)).needs_resolver
    assert not Policy(proxies=(PROXY,)).needs_resolver
