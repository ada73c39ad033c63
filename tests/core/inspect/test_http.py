"""The hosts of HTTP requests: what clients send, what only a hostile guest sends, and h11 as another parser."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sansnet_core.inspect import LIMIT, Forbidden, make
from sansnet_core.policy import Check
from tests.core.inspect.streams import ALLOWED, REFUSED, Outcome, at_every_byte, cut, outcome


def http(*pieces: bytes, strict: bool = True) -> Outcome:
    return outcome(Check.HTTP, pieces, strict=strict)


GET = b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n"
OTHER = b"GET / HTTP/1.1\r\nHost: refused.example\r\n\r\n"
H = b"Host: allowed.example\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + fields + b"\r\n" + body


CLEAR = {
    "a request": GET,
    "HTTP/1.0": GET.replace(b"1.1", b"1.0"),
    "two requests": GET + GET,
    "an empty line between": GET + b"\r\n" + GET,
    "no reason for white space": b"GET / HTTP/1.1\r\nHost:allowed.example\r\n\r\n",
    "tabs": b"GET / HTTP/1.1\r\nHost:\tallowed.example \t\r\nX-Y: a\tb\r\n\r\n",
    "a port": b"GET / HTTP/1.1\r\nHost: allowed.example:8080\r\n\r\n",
    "a port without digits": b"GET / HTTP/1.1\r\nHost: allowed.example:\r\n\r\n",
    "upper case": b"GET / HTTP/1.1\r\nHOST: Allowed.EXAMPLE\r\n\r\n",
    "a trailing dot": b"GET / HTTP/1.1\r\nHost: allowed.example.\r\n\r\n",
    "a target in absolute form": b"GET http://Allowed.example/a?b HTTP/1.1\r\n" + H + b"\r\n",
    "with the default port": b"GET http://allowed.example:80 HTTP/1.1\r\n" + H + b"\r\n",
    "with a query": b"GET http://allowed.example?http://refused.example HTTP/1.1\r\n" + H + b"\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
    "a path with a name": b"GET //refused.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "a length": post(b"Content-Length: 5\r\n", OTHER[:5]) + GET,
    "a length of zero": GET.replace(H, H + b"Content-Length: 0\r\n") + GET,
    "a body that looks like a request": post(b"Content-Length: %d\r\n" % len(OTHER), OTHER) + GET,
    "no length": post(b"") + GET,
    "chunks": post(b"Transfer-Encoding: Chunked\r\n", b"5\r\nabcde\r\n00a\r\n0123456789\r\n0\r\n\r\n") + GET,
    "chunk extensions": post(b"Transfer-Encoding: chunked\r\n", b'1;a="b"\r\nx\r\n0;c\r\n\r\n') + GET,
    "trailers": post(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n") + GET,
    "a field that continues to be allowed": GET.replace(H, H + b"X-Forwarded-Host: refused.example\r\n"),
    "bytes beyond ASCII": "GET /ä HTTP/1.1\r\nHost: allowed.example\r\nX-Name: ä\r\n\r\n".encode(),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("stream", CLEAR.values(), ids=CLEAR)
def test_requests_that_pass(stream: bytes, strict: bool) -> None:
    for pieces in ([stream], at_every_byte(stream)):
        result = http(*pieces, strict=strict)
        assert result.passed == stream
        assert set(result.names) == {ALLOWED}
        assert not result.done
        ended = http(*pieces, OTHER, strict=strict)
        assert (ended.passed, ended.name) == (stream, REFUSED)


def test_bodies_pass_at_once() -> None:
    head = post(b"Content-Length: 1000000\r\n")
    assert http(head, bytes(70_000)).passed == head + bytes(70_000)
    head = post(b"Transfer-Encoding: chunked\r\n", b"fffff\r\n")
    assert http(head + bytes(70_000), bytes(500_000)).passed == head + bytes(570_000)


def test_a_head_is_held_until_it_is_complete() -> None:
    assert http(*at_every_byte(GET[:-1])).passed == b""
    assert http(*at_every_byte(GET[:-1]), strict=False).passed == GET[:-1]


REFUSED_NAMES = {
    "the field": OTHER,
    "the target": b"GET http://refused.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "the second field": GET.replace(H, H + b"Host: refused.example\r\n"),
    "behind an upper case": OTHER.replace(b"refused", b"REFUSED"),
    "behind a dot": OTHER.replace(b"example", b"example."),
    "behind a port": OTHER.replace(b"example", b"example:443"),
    "CONNECT": b"CONNECT refused.example:443 HTTP/1.1\r\n" + H + b"\r\n",
    "behind a body": post(b"Content-Length: 3\r\n", b"abc") + OTHER,
    "behind chunks": post(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n") + OTHER,
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("stream", REFUSED_NAMES.values(), ids=REFUSED_NAMES)
def test_names_that_are_not_allowed(stream: bytes, strict: bool) -> None:
    for pieces in ([stream], at_every_byte(stream)):
        result = http(*pieces, strict=strict)
        assert result.name == REFUSED


UNCLEAR = {
    "plain text": b"EHLO client.example\r\n",
    "a TLS handshake": b"\x16\3\1\1\0",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/1.2": GET.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "lower case in the version": GET.replace(b"HTTP/1.1", b"http/1.1"),
    "two spaces": GET.replace(b"GET ", b"GET  "),
    "a tab in the request line": GET.replace(b"GET ", b"GET\t"),
    "white space first": b" " + GET,
    "no method": GET[3:],
    "a method that is too long": b"G" * 33 + GET,
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "no Host in HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "the Host field twice": GET.replace(H, H * 2),
    "two hosts in a field": GET.replace(b"example", b"example, allowed.example"),
    "user information": GET.replace(b"Host: ", b"Host: user@"),
    "a percent": GET.replace(b"allowed.", b"allowed%2e"),
    "a host with a slash": GET.replace(b"example\r", b"example/x\r"),
    "a port that is too large": GET.replace(b"example", b"example:65536"),
    "a port that is no number": GET.replace(b"example", b"example:http"),
    "a broken IPv6 address": GET.replace(b"allowed.example", b"[::1"),
    "an IPv6 address with a zone": GET.replace(b"allowed.example", b"[fe80::1%25eth0]"),
    "a host with a NUL": GET.replace(b"allowed", b"allo\0wed"),
    "another host in the target": b"GET http://also.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "another port in the target": b"GET http://allowed.example:81/ HTTP/1.1\r\n" + H + b"\r\n",
    "user information in the target": b"GET http://allowed.example@also.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "a backslash in the target": b"GET http://allowed.example\\@also.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "a target of another scheme": b"GET ftp://allowed.example/ HTTP/1.1\r\n" + H + b"\r\n",
    "a target without a slash": b"GET allowed.example HTTP/1.1\r\n" + H + b"\r\n",
    "an asterisk with GET": b"GET * HTTP/1.1\r\n" + H + b"\r\n",
    "CONNECT": b"CONNECT allowed.example:443 HTTP/1.1\r\n" + H + b"\r\n",
    "a line without CR": GET.replace(b"1.1\r\n", b"1.1\n"),
    "an empty line without CR": GET[:-2] + b"\n",
    "CR alone": GET.replace(H, b"X: a\rHost: refused.example\r\n" + H),
    "CR twice": GET.replace(b"1.1\r\n", b"1.1\r\r\n"),
    "a NUL in a field": GET.replace(H, b"X: \0\r\n" + H),
    "a folded field": GET.replace(H, b"Host:\r\n allowed.example\r\n"),
    "a folded field behind the host": GET.replace(H, H + b" .refused.example\r\n"),
    "a space before the colon": GET.replace(b"Host:", b"Host :"),
    "a field without a colon": GET.replace(H, H + b"X\r\n"),
    "a field without a name": GET.replace(H, H + b": x\r\n"),
    "two lengths": post(b"Content-Length: 1\r\nContent-Length: 1\r\n", b"x"),
    "a list of lengths": post(b"Content-Length: 1, 1\r\n", b"x"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a length with a sign": post(b"Content-Length: +1\r\n", b"x"),
    "an empty length": post(b"Content-Length:\r\n"),
    "a length that is too large": post(b"Content-Length: 18446744073709551617\r\n", b"x"),
    "a length and chunks": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    "chunks and a length": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    "another coding": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "an unknown coding": post(b"Transfer-Encoding: xchunked\r\n"),
    "two codings": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked\r\n").replace(b"1.1", b"1.0"),
    "a vertical tab before the coding": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "a body of GET": GET.replace(H, H + b"Content-Length: %d\r\n" % len(OTHER)) + OTHER,
    "chunks of GET": GET.replace(H, H + b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    "a body of HEAD": b"HEAD / HTTP/1.1\r\n" + H + b"Content-Length: 1\r\n\r\nx",
    "a chunk without a size": post(b"Transfer-Encoding: chunked\r\n", b"\r\n"),
    "a chunk's size with a prefix": post(b"Transfer-Encoding: chunked\r\n", b"0x1\r\n"),
    "a chunk's size with a space": post(b"Transfer-Encoding: chunked\r\n", b"1 \r\n"),
    "a chunk's size that is too large": post(b"Transfer-Encoding: chunked\r\n", b"1%s\r\n" % (b"0" * 16)),
    "a chunk's size without CR": post(b"Transfer-Encoding: chunked\r\n", b"1\nx\r\n0\r\n\r\n"),
    "a chunk extension without CR": post(b"Transfer-Encoding: chunked\r\n", b"1;\nx\r\n0\r\n\r\n"),
    "a chunk that is too long": post(b"Transfer-Encoding: chunked\r\n", b"1\r\nxy\r\n0\r\n\r\n"),
    "a chunk's end without CR": post(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\n0\r\n\r\n"),
    "a Host field in the trailers": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + H + b"\r\n"),
    "a length in the trailers": post(b"Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
    "a folded trailer": post(b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\r\n z\r\n\r\n"),
    "an upgrade to HTTP/2": GET.replace(H, H + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
    "an upgrade to two protocols": GET.replace(H, H + b"Upgrade: websocket, h2c\r\n"),
    "two upgrades": GET.replace(H, H + b"Upgrade: websocket\r\nUpgrade: h2c\r\n"),
    "an upgrade with a body": post(b"Upgrade: websocket\r\nContent-Length: 1\r\n", b"x"),
    "an upgrade with the second request": GET + GET.replace(H, H + b"Upgrade: websocket\r\n"),
    "a head that is too long": GET.replace(H, H + b"X: y\r\n" * (LIMIT // 6)),
    "a line that is too long": GET.replace(H, H + b"X: " + b"y" * LIMIT + b"\r\n"),
    "a target that is too long": GET.replace(b" /", b" /" + b"x" * LIMIT),
    "trailers that are too long": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n" + b"X: y\r\n" * (LIMIT // 6 + 1)),
}


@pytest.mark.parametrize("stream", UNCLEAR.values(), ids=UNCLEAR)
def test_unclear_streams(stream: bytes) -> None:
    """A strict inspector forbids them; one that watches passes all bytes, unless one is a name that is refused."""
    for pieces in ([stream], at_every_byte(stream)):
        result = http(*pieces)
        assert result.forbidden
        assert OTHER not in result.passed
        watched = outcome(Check.HTTP, pieces, strict=False, allowed=lambda name: True)
        assert watched.passed == stream


@pytest.mark.parametrize("first", [b"\x16", b"E,", b"EHLO me\r\n", b"x" * 33, b"\0"])
def test_other_protocols_are_found_out_at_once(first: bytes) -> None:
    assert http(first).forbidden
    assert http(first, strict=False).done


@pytest.mark.parametrize("literal", [b"192.0.2.1", b"[2001:db8::1]", b"[2001:DB8::1]:80"])
def test_addresses_are_names_too(literal: bytes) -> None:
    text = literal.partition(b"]")[0].strip(b"[").decode().lower()
    assert http(GET.replace(b"allowed.example", literal)).names == (text,)


UPGRADE = GET.replace(H, H + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n")
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize("before", [b"", EARLY, EARLY * 3])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_an_upgrade_to_websocket(before: bytes, pieces: int) -> None:
    inspector = make(Check.HTTP, lambda name: name == ALLOWED, strict=True)
    assert inspector.host_received(SWITCHING) == 0
    assert inspector.feed(UPGRADE) == len(UPGRADE)
    assert inspector.awaits_host
    assert inspector.feed(OTHER) == 0
    response = before + SWITCHING
    passed = sum(inspector.host_received(response[at : at + pieces]) for at in range(0, len(response), pieces))
    assert passed == len(OTHER)
    assert inspector.done


@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 x", b"hello, guest", EARLY * 2000],
)
@pytest.mark.parametrize("pieces", [1, 7, 100000])
def test_an_upgrade_that_the_host_refuses(response: bytes, pieces: int) -> None:
    if response.startswith(EARLY):
        response = EARLY[:-2] + b"X: y\r\n" * (LIMIT // 6)
    inspector = make(Check.HTTP, lambda name: name == ALLOWED, strict=True)
    inspector.feed(UPGRADE)
    assert inspector.feed(GET) == 0
    passed = sum(inspector.host_received(response[at : at + pieces]) for at in range(0, len(response), pieces))
    assert passed == len(GET)
    assert not inspector.awaits_host
    assert not inspector.done
    with pytest.raises(Forbidden):
        inspector.feed(OTHER)


def test_requests_behind_an_upgrade_are_judged() -> None:
    inspector = make(Check.HTTP, lambda name: name == ALLOWED, strict=True)
    inspector.feed(UPGRADE)
    inspector.feed(OTHER)
    with pytest.raises(Forbidden, match=r"refused\.example"):
        inspector.host_received(b"HTTP/1.1 426 Upgrade Required\r\n\r\n")
    assert inspector.host_received(SWITCHING) == 0


def test_bytes_behind_an_upgrade_are_bounded() -> None:
    assert http(UPGRADE, bytes(LIMIT)).passed == UPGRADE
    assert http(UPGRADE, bytes(LIMIT), b"x").forbidden
    watched = http(UPGRADE, bytes(LIMIT), b"x", strict=False)
    assert watched.done


def test_the_end_of_the_guests_bytes() -> None:
    inspector = make(Check.HTTP, lambda name: True, strict=True)
    inspector.finish()
    inspector.feed(GET)
    inspector.finish()
    inspector.feed(GET[:5])
    with pytest.raises(Forbidden):
        inspector.finish()


def hosts_by_h11(stream: bytes) -> list[str] | None:
    """The hosts of all requests as h11 reads them; None if it rejects one."""
    connection = h11.Connection(h11.SERVER)
    hosts = []
    connection.receive_data(stream)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                hosts.append(dict(event.headers).get(b"host", b"").decode("latin-1").lower())
            elif isinstance(event, h11.EndOfMessage):
                if connection.their_state is h11.MUST_CLOSE:
                    return hosts
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return hosts
    except h11.RemoteProtocolError:
        return None


PARTS = [*CLEAR.values(), *UNCLEAR.values()]
STREAMS = [part for part in PARTS if len(part) < 2000]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(STREAMS), min_size=1, max_size=3), st.data())
def test_another_parser_finds_no_other_hosts(parts: list[bytes], data: st.DataObject) -> None:
    """In the bytes that pass, however they were changed."""
    stream = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(stream)))
        stream[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b"\0", b"0", b":", b"x", OTHER, b"Host: refused.example"]
            )
        )
    result = http(*cut(bytes(stream), data.draw(st.lists(st.integers(0, 5000), max_size=5))))
    found = hosts_by_h11(result.passed)
    assert found is None or not any(REFUSED in host for host in found)


FIELDS = st.lists(
    st.tuples(
        st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
            lambda name: name.lower() not in ("host", "content-length", "transfer-encoding", "upgrade", "connection")
        ),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=50),
    ),
    max_size=8,
)
BODIES = st.one_of(st.none(), st.binary(max_size=100), st.lists(st.binary(min_size=1, max_size=50), max_size=4))


@given(st.lists(st.tuples(FIELDS, BODIES), min_size=1, max_size=4), st.lists(st.integers(0, 1 << 14), max_size=10))
def test_requests_of_h11_pass(
    requests: list[tuple[list[tuple[str, str]], bytes | list[bytes] | None]], at: list[int]
) -> None:
    stream = b""
    for fields, body in requests:
        client = h11.Connection(h11.CLIENT)
        headers = [("Host", ALLOWED), *fields]
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
        elif body is not None:
            headers.append(("Transfer-Encoding", "chunked"))
        method = "GET" if body is None else "PUT"
        stream += client.send(h11.Request(method=method, target="/x", headers=headers)) or b""
        for data in [body] if isinstance(body, bytes) else body or []:
            stream += client.send(h11.Data(data)) or b""
        stream += client.send(h11.EndOfMessage()) or b""
    result = http(*cut(stream, at))
    assert result.passed == stream
    assert len(result.names) == len(requests)


@given(st.sampled_from(PARTS), st.lists(st.integers(0, 1 << 16), max_size=8), st.booleans())
def test_the_outcome_does_not_depend_on_the_pieces(stream: bytes, places: list[int], strict: bool) -> None:
    whole = http(stream, strict=strict)
    split = http(*cut(stream, places), strict=strict)
    assert (split.forbidden, split.name, split.names) == (whole.forbidden, whole.name, whole.names)
    if not whole.forbidden:
        assert split.passed == whole.passed


@pytest.mark.parametrize("strict", [True, False])
def test_an_empty_line_before_a_request_may_have_several_cr(strict: bool) -> None:
    stream = b"\r\r\n" + GET
    for pieces in ([stream], at_every_byte(stream)):
        result = http(*pieces, strict=strict)
        assert result.forbidden == strict
        assert result.passed == (b"" if strict else stream)
        assert bool(result.names) != strict


@given(st.lists(st.binary(max_size=100)), st.booleans())
def test_any_bytes(pieces: list[bytes], strict: bool) -> None:
    result = http(*pieces, strict=strict)
    if not (strict or result.forbidden):  # they may name the refused host
        assert result.passed == b"".join(pieces)


def test_a_check_of_nothing_has_no_inspector() -> None:
    with pytest.raises(ValueError, match="reads nothing"):
        make(Check.NONE, lambda name: True, strict=True)
