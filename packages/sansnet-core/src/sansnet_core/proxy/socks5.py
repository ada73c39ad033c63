"""SOCKS5 (RFC 1928) with user and password (RFC 1929): connections, and the relay of datagrams."""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EAFNOSUPPORT,
    ECONNREFUSED,
    EHOSTUNREACH,
    ENETUNREACH,
    EPROTO,
    ETIMEDOUT,
)
from typing import Final

from sansnet_core.addresses import UNSPECIFIED, Endpoint, is_unspecified
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.orders import Buffer
from sansnet_core.proxy.handshake import Destination, Handshake

__all__ = ["HEADER_ROOM", "Socks5", "associate_request", "connect_request", "unwrap", "wrap"]

_VERSION: Final = 5
_AUTHENTICATION_VERSION: Final = 1
_NO_AUTHENTICATION: Final = 0
_USER_AND_PASSWORD: Final = 2
_CONNECT: Final = 1
_ASSOCIATE: Final = 3
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4
_SIZES: Final = {_IPV4: 4, _IPV6: 16}

_ERRNOS: Final = {
    1: EHOSTUNREACH,  # general failure
    2: EACCES,  # not allowed by the ruleset
    3: ENETUNREACH,
    4: EHOSTUNREACH,
    5: ECONNREFUSED,
    6: ETIMEDOUT,  # TTL expired
    7: EACCES,  # command not supported, as the relay of datagrams
    8: EAFNOSUPPORT,  # type of address not supported
}
"""Replies of failure (RFC 1928, 6)."""

HEADER_ROOM: Final = 262
"""The most bytes that `wrap` adds to a datagram."""


def _packed(destination: Destination) -> bytes:
    """A destination in a request or before a datagram (RFC 1928, 4 and 5)."""
    host, port = destination
    if isinstance(host, str):
        name = host.encode("ascii")
        return bytes([_NAME, len(name)]) + name + port.to_bytes(2, "big")
    return bytes([_IPV4 if len(host) == 4 else _IPV6]) + host + port.to_bytes(2, "big")


def connect_request(destination: Destination) -> bytes:
    """A request for a connection."""
    return bytes([_VERSION, _CONNECT, 0]) + _packed(destination)


def associate_request(size: int) -> bytes:
    """A request for the relay of datagrams, whose sender is not known yet.

    Args:
        size: of an address of the proxy's family.
    """
    return bytes([_VERSION, _ASSOCIATE, 0]) + _packed(Destination(UNSPECIFIED[size], 0))


@mypyc_attr(allow_interpreted_subclasses=True)
class Socks5(Handshake):
    """The dialogue for one request.

    Args:
        request: of `connect_request` or `associate_request`.
        user, password: credentials, at most 255 bytes each in UTF-8; None if the proxy needs none.

    Attributes:
        bound: the endpoint of the reply: for an associate request, that of the relay. None if the reply has a name, or
            an unspecified address, which stands for the proxy's own; `bound_port` is its port.
    """

    __slots__ = ("_password", "_request", "_step", "_user", "bound", "bound_port")

    def __init__(self, request: bytes, user: str | None = None, password: str | None = None) -> None:
        super().__init__()
        self._request = request
        self._user = None if user is None else user.encode()
        self._password = (password or "").encode()
        self._step: Callable[[bytes], bytes] = self._read_method
        self.bound: Endpoint | None = None
        self.bound_port = 0

    def start(self) -> bytes:
        self.expect(2)
        methods = [_NO_AUTHENTICATION] if self._user is None else [_NO_AUTHENTICATION, _USER_AND_PASSWORD]
        return bytes([_VERSION, len(methods), *methods])

    def read(self, buffer: bytes) -> bytes:
        return self._step(buffer)

    def _read_method(self, buffer: bytes) -> bytes:
        if buffer[0] != _VERSION:
            return self.break_off()
        if len(buffer) < 2:
            return b""
        if buffer[1] == _NO_AUTHENTICATION:
            return self._send_request()
        if buffer[1] != _USER_AND_PASSWORD or self._user is None:
            return self.end(EACCES)
        self._step = self._read_authentication
        self.expect(2)
        user, password = self._user, self._password
        return bytes([_AUTHENTICATION_VERSION, len(user)]) + user + bytes([len(password)]) + password

    def _read_authentication(self, buffer: bytes) -> bytes:
        if len(buffer) < 2:
            return b""
        return self.end(EACCES) if buffer[1] else self._send_request()

    def _send_request(self) -> bytes:
        self._step = self._read_reply
        self.expect(2)
        return self._request

    def _read_reply(self, buffer: bytes) -> bytes:
        """Read the reply (RFC 1928, 6). One of failure may be cut off behind its code."""
        if buffer[0] != _VERSION:
            return self.break_off()
        if len(buffer) < 2:
            return b""
        if buffer[1]:
            return self.end(_ERRNOS.get(buffer[1], EPROTO))
        if len(buffer) < 5:
            return self.more(5)
        kind = buffer[3]
        size = 1 + buffer[4] if kind == _NAME else _SIZES.get(kind)
        if size is None:
            return self.break_off()
        whole = 4 + size + 2
        if len(buffer) < whole:
            return self.more(whole)
        self.bound_port = int.from_bytes(buffer[-2:], "big")
        address = buffer[4 : 4 + size]
        if kind != _NAME and not is_unspecified(address):
            self.bound = Endpoint._make((address, self.bound_port))
        return self.end()


def wrap(destination: Destination, data: Buffer) -> bytes:
    """A datagram for the relay (RFC 1928, 7)."""
    return b"\0\0\0" + _packed(destination) + data


def unwrap(datagram: Buffer) -> tuple[Destination, Buffer] | None:
    """The source and the data of a datagram of the relay; None if it is malformed or a fragment."""
    if len(datagram) < 5 or datagram[2]:
        return None
    kind = datagram[3]
    start = 5 if kind == _NAME else 4
    size = datagram[4] if kind == _NAME else _SIZES.get(kind)
    if size is None or len(datagram) < start + size + 2:
        return None
    end = start + size + 2
    port = int.from_bytes(datagram[end - 2 : end], "big")
    host = bytes(datagram[start : end - 2])
    if kind != _NAME:
        return Destination(host, port), datagram[end:]
    if not host.isascii():
        return None
    return Destination(host.decode("ascii").lower().removesuffix("."), port), datagram[end:]
