"""SOCKS5: each message by RFC 1928 and RFC 1929, in pieces of any size, and hostile proxies."""

from __future__ import annotations

import socket
from errno import EACCES, EAFNOSUPPORT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPROTO, ETIMEDOUT

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint
from sansnet_core.policy import ProxyConfig, ProxyKind
from sansnet_core.proxy import Destination, connect
from sansnet_core.proxy.socks5 import HEADER_ROOM, Socks5, associate_request, connect_request, unwrap, wrap
from tests.core.proxy.dialogue import dialogue

NAME = Destination("packages.example", 443)
REQUEST = b"\5\1\0\3\x10packages.example\1\xbb"
BOUND = b"\5\0\0\1\xc0\0\2\1\4\x38"


def proxy(user: str | None = None, password: str | None = None) -> ProxyConfig:
    return ProxyConfig(
        name="office", kind=ProxyKind.SOCKS5, server=Endpoint("192.0.2.9", 1080), user=user, password=password
    )


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_a_connection_to_a_name(most: int) -> None:
    handshake = connect(proxy(), *NAME)
    sent, left = dialogue(handshake, [b"\5\0", BOUND + b"the destination's bytes"], most)
    assert sent == [b"\5\1\0", REQUEST]
    assert left == b"the destination's bytes"
    assert handshake.done
    assert not handshake.errno


@pytest.mark.parametrize("most", [1, 1000])
def test_credentials(most: int) -> None:
    handshake = connect(proxy("süd", "geheim"), *NAME)
    sent, left = dialogue(handshake, [b"\5\2", b"\1\0", BOUND + b"x"], most)
    assert sent == [b"\5\2\0\2", b"\1\4s\xc3\xbcd\6geheim", REQUEST]
    assert left == b"x"
    assert (handshake.done, handshake.errno) == (True, 0)


def test_credentials_that_the_proxy_does_not_need() -> None:
    handshake = connect(proxy("user", "secret"), *NAME)
    assert dialogue(handshake, [b"\5\0", BOUND])[0] == [b"\5\2\0\2", REQUEST]
    assert (handshake.done, handshake.errno) == (True, 0)


@pytest.mark.parametrize(
    ("address", "packed"), [("192.0.2.7", b"\1\xc0\0\2\7"), ("2001:db8::7", b"\4 \1\r\xb8" + bytes(11) + b"\7")]
)
def test_a_connection_to_an_address(address: str, packed: bytes) -> None:
    assert connect_request(Destination(Endpoint(address, 22).address, 22)) == b"\5\1\0" + packed + b"\0\x16"


@pytest.mark.parametrize(
    "bound", [b"\1" + bytes(4), b"\1\xc0\0\2\1", b"\4" + bytes(16), b"\3\0", b"\3\5proxy", b"\3\xff" + b"x" * 255]
)
def test_replies_of_all_sizes_are_read_to_their_end(bound: bytes) -> None:
    handshake = connect(proxy(), *NAME)
    _, left = dialogue(handshake, [b"\5\0", b"\5\0\0" + bound + b"\0\x50" + b"rest"], 1000)
    assert left == b"rest"
    assert (handshake.done, handshake.errno) == (True, 0)


@pytest.mark.parametrize(
    ("code", "errno"),
    [
        (1, EHOSTUNREACH),
        (2, EACCES),
        (3, ENETUNREACH),
        (4, EHOSTUNREACH),
        (5, ECONNREFUSED),
        (6, ETIMEDOUT),
        (7, EACCES),
        (8, EAFNOSUPPORT),
        (9, EPROTO),
        (255, EPROTO),
    ],
)
def test_failures(code: int, errno: int) -> None:
    """Also if the proxy sends no more than the code."""
    handshake = connect(proxy(), *NAME)
    dialogue(handshake, [b"\5\0", bytes([5, code])])
    assert (handshake.done, handshake.errno, handshake.needed) == (True, errno, 0)


@pytest.mark.parametrize(
    ("user", "answers", "errno"),
    [
        (None, [b"\4\0"], EPROTO),
        (None, [b"HTTP/1.1 400 Bad Request"], EPROTO),
        (None, [b"\5\xff"], EACCES),
        (None, [b"\5\2"], EACCES),
        ("user", [b"\5\1"], EACCES),
        ("user", [b"\5\2", b"\1\1"], EACCES),
        ("user", [b"\5\2", b"\5\xff"], EACCES),
        (None, [b"\5\0", b"\4\0"], EPROTO),
        (None, [b"\5\0", b"\5\0\0\2\0"], EPROTO),
    ],
)
def test_proxies_that_refuse_or_break_the_protocol(user: str | None, answers: list[bytes], errno: int) -> None:
    handshake = connect(proxy(user, user and "secret"), *NAME)
    dialogue(handshake, answers)
    assert (handshake.done, handshake.errno) == (True, errno)
    assert handshake.receive(b"") == b""


def test_an_association() -> None:
    handshake = Socks5(associate_request(4))
    sent, _ = dialogue(handshake, [b"\5\0", BOUND])
    assert sent[1] == b"\5\3\0\1" + bytes(6)
    assert handshake.bound == Endpoint("192.0.2.1", 1080)
    assert associate_request(16) == b"\5\3\0\4" + bytes(18)
    for reply in (b"\5\0\0\1" + bytes(4) + b"\4\x38", b"\5\0\0\3\5relay\4\x38"):
        handshake = Socks5(associate_request(4))
        dialogue(handshake, [b"\5\0", reply])
        assert (handshake.errno, handshake.bound, handshake.bound_port) == (0, None, 1080)


HOSTS = st.one_of(
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=16, max_size=16),
    st.from_regex(r"[a-z0-9-]{1,40}(\.[a-z0-9-]{1,40}){0,5}", fullmatch=True),
)


@given(HOSTS, st.integers(0, 65535), st.binary(max_size=100))
def test_datagrams_of_the_relay(host: str | bytes, port: int, data: bytes) -> None:
    datagram = wrap(Destination(host, port), data)
    assert unwrap(datagram) == ((host, port), data)
    assert len(datagram) - len(data) <= HEADER_ROOM
    for size in range(len(datagram) - len(data)):
        assert unwrap(datagram[:size]) is None
    assert unwrap(b"\0\0\1" + datagram[3:]) is None, "a fragment"


def test_a_name_of_the_relay_is_ascii() -> None:
    assert unwrap(b"\0\0\0\3\4name\0\x35data") == (("name", 53), b"data")
    assert unwrap(b"\0\0\0\3\4n\xc3\xa4m\0\x35data") is None


@given(st.binary(max_size=300))
def test_hostile_datagrams(data: bytes) -> None:
    unwrap(data)
    unwrap(b"\0\0\0\3" + data)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.booleans())
def test_hostile_proxies(answers: list[bytes], credentials: bool) -> None:
    """No more is read than a dialogue can have, and it ends."""
    handshake = connect(proxy("user", "secret") if credentials else proxy(), *NAME)
    stream = b"\5\0" + b"".join(answers) + bytes(600)
    _, left = dialogue(handshake, [stream])
    assert handshake.done
    assert len(stream) - len(left) <= 2 + 2 + 4 + 256 + 2


def test_the_layout_of_a_datagram() -> None:
    assert (
        wrap(Destination(socket.inet_aton("198.51.100.5"), 53), b"data")
        == bytes.fromhex("0000 00 01 c6336405 0035") + b"data"
    )
