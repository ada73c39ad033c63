"""HTTP CONNECT: requests, the end of the response to the byte, status codes, hostile proxies; h11 as a proxy."""

from __future__ import annotations

from base64 import b64encode
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, EPROTO, ETIMEDOUT

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.proxy import Handshake, connect
from tests.core.proxy.dialogue import dialogue


def handshake(
    host: str | bytes = "packages.example", user: str | None = None, password: str | None = None
) -> Handshake:
    server = Endpoint("192.0.2.9", 3128)
    proxy = ProxyConfig(name="office", kind=ProxyKind.HTTP, server=server, user=user, password=password)
    return connect(proxy, host, 443)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("packages.example", "packages.example:443"),
        (Endpoint("192.0.2.7", 1).address, "192.0.2.7:443"),
        (Endpoint("2001:db8::7", 1).address, "[2001:db8::7]:443"),
    ],
)
@pytest.mark.parametrize("user", [None, "me"])
def test_requests(host: str | bytes, target: str, user: str | None) -> None:
    """As h11 reads them."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(handshake(host, user, user and "päss").start())
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target.decode()) == (b"CONNECT", target)
    fields = dict(request.headers)
    assert fields.pop(b"host").decode() == target
    credentials = b"Basic " + b64encode("me:päss".encode())
    assert fields == ({} if user is None else {b"proxy-authorization": credentials})
    assert isinstance(server.next_event(), h11.EndOfMessage)


RESPONSES = [
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nProxy-agent: x\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\nX:\n\n",
    b"HTTP/1.0 200 OK\n\n",
    b"HTTP/1.1 200 OK\nVia: a\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 299 x\r\n\r\n",
]


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("most", [1, 2, 3, 5, 1000])
def test_responses_are_read_to_their_end(response: bytes, most: int) -> None:
    dialog = handshake()
    _, left = dialogue(dialog, [response + b"\r\n220 the destination\r\n"], most)
    assert left == b"\r\n220 the destination\r\n"
    assert (dialog.done, dialog.errno) == (True, 0)


@pytest.mark.parametrize("response", RESPONSES)
def test_a_response_that_is_not_complete(response: bytes) -> None:
    for size in range(len(response)):
        dialog = handshake()
        dialogue(dialog, [response[:size]])
        assert not dialog.done
        assert 0 < dialog.needed <= len(response) - size


@pytest.mark.parametrize(
    ("status", "errno"),
    [
        (b"403 Forbidden", EACCES),
        (b"407 Proxy Authentication Required", EACCES),
        (b"404 Not Found", EHOSTUNREACH),
        (b"405 Method Not Allowed", EACCES),
        (b"500 Unable to connect", EHOSTUNREACH),
        (b"502 Bad Gateway", EHOSTUNREACH),
        (b"503 Service Unavailable", ECONNREFUSED),
        (b"504 Gateway Timeout", ETIMEDOUT),
        (b"301 Moved", EPROTO),
        (b"400 Bad Request", EPROTO),
        (b"999 x", EPROTO),
    ],
)
def test_failures(status: bytes, errno: int) -> None:
    dialog = handshake()
    dialogue(dialog, [b"HTTP/1.1 " + status + b"\r\n\r\n"])
    assert (dialog.done, dialog.errno) == (True, errno)


@pytest.mark.parametrize(
    "response",
    [
        b"\5\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"HTTP/1.1-200 OK\r\n",
        b"HTTP/1.1 abc OK\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000,
        b"HTTP/1.1 100 x\r\n" + b"X: y\r\n" * 3000,
    ],
)
def test_proxies_that_break_the_protocol(response: bytes) -> None:
    for most in (1, 1000):
        dialog = handshake()
        dialogue(dialog, [response], most)
        assert (dialog.done, dialog.errno) == (True, EPROTO)


@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from(RESPONSES)), max_size=6))
def test_hostile_proxies(answers: list[bytes]) -> None:
    dialogue(handshake(), [*answers, bytes(50)])
