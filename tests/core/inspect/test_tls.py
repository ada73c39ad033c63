"""The server name of TLS connections: clients of the `ssl` module, and messages that only a hostile guest sends."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from random import Random

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sansnet_core.inspect import LIMIT, Forbidden, make
from sansnet_core.policy import Check
from tests.core.inspect.streams import (
    ALLOWED,
    CHANGE_CIPHER_SPEC,
    EARLY,
    REFUSED,
    VERSIONS,
    Client,
    Outcome,
    at_every_byte,
    client_context,
    cut,
    extension,
    hello,
    outcome,
    record,
    server_name,
    vector,
)


def tls(*pieces: bytes, strict: bool = True) -> Outcome:
    return outcome(Check.TLS, pieces, strict=strict)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(ALLOWED, REFUSED).configure_cert(context)
    return context


SERVER = server_context()


def tls12(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def alpn(context: ssl.SSLContext) -> None:
    context.set_alpn_protocols(["h2", "http/1.1"])


def big(context: ssl.SSLContext) -> None:
    """A ClientHello of 24 KiB, in two records."""
    context.set_alpn_protocols([f"{number:0200}" for number in range(120)])


def chacha(context: ssl.SSLContext) -> None:
    """Without an explicit nonce, so that encrypted records begin with any byte."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+CHACHA20")


KINDS = [lambda context: None, tls12, tls13, alpn, big, chacha]


