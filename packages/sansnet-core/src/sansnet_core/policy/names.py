"""Host names in one canonical form, and patterns of them.

The canonical form is that of questions on the wire (RFC 1035, 2.3.3; RFC 5890, 2.3.2.1), in lower case and without the
last dot, so that names are equal if their texts are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["canonical", "fitting", "is_host_name", "matches", "pattern"]

_ALLOWED: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DOTS: Final = "\u3002\uff0e\uff61"
"""Other full stops between labels (RFC 3490, 3.1)."""
_DEVIATIONS: Final = "\u00df\u1e9e\u03c2\u200c\u200d"
"""IDNA2003 and IDNA2008 have different ASCII forms for these (UTS 46, table 1)."""


def canonical(name: str) -> str:
    """The canonical form of a host name: lower case, ASCII (punycode), without a trailing dot.

    Args:
        name: in any case; labels may be of any script (RFC 3490), or have underscores (RFC 8552).

    Raises:
        ValueError: it is no host name.
    """
    if not isinstance(name, str):
        raise ValueError(f"{name!r:.100} is not a host name; give text such as 'example.org'")
    text = name if name.isascii() else _to_ascii(name)
    text = text.removesuffix(".").lower()
    if len(text) > 253:
        raise ValueError(f"{name!r:.100} has more than 253 characters, so it is not a host name")
    for label in text.split("."):
        if not label:
            raise ValueError(f"{name!r:.100} has an empty label, so it is not a host name; check its dots")
        if len(label) > 63:
            raise ValueError(f"{name!r:.100} has a label of more than 63 characters, so it is not a host name")
        if not _ALLOWED.issuperset(label):
            wrong = next(each for each in label if each not in _ALLOWED)
            raise ValueError(f"{name!r:.100} has {wrong!r}, so it is not a host name; give one such as 'example.org'")
    return text


def pattern(text: str) -> str:
    """The canonical form of a pattern: a host name, `*.` and a host name for all names below it, or `*` for all names.

    Raises:
        ValueError: it is no pattern, or the name could be read as an address.
    """
    if text == "*":
        return text
    front = "*." if isinstance(text, str) and text.startswith("*.") else ""
    name = text.removeprefix(front) if front else text
    if isinstance(name, str) and "*" in name:
        raise ValueError(
            f"{text!r:.100} has a * that is not its first label; write '*.example.org' for all names below a name"
        )
    name = canonical(name)
    if _is_address(name):
        raise ValueError(f"{text!r:.100} is neither a host name nor an address; give all four parts of an address")
    return front + name


def is_host_name(name: str) -> bool:
    """Whether the canonical text of a name, which a guest has asked for, is a host name and cannot be read as more.

    The labels of a question may have any bytes: also those that end the host in a URL.
    """
    try:
        return canonical(name) == name and not _is_address(name)
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    """Whether programs read a name as an address, such as 127.1 or 0x7f.1, and ask no name server."""
    last = name.rpartition(".")[2]
    return last.isdigit() or (last.startswith("0x") and all(each in "0123456789abcdef" for each in last[2:]))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name, both in canonical form. `*.example.org` does not match `example.org`."""
    return pattern == name or pattern in fitting(name)


def fitting(name: str) -> Iterator[str]:
    """The patterns with a `*` that match a name in canonical form."""
    yield "*"
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"


def _to_ascii(name: str) -> str:
    """The ASCII form of a name with other characters (RFC 3490), where all versions of IDNA agree about it."""
    for dot in _DOTS:
        name = name.replace(dot, ".")
    if any(each in name for each in _DEVIATIONS):
        raise ValueError(f"{name!r:.100} has a letter that programs encode in two ways; give its form with 'xn--'")
    try:
        return ".".join(label.encode("idna").decode("ascii") for label in name.removesuffix(".").split("."))
    except UnicodeError:
        raise ValueError(f"{name!r:.100} cannot be encoded for DNS; give its form with 'xn--'") from None
