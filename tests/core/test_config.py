"""Invalid configurations are refused."""

from __future__ import annotations

from typing import Any

import pytest

from sansnet_core import ConfigError, Endpoint
from sansnet_core.records import replace
from sansnet_core.testing import make_config


@pytest.mark.parametrize(
    "changes",
    [
        {"dns_servers": (b"abc",)},
        {"map_host_loopback": (bytes(5),)},
        {"map_guest_address": (bytes(5),)},
        {"own_addresses": (b"",)},
        {"dns_forward": ((bytes(5), (bytes(4), 53)),)},
        {"dns_forward": ((bytes(4), Endpoint(bytes(16), 53)),)},
        {"dns_forward": ((bytes(4), Endpoint(bytes(4), 0)),)},
        {"dns_forward": ((bytes(4), (bytes(4), 65536)),)},
    ],
)
def test_an_address_or_port_that_is_none_is_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        replace(make_config(), **changes)
