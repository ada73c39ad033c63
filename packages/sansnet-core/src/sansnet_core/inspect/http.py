"""Reads the hosts of HTTP/1 requests (RFC 9112, 3.2; RFC 9110, 7.2).

Theory of operation. Each request of a connection is read line by line, and its head passes as a whole, once the host is
known. To find the next request, bodies are counted by their length or their chunks, and pass at once. All that servers
are known to read in different ways ("request smuggling", RFC 9112, 11.2) is unclear: line ends without CR, folded
fields, spaces before the colon, several lengths, bodies of methods that have none, and more.

Upgrades lead out of HTTP. Only that to WebSocket is possible, with the first request of a connection: so the first
final response is the answer to it. Until it has come, nothing else passes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from sansnet_core.inspect.host_names import authority
from sansnet_core.inspect.inspector import LIMIT, Inspector, Unclear
from sansnet_core.orders import Buffer

__all__ = ["HttpInspector"]

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})
"""Control characters, which no line may have (RFC 9110, 5.5); a tab is none."""
_MAX_METHOD: Final = 32
_MAX_DIGITS: Final = 15
"""The most digits of a length, so that servers that compute with fewer bits read the same one."""
_WITHOUT_BODY: Final = (b"GET", b"HEAD", b"TRACE", b"CONNECT")
"""Methods whose body some servers take for the next request (RFC 9110, 9.3.1)."""
_PORTS: Final = {b"http": 80, b"https": 443}
_FRAMING: Final = (b"host", b"content-length", b"transfer-encoding", b"upgrade")
"""Fields that have no meaning in trailers (RFC 9110, 6.5.1)."""


class _State(Enum):
    START = "the request line"
    HEAD = "the fields of the head"
    CHUNK_SIZE = "the size of a chunk"
    CHUNK_END = "the end of a chunk's data"
    TRAILERS = "the fields after the last chunk"
    UPGRADE = "a request for an upgrade, until its response has come"


class _Request:
    """The parts of a request's head that matter."""

    __slots__ = ("codings", "host", "hosts", "lengths", "method", "minor", "target", "upgrades")

    def __init__(self, method: bytes, minor: int, target: tuple[str, int, int] | None) -> None:
        self.method = method
        self.minor = minor
        """The last digit of the version."""
        self.target = target
        """Host and port of a target in absolute form, and the default port of its scheme."""
        self.host: tuple[str, int | None] | None = None
        self.hosts = 0
        self.lengths: list[bytes] = []
        self.codings: list[bytes] = []
        self.upgrades: list[bytes] = []


