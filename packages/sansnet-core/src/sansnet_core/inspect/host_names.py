"""Reads host names as TLS and HTTP spell them."""

from __future__ import annotations

from typing import Final

from sansnet_core.inspect.inspector import Unclear

__all__ = ["authority", "canonical"]

_NAME: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
_ADDRESS: Final = b"0123456789abcdef:."
_DIGITS: Final = b"0123456789"


def canonical(spelled: bytes) -> str:
    """A host name in canonical form: lower case ASCII, without a trailing dot (RFC 1035, 2.3.1).

    Underscores are accepted, since names with them are in use. Names with other characters, such as escapes by a
    percent sign, are not: servers may read them in more than one way.

    Raises:
        Unclear: it is not a host name.
    """
    name = spelled.lower().removesuffix(b".")
    labels = name.split(b".")
    if name.translate(None, _NAME) or len(name) > 253 or not all(0 < len(label) < 64 for label in labels):
        raise Unclear("the host is not a domain name")
    return name.decode("ascii")


def authority(spelled: bytes) -> tuple[str, int | None]:
    """The host and the port of an authority (RFC 3986, 3.2) without user information, as in a Host field.

    Returns:
        The name in canonical form, or the text of an IP address without brackets; the port, or None.

    Raises:
        Unclear: it has another form.
    """
    if spelled.startswith(b"["):
        address, bracket, rest = spelled[1:].lower().partition(b"]")
        if not bracket or b":" not in address or address.translate(None, _ADDRESS) or rest[:1] not in (b"", b":"):
            raise Unclear("the host is not an IPv6 address")
        return address.decode("ascii"), _port(rest[1:])
    name, _, port = spelled.partition(b":")
    return canonical(name), _port(port)


def _port(digits: bytes) -> int | None:
    if not digits:
        return None
    if digits.translate(None, _DIGITS) or len(digits) > 5 or int(digits) > 0xFFFF:
        raise Unclear("the host's port is not a number up to 65535")
    return int(digits)
