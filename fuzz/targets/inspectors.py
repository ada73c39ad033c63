"""The inspectors of the first bytes of connections, against other parsers of TLS and HTTP.

However a stream is cut, the outcome is the same. In the bytes that a strict inspector lets pass, OpenSSL and h11 find
no other names than those that were asked about.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

import h11

from fuzz.choices import Choices
from fuzz.registry import target
from sansnet_core.inspect.host_names import authority
from sansnet_core.inspect.inspector import Unclear
from sansnet_core.policy import Check
from tests.core.inspect import streams

__all__ = ["http_requests", "tls_hellos"]

_H: Final = b"Host: allowed.example\r\n"
_GET: Final = b"GET / HTTP/1.1\r\n" + _H + b"\r\n"


def _pieces(stream: bytes, cuts: bytes) -> Iterator[bytes]:
    for cut in cuts:
        yield stream[: cut + 1]
        stream = stream[cut + 1 :]
    yield stream


def _checked(check: Check, data: bytes) -> streams.Outcome:
    """The outcome of a strict inspector; that of a watching one does not depend on the pieces either."""
    choices = Choices(data)
    cuts = choices.take(choices.number(8))
    stream = choices.rest()
    outcomes = []
    for strict in (True, False):
        whole = streams.outcome(check, [stream], strict=strict)
        split = streams.outcome(check, _pieces(stream, cuts), strict=strict)
        assert (split.forbidden, split.name, split.names) == (whole.forbidden, whole.name, whole.names)
        assert whole.forbidden or split.passed == whole.passed
        assert whole.passed == stream[: len(whole.passed)]
        assert streams.REFUSED not in whole.names or whole.name == streams.REFUSED
        outcomes.append(split)
    return outcomes[0]


def _hellos() -> Iterable[bytes]:
    found = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = streams.client_context()
        context.maximum_version = version
        found.append(streams.Client(context, streams.ALLOWED).flight())
    names = streams.server_name(streams.ALLOWED)
    plain = streams.record(streams.hello(names))
    found += [plain, streams.record(streams.hello(names, streams.VERSIONS)) + streams.CHANGE_CIPHER_SPEC + plain]
    return [b"\0" + hello for hello in found] + [b"\2\7\x20" + found[0]]


@cache
def _server() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _names_by_openssl(stream: bytes) -> list[str]:
    """The server names that OpenSSL finds. It needs no certificate for that."""
    found: list[str] = []
    context = _server()

    def see(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        if name is not None:
            found.append(name.lower().removesuffix("."))

    context.sni_callback = see
    incoming = ssl.MemoryBIO()
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    incoming.write(stream)
    try:
        server.do_handshake()
    except (ssl.SSLError, UnicodeDecodeError):
        pass
    finally:
        context.sni_callback = None
    return found


@target(seeds=_hellos, words=(b"\x16\3\1", b"\x14\3\3\0\1\1", b"allowed.example", b"refused.example", b"\0\x2b\0\3"))
def tls_hellos(data: bytes) -> None:
    """The beginning of a TLS connection."""
    outcome = _checked(Check.TLS, data)
    if outcome.passed:
        assert set(_names_by_openssl(outcome.passed)) <= set(outcome.names)


def _hosts_by_h11(stream: bytes) -> list[bytes]:
    """The hosts of the requests that h11 reads, up to one that it refuses."""
    connection = h11.Connection(h11.SERVER)
    hosts: list[bytes] = []
    connection.receive_data(stream)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                hosts += [value for name, value in event.headers if name == b"host"]
            elif isinstance(event, h11.EndOfMessage):
                if connection.their_state is h11.MUST_CLOSE:
                    return hosts
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return hosts
    except h11.RemoteProtocolError:
        return hosts


def _requests() -> Iterable[bytes]:
    post = b"POST / HTTP/1.1\r\n" + _H
    found = [
        _GET + _GET,
        _GET.replace(b"1.1", b"1.0"),
        post + b"Content-Length: 5\r\n\r\n01234" + _GET,
        post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n" + _GET,
        b"GET http://allowed.example:80/ HTTP/1.1\r\nHost: allowed.example:80\r\n\r\n",
        _GET.replace(_H, _H + b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
        _GET + b"GET / HTTP/1.1\r\nHost: refused.example\r\n\r\n",
    ]
    return [b"\0" + request for request in found] + [b"\3\4\x20\7" + found[2]]


_WORDS: Final = (b"\r\n", b"Host: refused.example\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"\n")
_MORE_WORDS: Final = (b" HTTP/1.1\r\n", b"http://", b"CONNECT ", b"Upgrade: websocket\r\n", b"0\r\n\r\n", b"[::1]")


@target(seeds=_requests, words=_WORDS + _MORE_WORDS)
def http_requests(data: bytes) -> None:
    """A connection of HTTP/1."""
    outcome = _checked(Check.HTTP, data)
    for host in _hosts_by_h11(outcome.passed):
        try:
            assert authority(host)[0] in outcome.names
        except Unclear:
            raise AssertionError(f"the host {host!r} has passed") from None