class HttpInspector(Inspector):
    """Finds the hosts of all requests of a connection."""

    __slots__ = ("_first", "_left", "_line", "_request", "_response", "_state", "_waiting")

    def __init__(self, is_allowed: Callable[[str], bool], *, strict: bool) -> None:
        super().__init__(is_allowed, strict=strict)
        self._state = _State.START
        self._line = bytearray()
        """The beginning of a line."""
        self._left = 0
        """Bytes that are left of a body or a chunk."""
        self._request: _Request | None = None
        self._first = True
        """No head of a request has been complete."""
        self._waiting = bytearray()
        """The guest's bytes behind a request for an upgrade."""
        self._response = bytearray()
        """The beginning of the host's response to it."""

    def inspect(self, data: Buffer) -> None:
        raw: bytes | None = None
        offset, size = 0, len(data)
        while offset < size and not self.done:
            if self._left:
                step = min(self._left, size - offset)
                self._left -= step
                self.position += step
                self.checked = self.position
                offset += step
                continue
            if raw is None:
                raw = bytes(data)
            if self._state is _State.UPGRADE:
                self._waiting += raw[offset:]
                if len(self._waiting) > LIMIT:
                    raise Unclear("too many bytes before the response to an upgrade")
                return
            end = raw.find(b"\n", offset) + 1
            line = self._line
            line += raw[offset : end or size]
            self.position += (end or size) - offset
            self.bound()
            if end:
                whole = bytes(line)
                line.clear()
                self._read_line(whole)
            elif self._state is _State.START:
                _check_start(line)
            offset = end or size

    def answer(self, data: Buffer) -> bytes:
        response = self._response
        response += data[:LIMIT]
        while len(response) >= 12:
            if response[9:12] == b"101" and response.startswith(b"HTTP/1."):
                self.awaits_host = False
                self.done = True
                return b""
            if response[9:10] != b"1" or not response.startswith(b"HTTP/1."):
                break
            end = response.find(b"\r\n\r\n")
            if end < 0:
                if len(response) < LIMIT:
                    return b""
                break
            del response[: end + 4]
        else:
            return b""
        self.awaits_host = False
        self._state = _State.START
        response.clear()
        waiting = bytes(self._waiting)
        self._waiting.clear()
        return waiting

    def _read_line(self, line: bytes) -> None:
        """Read a whole line, with its end."""
        text = line.rstrip(b"\r\n")
        if line != text + b"\r\n":
            self.doubt("a line of the request does not end with CR LF")
        if len(text.translate(None, _CONTROLS)) != len(text):
            self.doubt("the request has a control character")
        match self._state:
            case _State.START:
                if text:
                    self._request = self._read_start(text)
                    self._state = _State.HEAD
                else:
                    self.checked = self.position
            case _State.HEAD:
                assert self._request is not None
                if text:
                    self._read_field(self._request, text)
                else:
                    self._end_head(self._request)
            case _State.CHUNK_SIZE:
                self._left = _chunk_size(text)
                self._state = _State.CHUNK_END if self._left else _State.TRAILERS
                self.checked = self.position
            case _State.CHUNK_END:
                if text:
                    raise Unclear("a chunk is longer than its size")
                self._state = _State.CHUNK_SIZE
                self.checked = self.position
            case _:  # the state is TRAILERS
                if not text:
                    self._state = _State.START
                    self.checked = self.position
                elif self._field(text)[0] in _FRAMING:
                    self.doubt("the request has a field in its trailers that belongs into its head")

    def _read_start(self, text: bytes) -> _Request:
        """Read a request line (RFC 9112, 3)."""
        parts = text.split(b" ")
        if len(parts) != 3 or not _is_method(parts[0]) or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Unclear("the first line is no request of HTTP/1")
        method, target, version = parts
        if method == b"CONNECT":
            self.see(authority(target)[0])
            raise Unclear("the method CONNECT leads out of the connection")
        named = None
        if not target.startswith(b"/") and (target, method) != (b"*", b"OPTIONS"):
            scheme, separator, rest = target.partition(b"://")
            default = _PORTS.get(scheme.lower())
            if not separator or default is None:
                raise Unclear("the target of the request has an unknown form")
            host, port = authority(rest.translate(_TO_SLASH).partition(b"/")[0])
            self.see(host)
            named = host, port or default, default
        return _Request(method, version[-1] - ord("0"), named)

    def _field(self, text: bytes) -> tuple[bytes, bytes]:
        """Name, in lower case, and value of a field (RFC 9112, 5)."""
        name, colon, value = text.partition(b":")
        if not colon or not _is_token(name):
            self.doubt("a field of the request is folded or malformed")
        return name.strip(b" \t").lower(), value.strip(b" \t")

    def _read_field(self, request: _Request, text: bytes) -> None:
        name, value = self._field(text)
        match name:
            case b"host":
                request.hosts += 1
                request.host = authority(value)
                self.see(request.host[0])
            case b"content-length":
                request.lengths.append(value)
            case b"transfer-encoding":
                request.codings.append(value.lower())
            case b"upgrade":
                request.upgrades.append(value.lower())

    def _end_head(self, request: _Request) -> None:
        if request.host is None or request.hosts != 1:
            self.doubt("the request has no Host field, or several")
        elif request.target is not None:
            name, port = request.host
            if request.target[:2] != (name, port or request.target[2]):
                self.doubt("the target and the Host field of the request differ")
        length = _length(request)
        if request.method in _WITHOUT_BODY and length != 0:
            self.doubt("the request has a body, which its method does not have")
        if request.upgrades:
            plain = self._first and request.method == b"GET" and request.minor and length == 0
            if not plain or request.upgrades != [b"websocket"]:
                raise Unclear("the request asks for an upgrade other than to WebSocket, or not as the first request")
            self.awaits_host = True
            self._state = _State.UPGRADE
        elif length is None:
            self._state = _State.CHUNK_SIZE
        else:
            self._left = length
            self._state = _State.START
        self._first = False
        self._request = None
        self.checked = self.position


_TO_SLASH: Final = bytes.maketrans(b"?#", b"//")


def _is_token(text: bytes) -> bool:
    return bool(text) and not text.translate(None, _TOKEN)


def _is_method(text: bytes) -> bool:
    return _is_token(text) and len(text) <= _MAX_METHOD


def _check_start(line: bytearray) -> None:
    """Check the beginning of a request line, so that another protocol is found out at once."""
    if line.rstrip(b"\r") and not _is_method(bytes(line[: _MAX_METHOD + 1]).partition(b" ")[0]):
        raise Unclear("the first line is no request of HTTP/1")


def _length(request: _Request) -> int | None:
    """The length of the body (RFC 9112, 6.3); None if it is chunked."""
    if request.codings:
        if request.codings != [b"chunked"] or request.lengths or not request.minor:
            raise Unclear("the length of the request's body is not clear")
        return None
    if not request.lengths:
        return 0
    digits = request.lengths[0]
    if len(request.lengths) > 1 or not 0 < len(digits) <= _MAX_DIGITS or digits.translate(None, _DIGITS):
        raise Unclear("the length of the request's body is not clear")
    return int(digits)


def _chunk_size(text: bytes) -> int:
    """The size of a chunk (RFC 9112, 7.1); extensions have no effect."""
    digits = text.partition(b";")[0]
    if not 0 < len(digits) <= _MAX_DIGITS or digits.translate(None, _HEX):
        raise Unclear("the size of a chunk is malformed")
    return int(digits, 16)
