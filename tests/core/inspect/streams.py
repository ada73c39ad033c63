"""Feeds inspectors with streams in pieces, and makes the streams."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sansnet_core.inspect import LIMIT, Forbidden, Inspector, make
from sansnet_core.policy import Check

ALLOWED = "allowed.example"
REFUSED = "refused.example"


@dataclass(frozen=True)
class Outcome:
    """The fate of a stream.

    Attributes:
        passed: the bytes that passed.
        name: the name that was forbidden.
        forbidden: whether the connection ended.
        done: whether all that follows passes.
        names: the names that were asked for.
        most: the most bytes that were held back after a piece.
    """

    passed: bytes
    name: str | None
    forbidden: bool
    done: bool
    names: tuple[str, ...]
    most: int


def outcome(
    check: Check,
    pieces: Iterable[bytes],
    *,
    strict: bool = True,
    allowed: Callable[[str], bool] = lambda name: name != REFUSED,
) -> Outcome:
    """Feed pieces to a new inspector, as TCP does."""
    names: list[str] = []

    def is_allowed(name: str) -> bool:
        names.append(name)
        return allowed(name)

    inspector = make(check, is_allowed, strict=strict)
    held = b""
    passed = b""
    most = 0
    for piece in pieces:
        held += piece
        try:
            size = inspector.feed(piece)
        except Forbidden as error:
            assert_ended(inspector)
            return Outcome(passed, error.name, True, False, tuple(names), most)
        assert 0 <= size <= len(held)
        passed += held[:size]
        held = held[size:]
        assert inspector.held == len(held)
        assert not (inspector.done and held)
        most = max(most, len(held))
    assert most <= LIMIT
    return Outcome(passed, None, False, inspector.done, tuple(names), most)


def assert_ended(inspector: Inspector) -> None:
    """It stays so."""
    for _ in range(2):
        try:
            inspector.feed(b"x")
        except Forbidden:
            continue
        raise AssertionError("bytes pass after the end")


def at_every_byte(stream: bytes) -> list[bytes]:
    """Pieces of one byte."""
    return [stream[index : index + 1] for index in range(len(stream))]


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """Pieces between some places, which are taken modulo the length."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[first:last] for first, last in itertools.pairwise(bounds)]


class Client:
    """A TLS client of the `ssl` module that gives its bytes."""

    def __init__(self, context: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)

    def flight(self) -> bytes:
        """Go on with the handshake; the bytes that the client sends."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
        return self.outgoing.read()


def client_context() -> ssl.SSLContext:
    """A context that trusts everyone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def vector(size: int, data: bytes) -> bytes:
    """A vector of TLS."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """An extension of TLS."""
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(*names: str, kind: int = 0) -> bytes:
    """The extension server_name."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name.encode()) for name in names)))


VERSIONS = extension(43, bytes.fromhex("0403040303"))
EARLY = extension(42, b"")


def hello(*extensions: bytes, rest: bytes = b"", version: bytes = b"\3\3", session: bytes = bytes(32)) -> bytes:
    """The handshake message ClientHello."""
    body = version + bytes(range(32)) + vector(1, session) + vector(2, b"\x13\x01\x13\x02") + vector(1, b"\0")
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\1" + vector(3, body + rest)


def record(data: bytes, kind: int = 22, version: bytes = b"\3\1") -> bytes:
    """A TLS record."""
    return bytes([kind]) + version + vector(2, data)


CHANGE_CIPHER_SPEC = record(b"\1", 20, b"\3\3")
