"""DNS messages: the queries that are parsed, and the form of an answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.addresses import parse
from sansnet_core.wire.dns import AAAA, A, Query, emit_answer, parse_query

NAME = b"\4host\7example\0"
OPT = b"\0" + struct.pack("!HHIH", 41, 4096, 0x8000, 4) + b"\0\x0a\0\0"


def message(
    *,
    flags: int = 0x0100,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    name: bytes = NAME,
    type_: int = 1,
    class_: int = 1,
    rest: bytes = b"",
) -> bytes:
    return struct.pack("!6H", 0x1234, flags, *counts) + name + struct.pack("!HH", type_, class_) + rest


def test_a_query() -> None:
    question = b"\4HoSt\7exAMPLE\0\0\x1c\0\1"
    assert parse_query(message(name=b"\4HoSt\7exAMPLE\0", type_=28)) == Query(
        0x1234, 0x0100, NAME, AAAA, question, None
    )


def test_a_query_with_edns() -> None:
    query = parse_query(message(flags=0x0120, counts=(1, 0, 0, 1), rest=OPT))
    assert query is not None
    assert query.edns == 0x8000
    query = parse_query(message(counts=(1, 0, 0, 1), rest=b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)))
    assert query is not None
    assert query.edns == 0


@pytest.mark.parametrize(
    "wrong",
    [
        message(flags=0x8000),
        message(flags=0x2800),
        message(flags=0x0200),
        message(counts=(0, 0, 0, 0)),
        message(counts=(2, 0, 0, 0), rest=NAME + b"\0\1\0\1"),
        message(counts=(1, 1, 0, 0)),
        message(counts=(1, 0, 1, 0)),
        message(counts=(1, 0, 0, 1)),
        message(counts=(1, 0, 0, 2), rest=OPT + OPT),
        message(counts=(1, 0, 0, 2), rest=OPT),
        message(counts=(1, 0, 0, 1), rest=OPT[:-1]),
        message(counts=(1, 0, 0, 1), rest=OPT[:10]),
        message(counts=(1, 0, 0, 1), rest=OPT + b"\0"),
        message(counts=(1, 0, 0, 1), rest=b"\0" + struct.pack("!HHIH", 41, 4096, 0x10000, 0)),
        message(counts=(1, 0, 0, 1), rest=b"\0" + struct.pack("!HHIH", 250, 255, 0, 0)),
        message(counts=(1, 0, 0, 1), rest=b"\1" + OPT),
        message(rest=b"\0"),
        message(class_=3),
        message(class_=255),
        message(class_=0x0101),
        message(name=b"\4host\xc0\x0c"),
        message(name=b"\x40" + bytes(64) + b"\0"),
        message(name=b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\0"),
        message(name=(b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0"),  # 256 bytes
        message(name=b"\4host"),
        message()[:-1],
        message()[:20],
        b"",
    ],
)
def test_what_is_no_such_query(wrong: bytes) -> None:
    assert parse_query(wrong) is None


def test_a_query_for_the_longest_name() -> None:
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    query = parse_query(message(name=name))
    assert query is not None
    assert (len(name), query.name) == (255, name)


@given(st.binary(max_size=80).map(lambda rest: message()[:12] + rest) | st.binary(max_size=600))
def test_no_bytes_raise(data: bytes) -> None:
    query = parse_query(memoryview(data))
    assert query is None or data[12:].startswith(query.question)


def test_an_answer_repeats_identifier_and_question_and_copies_two_flags() -> None:
    query = parse_query(message(flags=0x0130, name=b"\4HOST\7example\0"))
    assert query is not None
    assert emit_answer(query, A, [parse("192.0.2.1"), parse("192.0.2.2")]) == (
        struct.pack("!6H", 0x1234, 0x8590, 1, 2, 0, 0)
        + b"\4HOST\7example\0\0\1\0\1"
        + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1"
        + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\2"
    )


def test_an_answer_repeats_no_flag_of_edns_but_one() -> None:
    """RFC 6891, 6.1.4; RFC 3225, 3."""
    for flags, told in ((0x7FFF, 0), (0xFFFF, 0x8000)):
        answer = emit_answer(Query(1, 0, NAME, A, NAME + b"\0\1\0\1", flags), A, [])
        assert answer[-11:] == b"\0" + struct.pack("!HHIH", 41, 1232, told, 0)


def test_an_answer_to_edns_has_edns() -> None:
    query = parse_query(message(flags=0, counts=(1, 0, 0, 1), rest=OPT))
    assert query is not None
    assert emit_answer(query, A, []) == (
        struct.pack("!6H", 0x1234, 0x8480, 1, 0, 0, 1)
        + NAME
        + b"\0\1\0\1"
        + b"\0"
        + struct.pack("!HHIH", 41, 1232, 0x8000, 0)
    )


def test_eight_addresses_of_the_longest_name_fit_into_512_bytes() -> None:
    query = parse_query(
        message(name=(b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0", counts=(1, 0, 0, 1), rest=OPT)
    )
    assert query is not None
    assert len(emit_answer(query, AAAA, [bytes(16)] * 8)) <= 512
