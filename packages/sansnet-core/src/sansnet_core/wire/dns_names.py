"""Encodes domain names (RFC 1035, 3.1 and 4.1.4) for DNS, and for options of DHCP and NDP.

Names must consist of ASCII labels of 1 to 63 bytes, which the configuration has checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["emit", "emit_compressed", "emit_list"]

_POINTER: Final = 0xC000
_MAX_POINTER: Final = 0x3FFF


def _labels(name: str) -> list[bytes]:
    return [bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split(".")]


def emit(name: str) -> bytes:
    """One name, uncompressed."""
    return b"".join(_labels(name)) + b"\0"


def emit_list(names: Iterable[str], room: int) -> bytes:
    """The first names, as many as fit into `room` bytes, uncompressed (RFC 8106 5.2, RFC 8415 10)."""
    data = b""
    for name in names:
        encoded = emit(name)
        if len(data) + len(encoded) > room:
            break
        data += encoded
    return data


def emit_compressed(names: Iterable[str], room: int) -> bytes:
    """The first names, as many as fit into `room` bytes; pointers count from the first name (RFC 3397, 2)."""
    data = b""
    known: dict[bytes, int] = {}
    for name in names:
        labels = _labels(name)
        encoded = b""
        found: dict[bytes, int] = {}
        for index, label in enumerate(labels):
            suffix = b"".join(labels[index:]).lower()
            if suffix in known:
                encoded += (_POINTER | known[suffix]).to_bytes(2, "big")
                break
            found[suffix] = len(data) + len(encoded)
            encoded += label
        else:
            encoded += b"\0"
        if len(data) + len(encoded) > min(room, _MAX_POINTER):
            break
        data += encoded
        known |= found
    return data
