"""HTTP CONNECT (RFC 9110, 9.3.6) with Basic credentials (RFC 7617)."""

from __future__ import annotations

from binascii import b2a_base64
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, EPROTO, ETIMEDOUT
from typing import Final

from sansnet_core.addresses import format
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.proxy.handshake import Destination, Handshake

__all__ = ["HttpConnect"]

_MAX_HEAD: Final = 16 << 10
"""Bytes of one response's head."""
_STATUS: Final = len(b"HTTP/1.1 200")

_ERRNOS: Final = {
    401: EACCES,
    403: EACCES,
    404: EHOSTUNREACH,
    405: EACCES,
    407: EACCES,
    408: ETIMEDOUT,
    451: EACCES,
    501: EACCES,
    503: ECONNREFUSED,
    504: ETIMEDOUT,
}
"""Status codes of failure (RFC 9110, 15). Proxies use those from 500 on for connects that fail."""


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpConnect(Handshake):
    """The dialogue for one connection.

    Args:
        destination: a port of 0 is not possible.
        user, password: credentials; None if the proxy needs none.
    """

    __slots__ = ("_credentials", "_destination")

    def __init__(self, destination: Destination, user: str | None = None, password: str | None = None) -> None:
        super().__init__()
        self._destination = destination
        self._credentials = b""
        if user is not None:
            plain = f"{user}:{password or ''}".encode()
            self._credentials = b"Proxy-Authorization: Basic " + b2a_base64(plain, newline=False) + b"\r\n"

    def start(self) -> bytes:
        host, port = self._destination
        text = host if isinstance(host, str) else format(host)
        authority = (f"[{text}]:{port}" if ":" in text else f"{text}:{port}").encode("ascii")
        self.expect(_STATUS)
        return b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n" + self._credentials + b"\r\n"

    def read(self, buffer: bytes) -> bytes:
        """Read the head of a response; those before the final one (1xx) are skipped."""
        if not b"HTTP/1.".startswith(buffer[:7]) or len(buffer) > _MAX_HEAD:
            return self.break_off()
        if len(buffer) < _STATUS:
            return b""
        code = buffer[9:12]
        if not code.isdigit() or buffer[8:9] != b" ":
            return self.break_off()
        if code[:1] not in b"12":
            return self.end(_ERRNOS.get(int(code), EHOSTUNREACH if code[:1] == b"5" else EPROTO))
        if not buffer.endswith((b"\n\r\n", b"\n\n")):
            return self.more(len(buffer) + (1 if buffer.endswith((b"\n", b"\n\r")) else 2))
        if code[:1] == b"1":
            self.expect(_STATUS)
            return b""
        return self.end()