def handshake(
    client: Client, server_context: ssl.SSLContext, messages: int = 3
) -> tuple[list[bytes], ssl.SSLSession | None]:
    """A handshake, and data in both directions: all flights of the client, and its session."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(incoming, outgoing, server_side=True)
    flights = []
    for _ in range(4):
        flight = client.flight()
        if flight:
            flights.append(flight)
            incoming.write(flight)
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        client.incoming.write(outgoing.read())
    for number in range(messages):
        client.object.write(b"question %d" % number)
        flights.append(client.outgoing.read())
        incoming.write(flights[-1])
        server.read()
        server.write(b"answer")
        client.incoming.write(outgoing.read())
        assert client.object.read() == b"answer"
    return flights, client.object.session


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [True, False])
def test_real_clients(kind: Callable[[ssl.SSLContext], None], strict: bool) -> None:
    """Whole connections pass, split at every byte; with another name, not all bytes of the ClientHello do."""
    context = client_context()
    kind(context)
    for session in (False, True):
        first = handshake(Client(context, ALLOWED), SERVER)[1] if session else None
        flights, _ = handshake(Client(context, ALLOWED, first), SERVER)
        stream = b"".join(flights)
        for pieces in (flights, [stream], at_every_byte(stream)):
            result = outcome(Check.TLS, pieces, strict=strict)
            assert result.passed == stream
            assert result.names == (ALLOWED,)
            assert result.done
        first_flight = Client(context, REFUSED).flight()
        for pieces in ([first_flight], at_every_byte(first_flight)):
            result = outcome(Check.TLS, pieces, strict=strict)
            assert result.forbidden
            assert result.name == REFUSED
            assert result.passed == (b"" if strict else first_flight[: len(first_flight) - len(pieces[-1])])


@pytest.mark.parametrize("kind", KINDS)
def test_each_flight_passes_before_the_next(kind: Callable[[ssl.SSLContext], None]) -> None:
    """Nothing is held that the server must have before it answers."""
    context = client_context()
    kind(context)
    inspector = make(Check.TLS, lambda name: name == ALLOWED, strict=True)
    for flight in handshake(Client(context, ALLOWED), SERVER)[0]:
        assert inspector.feed(flight) == len(flight)


def retry_context() -> ssl.SSLContext:
    """A server that asks each of our clients for another key share (HelloRetryRequest)."""
    context = server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("secp521r1")
    return context


def test_a_real_second_hello() -> None:
    flights, _ = handshake(Client(client_context(), ALLOWED), retry_context())
    assert CHANGE_CIPHER_SPEC in flights[1]
    assert ALLOWED.encode() in flights[1]
    stream = b"".join(flights)
    for pieces in (flights, at_every_byte(stream)):
        result = outcome(Check.TLS, pieces)
        assert result.passed == stream
        assert result.names == (ALLOWED, ALLOWED)
    other = flights[1].replace(ALLOWED.encode(), REFUSED.encode())
    for pieces in ([flights[0], other], [*at_every_byte(flights[0]), *at_every_byte(other)]):
        result = outcome(Check.TLS, pieces)
        assert (result.forbidden, result.name) == (True, REFUSED)
        assert result.passed.removesuffix(CHANGE_CIPHER_SPEC) == flights[0]
        assert outcome(Check.TLS, pieces, strict=False).name == REFUSED


FIRST = record(hello(server_name(ALLOWED), VERSIONS))
OTHER = hello(server_name(REFUSED), VERSIONS)


@pytest.mark.parametrize(
    "between",
    [
        b"",
        CHANGE_CIPHER_SPEC,
        CHANGE_CIPHER_SPEC * 5,
        record(b"\1\x5a", 21),
        record(b"\1\x5a", 21) + CHANGE_CIPHER_SPEC,
    ],
)
def test_second_hellos_with_another_name(between: bytes) -> None:
    for second in (
        record(OTHER),
        b"".join(record(OTHER[index : index + 1]) for index in range(len(OTHER))),
        record(hello(server_name(REFUSED))),
        record(OTHER.replace(bytes(range(32)), bytes(range(1, 33)))),
        record(hello(server_name(REFUSED), VERSIONS, session=b"")),
    ):
        for pieces in ([FIRST + between + second], [FIRST, between, second], at_every_byte(FIRST + between + second)):
            result = tls(*pieces)
            assert (result.forbidden, result.name) == (True, REFUSED)


def names_that_a_server_reads(stream: bytes) -> list[str | None]:
    """Those that OpenSSL takes from the ClientHellos of a stream."""
    names: list[str | None] = []
    context = retry_context()
    context.sni_callback = lambda server, name, _: names.append(name)
    incoming = ssl.MemoryBIO()
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    incoming.write(stream)
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return names


@pytest.mark.parametrize("version", [b"\3\1", b"\3\3", b"\3\4", b"\4\3", b"\xff\0"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_second_hello_as_a_server_takes_it(version: bytes, padded: bool) -> None:
    """It may be of any version, and of more than 128 KiB: OpenSSL takes it."""
    (first, second, *_), _ = handshake(Client(client_context(), ALLOWED), retry_context())
    start = second.index(b"\x16\3\3")
    end = start + 5 + int.from_bytes(second[start + 3 : start + 5], "big")
    message = bytearray(second[start + 9 : end].replace(ALLOWED.encode(), REFUSED.encode()))
    message[:2] = version
    if padded:
        ciphers = 35 + message[34]
        size = int.from_bytes(message[ciphers : ciphers + 2], "big")
        more = bytes(message[ciphers + 2 : ciphers + 2 + size]).ljust(65534, b"\x5a")
        extensions = bytes(message[ciphers + 2 + size + 4 :])
        message[ciphers:] = vector(2, more) + b"\1\0"
        message += vector(2, extensions + extension(0x5A5A, bytes(65535 - len(extensions) - 4)))
    body = b"\1" + len(message).to_bytes(3, "big") + message
    assert not padded or len(body) > 1 << 17
    hostile = second[:start] + b"".join(record(body[at : at + 16384]) for at in range(0, len(body), 16384))
    assert names_that_a_server_reads(first + hostile) == [ALLOWED, REFUSED]
    result = tls(first, hostile)
    assert result.forbidden
    assert REFUSED.encode() not in result.passed


def test_a_second_hello_behind_early_data() -> None:
    first = record(hello(server_name(ALLOWED), VERSIONS, EARLY))
    early = record(bytes(16000), 23) * 20 + CHANGE_CIPHER_SPEC + record(b"", 23)
    result = tls(first, early, record(OTHER))
    assert result.passed == first + early
    assert result.name == REFUSED
    assert tls(*at_every_byte(first + record(bytes(40), 23) + record(OTHER))).name == REFUSED


def test_early_data_passes_as_it_comes() -> None:
    stream = record(hello(server_name(ALLOWED), VERSIONS, EARLY)) + record(bytes(16000), 23)
    result = tls(stream[:-8000])
    assert result.passed == stream[:-8000]


def test_a_client_without_tls_13_sends_no_second_hello() -> None:
    stream = record(hello(server_name(ALLOWED)))
    assert tls(stream).done
    assert tls(stream, record(OTHER)).passed == stream + record(OTHER)


@pytest.mark.parametrize("seed", range(20))
def test_the_encrypted_finished_of_tls_12_is_not_taken_for_a_hello(seed: int) -> None:
    """Also if its first byte is that of a ClientHello."""
    random = Random(seed)
    finished = record(b"\1" + random.randbytes(31 + 16 * (seed % 3)), version=b"\3\3")
    result = tls(FIRST, CHANGE_CIPHER_SPEC, finished)
    assert result.passed == FIRST + CHANGE_CIPHER_SPEC + finished
    assert result.done


def test_a_handshake_that_goes_on_as_tls_12() -> None:
    key_exchange = record(b"\x10\0\0\x21" + bytes(33))
    assert tls(FIRST, key_exchange[:6]).passed == FIRST + key_exchange[:6]
    assert tls(FIRST, key_exchange).done


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_hello_in_many_records(size: int) -> None:
    message = hello(server_name(ALLOWED))
    stream = b"".join(record(message[index : index + size]) for index in range(0, len(message), size))
    assert tls(stream).passed == stream
    for pieces in ([stream], at_every_byte(stream)):
        assert tls(*pieces[:-1]).passed == b""
    other = hello(server_name(REFUSED))
    assert tls(b"".join(record(other[index : index + size]) for index in range(0, len(other), size))).name == REFUSED


@pytest.mark.parametrize("name", ["Allowed.Example", "ALLOWED.EXAMPLE.", "allowed.example"])
def test_names_are_canonical(name: str) -> None:
    assert tls(record(hello(server_name(name)))).names == (ALLOWED,)


def test_the_outer_name_of_an_encrypted_hello_counts() -> None:
    ech = extension(0xFE0D, bytes(200))
    assert tls(record(hello(ech, server_name(ALLOWED)))).names == (ALLOWED,)
    assert tls(record(hello(ech, server_name(REFUSED)))).name == REFUSED


NAMED = server_name(ALLOWED)
UNCLEAR = {
    "plain text": b"EHLO client.example\r\n",
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n",
    "zeros": bytes(100),
    "SSLv2": bytes.fromhex("802e 01 0301 0015 0000 0010") + bytes(21 + 16),
    "an alert first": record(b"\2\x28", 21),
    "application data first": record(bytes(100), 23),
    "another handshake message": record(b"\2" + hello(NAMED)[1:]),
    "a record without bytes": record(b"") + record(hello(NAMED)),
    "a record above the limit": record(hello(NAMED, extension(21, bytes(17000)))),
    "another major version": record(hello(NAMED), version=b"\4\1"),
    "another version of the message": record(hello(NAMED, version=b"\2\3")),
    "no extensions": record(hello()),
    "no server name": record(hello(VERSIONS)),
    "an empty list of names": record(hello(extension(0, vector(2, b"")))),
    "an empty extension": record(hello(extension(0, b""))),
    "an empty name": record(hello(server_name(""))),
    "two names": record(hello(server_name(ALLOWED, ALLOWED))),
    "another type of name": record(hello(server_name(ALLOWED, kind=1))),
    "a name with a NUL": record(hello(server_name("allowed.example\0.refused.example"))),
    "a name with a percent": record(hello(server_name("allowed%2eexample"))),
    "a name with an empty label": record(hello(server_name("allowed..example"))),
    "a name that is too long": record(hello(server_name("a." * 127 + "example"))),
    "a name that is not ASCII": record(hello(server_name("allöwed.example"))),
    "the extension twice": record(hello(NAMED, NAMED)),
    "another extension twice": record(hello(NAMED, VERSIONS, VERSIONS)),
    "bytes behind the name": record(hello(extension(0, vector(2, b"\0" + vector(2, ALLOWED.encode())) + b"\0"))),
    "bytes behind the extensions": record(hello(NAMED, rest=b"\0")),
    "bytes behind the hello": record(hello(NAMED) + b"\0"),
    "two hellos in a record": record(hello(NAMED) * 2),
    "an extension beyond the end": record(hello(NAMED + b"\0\x10\0\1")),
    "a session that is too long": record(hello(NAMED, session=bytes(33))),
    "another record inside": record(hello(NAMED)[:20]) + CHANGE_CIPHER_SPEC + record(hello(NAMED)[20:]),
    "a length above the bound": record(b"\1" + (LIMIT + 1).to_bytes(3, "big") + bytes(1000)),
    "many small records": record(b"\1\0\x3f\0") + record(b"\0") * 6000,
    "a second hello without a name": FIRST + record(hello(VERSIONS)),
    "a second hello and more": FIRST + record(hello(NAMED, VERSIONS) + b"\x14"),
    "a second hello that is too long": FIRST + record(b"\1\1\0\0\3\3" + bytes(60)),
    "a part of a second hello": FIRST + record(hello(NAMED)[:9]) + record(bytes(9), 23),
    "an unknown record": FIRST + record(b"\1\0\0", 24),
}


@pytest.mark.parametrize("stream", UNCLEAR.values(), ids=UNCLEAR)
def test_unclear_streams(stream: bytes) -> None:
    """A strict inspector forbids them; one that watches passes all bytes."""
    first = FIRST if stream.startswith(FIRST) else b""
    for pieces in ([stream], at_every_byte(stream)):
        result = tls(*pieces)
        assert result.forbidden
        assert result.name is None
        assert result.passed in (b"", first)
        result = tls(*pieces, strict=False)
        assert result.passed == stream


@pytest.mark.parametrize("stream", [b"E", b"\x16\2", b"\x16\3\1\0\x10\2"])
def test_other_protocols_are_found_out_at_once(stream: bytes) -> None:
    """Not only when a message would be complete."""
    assert tls(stream).forbidden
    assert tls(stream, strict=False).done


def test_a_watched_stream_does_not_hide_a_name_behind_another() -> None:
    for stream in (
        record(hello(server_name(ALLOWED, REFUSED))),
        record(hello(NAMED, server_name(REFUSED))),
        record(hello(NAMED, server_name(REFUSED)) + b"\0"),
    ):
        assert tls(stream, strict=False).name == REFUSED


@pytest.mark.parametrize("room", range(-2, 8))
def test_the_headers_of_records_count_among_the_bytes_that_are_held_back(room: int) -> None:
    """However the bytes are cut."""
    size = LIMIT - 15 - room
    message = hello(NAMED, extension(21, bytes(size - len(hello(NAMED, extension(21, b""))))))
    assert len(message) == size
    first, second = record(message[: 1 << 14]), record(message[1 << 14 : -8])
    last = record(message[-8:])
    outcomes = [tls(first + second + last), tls(first, second, *cut(last, range(20)))]
    assert len({(one.forbidden, one.passed) for one in outcomes}) == 1
    assert outcomes[0].forbidden == (room < 0)


def test_the_end_of_the_guests_bytes() -> None:
    inspector = make(Check.TLS, lambda name: True, strict=True)
    inspector.finish()
    inspector.feed(FIRST[:20])
    with pytest.raises(Forbidden):
        inspector.finish()
    inspector = make(Check.TLS, lambda name: True, strict=False)
    inspector.feed(FIRST[:20])
    inspector.finish()


STREAMS = [*UNCLEAR.values(), FIRST + CHANGE_CIPHER_SPEC + record(OTHER), FIRST + record(bytes(50), 23)]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 1 << 16), max_size=8), st.booleans())
def test_the_outcome_does_not_depend_on_the_pieces(stream: bytes, places: list[int], strict: bool) -> None:
    whole = tls(stream, strict=strict)
    split = tls(*cut(stream, places), strict=strict)
    assert (split.forbidden, split.name, split.names) == (whole.forbidden, whole.name, whole.names)
    if not whole.forbidden:
        assert split.passed == whole.passed


@settings(max_examples=400)
@given(st.sampled_from(STREAMS), st.data(), st.booleans())
def test_hostile_bytes(stream: bytes, data: st.DataObject, strict: bool) -> None:
    """Nothing but `Forbidden` is raised, and nothing passes that names no host."""
    changed = bytearray(stream[:2000])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not changed:
            return
    result = tls(*cut(bytes(changed), data.draw(st.lists(st.integers(0, 4000), max_size=4))), strict=strict)
    if strict and result.passed:
        assert result.names


@given(st.lists(st.binary(max_size=100)), st.booleans())
@example([b"\x16\3\1\0\1", b"\1"], True)
def test_any_bytes(pieces: list[bytes], strict: bool) -> None:
    result = tls(*pieces, strict=strict)
    if not strict:
        assert result.passed == b"".join(pieces)
