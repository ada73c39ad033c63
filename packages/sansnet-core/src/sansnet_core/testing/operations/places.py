"""Addresses and ports of operations."""

from __future__ import annotations

import struct
from typing import Final

from sansnet_core.addresses import parse

__all__ = ["ADDRESSES", "PORTS"]

ADDRESSES: Final = {
    name: parse(text)
    for name, text in {
        "server": "192.0.2.80",
        "server6": "2001:db8:ffff::80",
        "gateway": "10.0.2.2",
        "gateway6": "fe80::aaaa",
        "resolver": "10.0.2.3",
        "resolver6": "2001:db8:2::3",
        "alias": "10.0.2.4",
        "self": "10.0.2.15",
        "self6": "2001:db8::15",
        "virtual": "198.51.100.200",
        "leased": "198.18.0.1",
        "leased2": "198.18.0.2",
        "leased6": "fd73:616e:736e:6574::1",
        "proxied": "203.0.113.9",
        "closed": "10.66.0.1",
        "asked": "203.0.113.77",
        "loopback": "127.0.0.1",
        "group": "224.0.0.251",
        "group6": "ff02::fb",
        "broadcast": "255.255.255.255",
        "zero": "0.0.0.0",
        "zero6": "::",
        "outsider": "198.51.100.7",
        "outsider6": "2001:db8:eeee::7",
        "mapped": "::ffff:192.0.2.80",
        "link-local6": "fe80::77",
    }.items()
}
"""Name -> address: those that mean something to the configurations of `Setting`."""


def _with_zero_sum(own: bytes, prefix: bytes) -> bytes:
    """An address for which the pseudo header of a datagram of 100 bytes to `own` has the sum 0."""
    words = struct.unpack(f"!{len(own) - 1}H", own + prefix)
    return prefix + struct.pack("!H", -(sum(words) + 17 + 108) % 65535)


ADDRESSES["sum"] = _with_zero_sum(ADDRESSES["self"], ADDRESSES["outsider"][:-2])
ADDRESSES["sum6"] = _with_zero_sum(ADDRESSES["self6"], ADDRESSES["outsider6"][:-2])

PORTS: Final = (40000, 40001, 40002, 40003, 40004, 8001, 8002, 8003)
"""The guest's ports. It connects from the first five and listens at the last three."""
