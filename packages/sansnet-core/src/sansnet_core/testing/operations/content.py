"""The bytes of streams: each position has one value, so that a byte at a wrong place shows."""

from __future__ import annotations

import struct
from hashlib import shake_128
from typing import Final

__all__ = ["BEGINNINGS", "Content", "client_hello", "query"]

_PERIOD: Final = 65521
_BLOCK: Final = shake_128(b"streams").digest(_PERIOD)
_BLOCKS: Final = _BLOCK * 3


class Content:
    """An endless stream of bytes.

    Args:
        seed: streams with different ones differ.
        head: its first bytes.
    """

    __slots__ = ("_start", "head")

    def __init__(self, seed: int, head: bytes = b"") -> None:
        self._start = seed * 7919
        self.head = head

    def at(self, position: int, size: int) -> bytes:
        """`size` bytes from a position on."""
        begin = self.head[position : position + size]
        size -= len(begin)
        start = (position + len(begin) + self._start) % _PERIOD
        if size <= 2 * _PERIOD:
            return begin + _BLOCKS[start : start + size]
        return begin + (_BLOCK * (size // _PERIOD + 2))[start : start + size]


def client_hello(name: str) -> bytes:
    """A TLS record with a ClientHello that names a server (RFC 8446, 4.1.2; RFC 6066, 3)."""
    host = name.encode()
    names = struct.pack("!BH", 0, len(host)) + host
    extension = struct.pack("!HHH", 0, len(names) + 2, len(names)) + names
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack("!H", len(extension)) + extension
    return b"\x16\3\1" + struct.pack("!H", len(body) + 4) + b"\1" + len(body).to_bytes(3, "big") + body


def query(identifier: int, name: str, type_: int, *, questions: int = 1, flags: int = 0x0100, class_: int = 1) -> bytes:
    """A DNS message that asks for a name (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    asked = labels + b"\0" + struct.pack("!HH", type_, class_)
    return struct.pack("!6H", identifier, flags, questions, 0, 0, 0) + asked * questions


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


BEGINNINGS: Final = {
    "": b"",
    "tls": client_hello("a.example.org"),
    "tls of another": client_hello("evil.test"),
    "http": b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n" * 3,
    "http of another": b"POST /x HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5\r\n\r\nhello",
    "dns": _framed(query(7, "a.example.org", 1)),
    "dns twice": _framed(query(8, "a.example.org", 28)) + _framed(query(9, "evil.test", 1)),
    "zeros": bytes(3000),
}
"""Name -> the first bytes of a stream."""
