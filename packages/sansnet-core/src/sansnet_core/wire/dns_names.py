"""Encodes domain names (RFC 1035, 3.1 and 4.1.4) for DNS, and for options of DHCP and NDP.

Names must consist of ASCII labels of 1 to 63 bytes, which the configuration has checked. Only `text` and `from_text`
know labels of any bytes, as escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["emit", "emit_compressed", "emit_list", "from_text", "labels", "text"]

_POINTER: Final = 0xC000
_MAX_POINTER: Final = 0x3FFF
_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b'."\\')
"""Bytes of a label that stand for themselves in text."""


def _labels(name: str) -> list[bytes]:
    return [bytes([len(label)]) + label.encode() for label in name.removesuffix(".").split(".")]


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


def labels(name: bytes) -> list[bytes]:
    """The labels of a name as on the wire, uncompressed; without that of the root."""
    found, position = [], 0
    while length := name[position]:
        found.append(name[position + 1 : position + 1 + length])
        position += 1 + length
    return found


def text(name: bytes) -> str:
    """The canonical text of a name as on the wire, uncompressed: in lower case, without a dot at the end.

    A byte that is not printable ASCII, a quotation mark, a backslash and a dot in a label are written as a backslash
    and three digits (RFC 1035, 5.1), so that each dot of the text separates two labels. The root is ".".
    """
    found = (
        "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03}" for byte in label) for label in labels(name.lower())
    )
    return ".".join(found) or "."


def from_text(name: str) -> bytes:
    """The name, as on the wire, whose canonical text is `name`."""
    encoded = b""
    for part in name.split(".") if name != "." else ():
        first, *others = part.split("\\")
        label = first.encode()
        for other in others:
            label += bytes((int(other[:3]),)) + other[3:].encode()
        encoded += bytes((len(label),)) + label
    return encoded + b"\0"
