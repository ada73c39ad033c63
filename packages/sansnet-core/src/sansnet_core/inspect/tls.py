"""Reads the server name of a TLS ClientHello (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3).

Theory of operation. The first record must begin a ClientHello, which may be spread over many records. Nothing passes
before it is complete. Then everything passes, with one exception: a server of TLS 1.3 may ask for a second ClientHello
(HelloRetryRequest), which a client sends in plain text and could give another name. Before it there may be alerts, a
ChangeCipherSpec (RFC 8446, D.4) and, if the first one offered it, early data. So these records pass until another one
decides:

- application data without an offer of early data: it is encrypted, and the handshake of TLS 1.3 is nearly over;
- a handshake message of another type: TLS 1.2 goes on without a second ClientHello;
- a handshake message that could be a ClientHello: it is checked as the first one. After a ChangeCipherSpec of TLS 1.2,
  the encrypted Finished is of the same record type. Its first bytes are random, so one in some hundred thousands looks
  like a ClientHello; its connection stalls or ends.

Only what all servers refuse makes a message another one. Some take a second ClientHello of any version, and of any size
that its fields can have.

With Encrypted Client Hello, the name is that of the outer ClientHello.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sansnet_core.inspect.host_names import canonical
from sansnet_core.inspect.inspector import LIMIT, Inspector, Unclear
from sansnet_core.orders import Buffer

__all__ = ["TlsInspector"]

_CHANGE_CIPHER_SPEC: Final = 20
_ALERT: Final = 21
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23

_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_EARLY_DATA: Final = 42
_SUPPORTED_VERSIONS: Final = 43
_HOST_NAME: Final = 0

_RECORD_HEADER: Final = 5
_MESSAGE_HEADER: Final = 4
_MAX_PLAIN: Final = 1 << 14
_MAX_ENCRYPTED: Final = _MAX_PLAIN + 2048
"""RFC 5246, 6.2.3; less in TLS 1.3."""
_MAX_HELLO: Final = 2 + 32 + (1 + 32) + (2 + 65534) + (1 + 255) + (2 + 65535)
"""Bytes of the largest ClientHello: version, random, and four vectors of which each is full (RFC 8446, 4.1.2)."""


class TlsInspector(Inspector):
    """Finds the server names of a connection's plain ClientHellos."""

    __slots__ = ("_early", "_message", "_record", "_second", "_skip")

    def __init__(self, is_allowed: Callable[[str], bool], *, strict: bool) -> None:
        super().__init__(is_allowed, strict=strict)
        self._record = bytearray()
        """The beginning of a record."""
        self._message = bytearray()
        """The beginning of a ClientHello."""
        self._skip = 0
        """Bytes of early data that follow in the record."""
        self._second = False
        """A second ClientHello may come."""
        self._early = False
        """Early data may come before it."""

    def inspect(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view) and not self.done:
            if self._skip:
                size = min(self._skip, len(view))
                self._skip -= size
                self.position += size
                self.checked = self.position
            else:
                size = self._collect(view)
            view = view[size:]

    def _collect(self, view: memoryview) -> int:
        """Add bytes to the record, up to the end of its header, or to its end; the number of bytes."""
        record = self._record
        whole = _RECORD_HEADER
        if len(record) >= _RECORD_HEADER:
            whole += int.from_bytes(record[3:5], "big")
        taken = view[: whole - len(record)]
        record += taken
        self.position += len(taken)
        self.bound()
        if len(record) <= _RECORD_HEADER:
            self._read_header(record)
        else:
            if not self._message and record[0] == _HANDSHAKE and record[_RECORD_HEADER] != _CLIENT_HELLO:
                if not self._second:
                    raise Unclear("the first message is no ClientHello")
                self.done = True
            elif len(record) == whole:
                kind, payload = record[0], bytes(record[_RECORD_HEADER:])
                record.clear()
                self._read(kind, payload)
        return len(taken)

    def _read_header(self, header: bytearray) -> None:
        """Check the bytes of a record's header as they come, so that another protocol is found out at once."""
        kind = header[0]
        if kind != _HANDSHAKE and (self._message or not self._second):
            raise Unclear("the bytes are no TLS handshake")
        if kind == _APPLICATION_DATA and not self._early:
            self.done = True
            return
        if not _CHANGE_CIPHER_SPEC <= kind <= _APPLICATION_DATA or (len(header) > 1 and header[1] != 3):
            raise Unclear("the bytes are no TLS record")
        if len(header) < _RECORD_HEADER:
            return
        size = int.from_bytes(header[3:], "big")
        if not (size > 0 or kind == _APPLICATION_DATA) or size > (_MAX_ENCRYPTED if self._second else _MAX_PLAIN):
            raise Unclear("a TLS record has a wrong length")
        if kind == _APPLICATION_DATA:
            self._skip = size
            header.clear()
            self.checked = self.position

    def _read(self, kind: int, payload: bytes) -> None:
        """Read a whole record."""
        if kind != _HANDSHAKE:
            self.checked = self.position
            return
        message = self._message
        message += payload
        if self._second and not _could_be_hello(message):
            self.done = True
            return
        if len(message) < _MESSAGE_HEADER:
            return
        whole = _MESSAGE_HEADER + int.from_bytes(message[1:4], "big")
        if whole > LIMIT:
            raise Unclear(f"the ClientHello is longer than {LIMIT} bytes")
        if len(message) < whole:
            return
        if len(message) > whole:
            self.doubt("more bytes follow the ClientHello in its record")
        versions = self._read_hello(_Reader(bytes(message[_MESSAGE_HEADER:whole])))
        message.clear()
        self.checked = self.position
        self.done = self._second or not versions
        self._second = True

    def _read_hello(self, body: _Reader) -> bool:
        """Read a ClientHello; whether it offers the negotiation of versions, which TLS 1.3 begins with."""
        if body.take(2)[0] != 3:
            raise Unclear("the ClientHello is of an unknown version")
        body.take(32)
        if len(body.vector(1)) > 32 or len(body.vector(2)) % 2 or not body.vector(1):
            raise Unclear("the ClientHello is malformed")
        seen: set[int] = set()
        if body.left:
            extensions = _Reader(body.vector(2))
            if body.left:
                self.doubt("bytes follow the extensions of the ClientHello")
            while extensions.left:
                kind = extensions.number(2)
                value = extensions.vector(2)
                if kind in seen:
                    self.doubt("the ClientHello has an extension twice")
                seen.add(kind)
                if kind == _SERVER_NAME:
                    self._read_names(_Reader(value))
        if _SERVER_NAME not in seen:
            raise Unclear("the ClientHello has no server name")
        self._early = _EARLY_DATA in seen
        return _SUPPORTED_VERSIONS in seen

    def _read_names(self, extension: _Reader) -> None:
        names = _Reader(extension.vector(2))
        if extension.left:
            self.doubt("bytes follow the server name")
        count = 0
        while names.left:
            kind = names.number(1)
            name = names.vector(2)
            count += 1
            if kind == _HOST_NAME:
                self.see(canonical(name))
            else:
                self.doubt("the server name is of an unknown type")
        if count != 1:
            self.doubt("the ClientHello has no server name, or several")


class _Reader:
    """Reads numbers and vectors (RFC 8446, 3.3 and 3.4).

    Raises:
        Unclear: fewer bytes are left than are read.
    """

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def left(self) -> int:
        """The number of bytes that are left."""
        return len(self._data) - self._offset

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.left:
            raise Unclear("a length in the ClientHello is wrong")
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def number(self, size: int) -> int:
        """The next number of some bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """The next bytes, after their number, which has some bytes itself."""
        return self.take(self.number(size))


def _could_be_hello(message: bytearray) -> bool:
    """Whether bytes could be the beginning of a second ClientHello that a server accepts: its type and lengths.

    The version may be any: if the extension for versions is there, RFC 8446, 4.2.1 has servers ignore this one.
    """
    return (
        message[0] == _CLIENT_HELLO
        and (len(message) < 2 or message[1] <= _MAX_HELLO >> 16)
        and (len(message) < 39 or message[38] <= 32)
    )
