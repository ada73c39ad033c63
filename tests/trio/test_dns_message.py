"""Queries and responses of the DNS server as bytes: each malformed thing has its answer, and nothing raises."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core import Endpoint
from sansnet_trio.dns.exchange import Answers
from sansnet_trio.dns.message import MAX_SIZE_TCP, UDP_PAYLOAD, read_query
from sansnet_trio.dns.zones import Zones

GUEST = Endpoint(bytes([10, 0, 2, 15]), 40000)
NAMES = {
    "app.internal": ["10.9.0.1", "fd00::1"],
    "*.cdn.example": "10.9.0.2",
    "alias.example": "CNAME app.internal",
    "many.example": [f"10.1.{number // 250}.{number % 250}" for number in range(300)],
    "large.example": [f'TXT "{number:04}{"x" * 240}"' for number in range(300)],
    "round.example": "CNAME round.example",
}


ZONES = Zones(NAMES, ttl=60, reverse=True)


def make_answers() -> Answers:
    return Answers(ZONES, dns.rcode.NXDOMAIN, 60, 5.0, None)


def ask(wire: bytes, limit: int | None = None) -> bytes | None:
    """The response to a message, over UDP unless a limit is given."""
    exchange = make_answers().begin(wire, GUEST)
    if exchange is None:
        return None
    assert exchange.reply is not None
    return exchange.response(exchange.payload if limit is None else limit)


def answer(query: dns.message.Message | bytes, limit: int | None = None) -> dns.message.Message:
    response = ask(query if isinstance(query, bytes) else query.to_wire(), limit)
    assert response is not None
    return dns.message.from_wire(response)


def query(
    name: str, kind: str = "A", use_edns: int | None = None, payload: int | None = None
) -> dns.message.QueryMessage:
    return dns.message.make_query(name, kind, id=4711, use_edns=use_edns, payload=payload)


def test_the_response_repeats_id_question_and_flags() -> None:
    asked = query("aPp.InTeRnAl")
    asked.flags |= dns.flags.CD
    response = ask(asked.to_wire())
    assert response is not None
    assert b"\x03aPp\x08InTeRnAl\0" in response  # names with random case protect from forged responses
    found = dns.message.from_wire(response)
    assert found.id == 4711
    assert found.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA | dns.flags.CD
    assert found.answer[0].to_text() == "aPp.InTeRnAl. 60 IN A 10.9.0.1"


@pytest.mark.parametrize("size", range(12))
def test_a_message_without_a_header_gets_no_response(size: int) -> None:
    assert ask(query("app.internal").to_wire()[:size]) is None


def test_a_response_gets_no_response() -> None:
    """Otherwise two servers would answer each other without an end."""
    response = ask(query("app.internal").to_wire())
    assert response is not None
    assert ask(response) is None


@pytest.mark.parametrize(
    ("cut", "questions"),
    [(slice(0, 12), 0), (slice(0, 12), 1), (slice(0, 20), 1), (slice(0, -1), 1), (slice(None), 0), (slice(None), 2)],
)
def test_a_malformed_question_is_a_format_error(cut: slice, questions: int) -> None:
    wire = bytearray(query("app.internal").to_wire()[cut])
    wire[4:6] = questions.to_bytes(2)
    found = answer(bytes(wire))
    assert (found.rcode(), found.id) == (dns.rcode.FORMERR, 4711)


def test_a_pointer_in_the_question_is_a_format_error() -> None:
    """It would lead into the header, which differs in the response."""
    wire = query("app.internal").to_wire()
    found = answer(wire[:12] + b"\x01a\xc0\x04" + wire[-4:])
    assert (found.rcode(), found.question) == (dns.rcode.FORMERR, [])


@pytest.mark.parametrize("garbage", [b"\0", bytes(5000)])
def test_more_bytes_than_the_header_says_are_a_format_error(garbage: bytes) -> None:
    assert answer(query("app.internal").to_wire() + garbage).rcode() == dns.rcode.FORMERR


def test_records_in_a_query_are_a_format_error() -> None:
    for place in (7, 9):
        wire = bytearray(query("app.internal").to_wire())
        wire[place] = 1
        assert answer(bytes(wire)).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("opcode", [each for each in dns.opcode.Opcode if each])
def test_operations_other_than_queries_are_not_implemented(opcode: dns.opcode.Opcode) -> None:
    wire = bytearray(query("app.internal").to_wire())
    wire[2] = opcode << 3
    response = ask(bytes(wire))
    assert response is not None
    assert (response[3] & 15, response[2] >> 3 & 15) == (dns.rcode.NOTIMP, opcode)


@pytest.mark.parametrize("rdclass", ["CH", "HS", "ANY", "NONE"])
def test_other_classes_are_not_implemented(rdclass: str) -> None:
    asked = dns.message.make_query("version.bind", "TXT", rdclass)
    assert answer(asked).rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize(
    ("kind", "code"), [("AXFR", "REFUSED"), ("IXFR", "REFUSED"), ("MAILB", "NOTIMP"), ("TKEY", "NOTIMP")]
)
def test_types_that_are_no_types_of_records(kind: str, code: str) -> None:
    assert dns.rcode.to_text(answer(query("app.internal", kind)).rcode()) == code


def test_a_zone_transfer_with_its_soa_is_refused() -> None:
    wire = bytearray(query("app.internal", "IXFR").to_wire())
    wire[9] = 1
    wire += b"\xc0\x0c\0\x06\0\x01" + bytes(6)
    assert answer(bytes(wire)).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(("payload", "expected"), [(0, 512), (100, 512), (900, 900), (4096, UDP_PAYLOAD)])
def test_the_size_of_a_datagram_is_what_both_sides_take(payload: int, expected: int) -> None:
    read = read_query(query("app.internal", use_edns=0, payload=payload).to_wire())
    assert read is not None
    assert read.payload == expected
    found = answer(query("many.example", use_edns=0, payload=payload))
    assert (found.edns, found.payload) == (0, UDP_PAYLOAD)
    assert found.flags & dns.flags.TC
    assert len(found.to_wire()) <= expected


def test_without_edns_there_is_none_in_the_response() -> None:
    assert answer(query("app.internal")).edns == -1


def test_an_unknown_version_of_edns_is_answered_with_ours() -> None:
    found = answer(query("app.internal", use_edns=1))
    assert (found.rcode(), found.edns, found.answer) == (dns.rcode.BADVERS, 0, [])


def test_many_records_in_a_query_are_a_format_error() -> None:
    """Each may have a long name, which takes time to read."""
    wire = bytearray(query("app.internal").to_wire())
    for count, code in ((4, dns.rcode.NOERROR), (5, dns.rcode.FORMERR)):
        wire[11] = count
        assert answer(bytes(wire) + b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\0" * count).rcode() == code


def test_two_opt_records_or_one_with_a_name_are_format_errors() -> None:
    wire = bytearray(query("app.internal", use_edns=0).to_wire())
    twice = wire + wire[-11:]
    twice[11] = 2
    assert answer(bytes(twice)).rcode() == dns.rcode.FORMERR
    named = wire[:-11] + b"\x01a" + wire[-11:]
    assert answer(bytes(named)).rcode() == dns.rcode.FORMERR


def test_the_do_bit_is_repeated_and_options_are_ignored() -> None:
    asked = dns.message.make_query(
        "app.internal", "A", want_dnssec=True, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"cookie!!")]
    )
    found = answer(asked)
    assert found.ednsflags & dns.flags.DO
    assert found.options == ()
    assert found.rcode() == dns.rcode.NOERROR


def test_over_udp_a_large_answer_is_truncated_and_over_tcp_it_is_complete() -> None:
    found = answer(query("many.example"))
    assert found.flags & dns.flags.TC
    assert found.answer == []
    found = answer(query("many.example"), MAX_SIZE_TCP)
    assert not found.flags & dns.flags.TC
    assert len(found.answer[0]) == 300


def test_an_answer_that_fits_nowhere_is_truncated_over_tcp() -> None:
    found = answer(query("large.example", "TXT"), MAX_SIZE_TCP)
    assert found.flags & dns.flags.TC


def test_records_keep_their_sequence() -> None:
    """A response depends on nothing but the query."""
    assert len({ask(query("many.example").to_wire(), MAX_SIZE_TCP) for _ in range(10)}) == 1


@given(st.binary(max_size=80))
def test_no_bytes_raise(data: bytes) -> None:
    response = ask(data)
    if len(data) >= 12 and not data[2] & 0x80:
        assert response is not None
        dns.message.from_wire(response)
    else:
        assert response is None


LABELS = st.lists(st.binary(min_size=1, max_size=12), max_size=8)


@given(
    labels=st.one_of(LABELS, st.sampled_from([name.encode().split(b".") for name in NAMES])),
    kind=st.one_of(st.integers(0, 65535), st.sampled_from([1, 5, 16, 28, 33, 65, 255])),
    rdclass=st.sampled_from([1, 1, 1, 3, 255]),
    flags=st.integers(0, 0x7FFF).map(lambda value: value & 0x07FF),
    tail=st.binary(max_size=40),
    additional=st.integers(0, 3),
    edns=st.booleans(),
)
def test_every_question_gets_a_response_that_fits(
    labels: list[bytes], kind: int, rdclass: int, flags: int, tail: bytes, additional: int, edns: bool
) -> None:
    counts = (1, 0, 0, 1 if edns else additional)
    wire = b"\x12\x67" + flags.to_bytes(2) + b"".join(count.to_bytes(2) for count in counts)
    wire += b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + kind.to_bytes(2) + rdclass.to_bytes(2)
    wire += b"\0\0\x29\xff\xff" + tail[:4].ljust(4, b"\0") + bytes(2) if edns else tail
    for limit, most in ((None, UDP_PAYLOAD), (MAX_SIZE_TCP, MAX_SIZE_TCP)):
        response = ask(wire, limit)
        assert response is not None
        assert len(response) <= most
        found = dns.message.from_wire(response)
        assert found.id == 0x1267
        assert found.flags & dns.flags.QR
        for rrset in found.answer:
            assert rrset.rdclass == dns.rdataclass.IN
