"""Takes out of HTTPS and SVCB records what would lead a client around the rules (RFC 9460).

The hints of addresses are taken out since a client may use them in place of the name's own addresses; `ech`, since the
server name could not be judged (RFC 9849); and HTTP/3 if UDP is closed, so that no client waits for it.
"""

from __future__ import annotations

from typing import Final

from sansnet_core.wire.dns_names import labels, text

__all__ = ["sanitize", "target"]

_MANDATORY: Final = 0
_ALPN: Final = 1
_NO_DEFAULT_ALPN: Final = 2
_MAX_LABEL: Final = 63
_TAKEN_OUT: Final = frozenset((4, 5, 6))
"""ipv4hint, ech, ipv6hint (RFC 9460, 14.3.2)."""


def sanitize(data: bytes, *, udp: bool) -> bytes | None:
    """The data of a record without these parameters.

    Args:
        data: priority, target name, and parameters.
        udp: whether clients may use HTTP/3.

    Returns:
        None if the record cannot be used without them, or is malformed.
    """
    try:
        target = labels(data[2:])
    except IndexError:
        return None
    start = 2 + sum(1 + len(label) for label in target) + 1
    if start > len(data) or any(len(label) > _MAX_LABEL for label in target):
        return None  # also with a compressed name (RFC 9460, 2.2), whose end readers see at different places
    parameters: dict[int, bytes] = {}
    position = start
    while position < len(data):
        key, size = int.from_bytes(data[position : position + 2], "big"), data[position + 2 : position + 4]
        position += 4 + int.from_bytes(size, "big")
        if len(size) < 2 or position > len(data):
            return None
        parameters[key] = data[position - int.from_bytes(size, "big") : position]
    mandatory = parameters.get(_MANDATORY, b"")
    needed = {int.from_bytes(mandatory[at : at + 2], "big") for at in range(0, len(mandatory), 2)}
    if needed & _TAKEN_OUT:
        return None
    for key in _TAKEN_OUT:
        parameters.pop(key, None)
    if not udp and _ALPN in parameters:
        protocols = _without_http3(parameters[_ALPN])
        if protocols:
            parameters[_ALPN] = protocols
        elif _NO_DEFAULT_ALPN in parameters or _ALPN in needed:
            return None
        else:
            del parameters[_ALPN]
    rest = (key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in parameters.items())
    return data[:start] + b"".join(rest)


def target(data: bytes) -> str | None:
    """The name that a record leads to, in canonical form; None if that is its owner.

    Args:
        data: as from `sanitize`.
    """
    return text(data[2:]) if data[2] else None


def _without_http3(alpn: bytes) -> bytes:
    """A list of protocols without those of HTTP/3 (RFC 9114, 3.1): `h3`, and its drafts `h3-29`, ..."""
    kept, position = b"", 0
    while position < len(alpn):
        end = position + 1 + alpn[position]
        if not alpn[position + 1 : end].startswith(b"h3"):
            kept += alpn[position:end]
        position = end
    return kept
