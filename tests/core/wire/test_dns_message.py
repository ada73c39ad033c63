"""DNS messages: read and written as by dnspython, and bytes that are no message."""

from __future__ import annotations

import struct
import time

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansnet_core.errors import Malformed, Reason
from sansnet_core.wire import dns_message, dns_names
from sansnet_core.wire.dns_message import Edns, Message, Question, ResourceRecord

LABELS = st.binary(min_size=1, max_size=12)
NAMES = st.lists(LABELS, max_size=6).map(lambda labels: dns.name.Name([*labels, b""]))
HOSTS = st.lists(st.sampled_from([b"a", b"www", b"example", b"org", b"x" * 63]), max_size=3).map(
    lambda labels: dns.name.Name([*labels, b""])
)
IPV4 = st.binary(min_size=4, max_size=4).map(lambda data: ".".join(map(str, data)))


@st.composite
def rdatas(draw: st.DrawFn) -> dns.rdata.Rdata:
    """The data of a record of the types that contain names, and of some that do not."""
    type_ = draw(st.sampled_from(["A", "AAAA", "CNAME", "NS", "PTR", "MX", "SOA", "SRV", "TXT", "TYPE300"]))
    name, other = draw(HOSTS), draw(HOSTS)
    number = draw(st.integers(0, 65535))
    text = {
        "A": draw(IPV4),
        "AAAA": f"2001:db8::{number:x}",
        "CNAME": f"{name}",
        "NS": f"{name}",
        "PTR": f"{name}",
        "MX": f"{number} {name}",
        "SOA": f"{name} {other} {number} 2 3 4 {number}",
        "SRV": f"{number} 1 443 {name}",
        "TXT": '"some text"',
        "TYPE300": "\\# 3 010203",
    }[type_]
    return dns.rdata.from_text("IN", type_, text)


@st.composite
def messages(draw: st.DrawFn) -> dns.message.Message:
    """Responses of dnspython."""
    query = dns.message.make_query(
        draw(NAMES), dns.rdatatype.RdataType.make(draw(st.integers(1, 254))), use_edns=draw(st.sampled_from([-1, 0]))
    )
    query.id = draw(st.integers(0, 65535))
    message = dns.message.make_response(query)
    message.set_rcode(dns.rcode.Rcode(draw(st.sampled_from([0, 2, 3, 5]))))
    for section in (message.answer, message.authority, message.additional):
        for _ in range(draw(st.integers(0, 3))):
            data = draw(rdatas())
            section.append(dns.rrset.from_rdata(draw(HOSTS), draw(st.integers(0, 2**31 - 1)), data))
    return message


def wire(name: dns.name.Name) -> bytes:
    data = name.to_wire()
    assert data is not None
    return data


@given(messages())
def test_a_message_of_dnspython_is_read(message: dns.message.Message) -> None:
    data = message.to_wire()
    read = dns_message.parse(data)
    assert (read.identifier, read.rcode) == (message.id, int(message.rcode()))
    assert [(one.name, one.type) for one in read.questions] == [
        (wire(one.name), int(one.rdtype)) for one in message.question
    ]
    assert (read.edns is None) == (message.edns < 0)
    for ours, theirs in zip(
        (read.answers, read.authorities, read.additional),
        (message.answer, message.authority, message.additional),
        strict=True,
    ):
        assert sorted(ours) == sorted(
            ResourceRecord(wire(one.name), int(one.rdtype), int(one.rdclass), one.ttl, data.to_wire())
            for one in theirs
            for data in one
        )


@given(messages())
def test_dnspython_reads_what_is_written(message: dns.message.Message) -> None:
    """Compression is undone by dnspython, and by our own parser."""
    read = dns_message.parse(message.to_wire())
    written = dns_message.emit(read)
    assert dns_message.parse(written) == read
    assert dns.message.from_wire(written) == dns.message.from_wire(message.to_wire())
    assert written[:2] == message.to_wire()[:2]


@given(NAMES)
def test_the_text_of_a_name_has_one_dot_between_two_labels_and_no_control_characters(name: dns.name.Name) -> None:
    text = dns_names.text(wire(name))
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    labels = [] if text == "." else text.split(".")
    assert len(labels) == len(name.labels) - 1
    assert dns_names.from_text(text) == wire(name).lower()
    assert dns_names.labels(dns_names.from_text(text)) == [label.lower() for label in name.labels[:-1]]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((), "."),
        ((b"API", b"GitHub", b"com"), "api.github.com"),
        ((b"a.b", b"org"), "a\\046b.org"),
        ((b"_sip", b"_tcp", b"example"), "_sip._tcp.example"),
        ((b"a\n\x1b[31m",), "a\\010\\027[31m"),
        ((b"\\", b'"'), "\\092.\\034"),
        ((b"\xc3\xa4",), "\\195\\164"),
    ],
)
def test_a_name_has_one_canonical_text(labels: tuple[bytes, ...], text: str) -> None:
    assert dns_names.text(wire(dns.name.Name([*labels, b""]))) == text


HEADER = struct.pack("!6H", 7, 0x8180, 1, 0, 0, 0)


def malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        dns_message.parse(data)
    assert caught.value.reason is Reason.DNS_MALFORMED


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # to itself
        b"\x01a\xc0\x0c",  # to its own beginning
        b"\xc0\x0e\xc0\x0c",  # forward, and back
        b"\xc0\x0e\0",  # forward
        b"\xc0\xff\0",  # beyond the end
        b"\xc0",
        b"\x40a\0",  # RFC 2673, obsolete
        b"\x80a\0",
        b"\x40\0",
        b"\x80\0",
        b"\x05abc",
        b"",
        (b"\x3f" + b"a" * 63) * 4 + b"\0",  # 257 bytes
        b"\x01a" * 128 + b"\0",
    ],
)
def test_a_name_that_loops_or_is_too_long_is_malformed(name: bytes) -> None:
    malformed(HEADER + name + b"\0\1\0\1")


def test_a_name_has_128_pointers_at_most() -> None:
    """A root in the data of the first record, pointers behind it, each to the one before, and one more as a name."""
    root = 12 + 11
    pointers = [(0xC000 | place).to_bytes(2, "big") for place in (root, *range(root + 1, root + 2 * 128, 2))]
    for count in (128, 129):
        *inner, name = pointers[:count]
        content = b"\0" + b"".join(inner)
        data = (
            struct.pack("!6H", 7, 0x8180, 0, 2, 0, 0) + b"\0" + struct.pack("!HHIH", 300, 1, 0, len(content)) + content
        )
        data += name + struct.pack("!HHIH", 300, 1, 0, 0)
        if count == 128:
            assert dns_message.parse(data).answers[1].name == b"\0"
        else:
            malformed(data)


@pytest.mark.parametrize(("place", "name"), [(0x3FFF, b"\xff\xff"), (0x4000, b"\1a\0")])
def test_a_pointer_leads_no_farther_than_14_bits(place: int, name: bytes) -> None:
    """RFC 1035, 4.1.4."""
    first = ResourceRecord(b"\0", 300, 1, 0, bytes(place - 12 - 11))
    other = ResourceRecord(b"\1a\0", 300, 1, 0, b"")
    message = Message(7, 0x8180, answers=(first, other, other))
    data = dns_message.emit(message)
    assert data[place:] == b"\1a\0" + struct.pack("!HHIH", 300, 1, 0, 0) + name + struct.pack("!HHIH", 300, 1, 0, 0)
    assert dns_message.parse(data) == message


def test_a_name_of_255_bytes_is_read() -> None:
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(name) == 255
    assert dns_message.parse(HEADER + name + b"\0\1\0\1").questions == (Question(name, 1),)


@pytest.mark.parametrize(
    ("type_", "sent", "read", "written"),
    [
        pytest.param(5, b"\xc0\x0c", b"\1a\2bc\0", b"\xc0\x0c", id="CNAME"),
        pytest.param(12, b"\1x\xc0\x0e", b"\1x\2bc\0", b"\1x\xc0\x0e", id="PTR"),
        pytest.param(15, b"\0\5\xc0\x0e", b"\0\5\2bc\0", b"\0\5\xc0\x0e", id="MX"),
        pytest.param(
            6,
            b"\xc0\x0e\xc0\x0c" + b"t" * 20,
            b"\2bc\0\1a\2bc\0" + b"t" * 20,
            b"\xc0\x0e\xc0\x0c" + b"t" * 20,
            id="SOA",
        ),
        pytest.param(33, b"\0\1\0\2\0\3\xc0\x0e", b"\0\1\0\2\0\3\2bc\0", b"\0\1\0\2\0\3\2bc\0", id="SRV"),
        pytest.param(1, b"\xc0\x0c\xc0\x0e", b"\xc0\x0c\xc0\x0e", b"\xc0\x0c\xc0\x0e", id="A"),
    ],
)
def test_names_in_records_are_read_uncompressed(type_: int, sent: bytes, read: bytes, written: bytes) -> None:
    """RFC 1035, 4.1.4; those of newer types are not compressed again (RFC 3597, 4)."""
    head = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + b"\1a\2bc\0\0\1\0\1" + b"\xc0\x0c"
    data = head + struct.pack("!HHIH", type_, 1, 0x10203, len(sent)) + sent
    message = dns_message.parse(data)
    assert message.questions == (Question(b"\1a\2bc\0", 1),)
    assert message.answers == (ResourceRecord(b"\1a\2bc\0", type_, 1, 0x10203, read),)
    assert dns_message.emit(message) == head + struct.pack("!HHIH", type_, 1, 0x10203, len(written)) + written


def test_a_header_alone_is_a_message() -> None:
    data = struct.pack("!6H", 7, 0x8183, 0, 0, 0, 0)
    assert dns_message.parse(data) == Message(7, 0x8180, 3)
    assert dns_message.emit(Message(7, 0x8180, 3)) == data


def test_questions_and_records_are_counted_together() -> None:
    record = b"\0" + struct.pack("!HHIH", 300, 1, 0, 0)
    data = struct.pack("!6H", 7, 0x8180, 1, 1, 1, 1) + b"\0\0\1\0\1" + record * 3
    assert len(dns_message.parse(data, 4).additional) == 1
    with pytest.raises(Malformed, match=Reason.DNS_MALFORMED.value):
        dns_message.parse(data, 3)


@given(messages(), st.data())
def test_a_truncated_message_is_malformed_or_has_fewer_bytes_of_no_meaning(
    message: dns.message.Message, data: st.DataObject
) -> None:
    whole = message.to_wire()
    cut = data.draw(st.integers(0, len(whole) - 1))
    malformed(whole[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        read = dns_message.parse(data)
    except Malformed:
        return
    assert dns_message.parse(dns_message.emit(read)) == read


@given(messages(), st.data())
def test_a_message_with_changed_bytes_is_a_message_or_malformed(
    message: dns.message.Message, data: st.DataObject
) -> None:
    changed = bytearray(message.to_wire())
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = dns_message.parse(bytes(changed))
    except Malformed:
        return
    assert dns_message.parse(dns_message.emit(read)) == read


def test_the_costliest_message_is_read_quickly() -> None:
    """The names of all records are a chain of pointers in the first one, as long as a chain may be."""
    places = range(24, 24 + 2 * 127, 2)
    chain = b"\0" + b"".join((0xC000 | max(place - 2, 23)).to_bytes(2, "big") for place in places)
    first = b"\0" + struct.pack("!HHIH", 300, 1, 0, len(chain)) + chain
    record = (0xC000 | places[-1]).to_bytes(2, "big") + struct.pack("!HHIH", 300, 1, 0, 0)
    data = struct.pack("!6H", 7, 0x8180, 0, 0, 0, 512) + first + record * 511
    begun = time.process_time()
    assert len(dns_message.parse(data).additional) == 512
    assert time.process_time() - begun < 2
    longer = first[:-2] + (0xC000 | places[-1]).to_bytes(2, "big")
    malformed(struct.pack("!6H", 7, 0x8180, 0, 2, 0, 0) + longer + (0xC000 | places[-1]).to_bytes(2, "big"))
    malformed(struct.pack("!6H", 7, 0x8180, 0, 65535, 65535, 65535) + bytes(65000))


def test_a_record_must_end_where_its_data_ends() -> None:
    question = b"\0\0\1\0\1"
    for content in (b"", b"\x01a", b"\x01a\0junk", b"\xc0\x0c\0"):
        record = b"\0" + struct.pack("!HHIH", 5, 1, 0, len(content)) + content
        malformed(struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + question + record)


def test_a_message_that_is_too_large_is_truncated_as_a_whole() -> None:
    record = ResourceRecord(b"\x01a\0", 16, 1, 60, b"\xff" + b"x" * 255)
    message = Message(7, 0x8180, 0, (Question(b"\x01a\0", 16),), (record,) * 2, (record,), (record,), Edns(1232))
    whole = dns_message.emit(message, 2000)
    assert dns_message.parse(whole) == message
    assert dns_message.emit(message, len(whole)) == whole
    for size in (512, len(whole) - 1):
        short = dns.message.from_wire(dns_message.emit(message, size))
        assert short.flags & dns.flags.TC
        assert (len(short.question), short.answer, short.authority, short.additional) == (1, [], [], [])
        assert short.edns == 0


def test_a_message_has_65535_bytes_at_most() -> None:
    """RFC 1035, 4.2.2."""
    for size, records in ((65535, 1), (65536, 0)):
        message = Message(7, 0x8180, answers=(ResourceRecord(b"\0", 16, 1, 60, bytes(size - 12 - 11)),))
        assert len(dns_message.parse(dns_message.emit(message)).answers) == records


def test_an_opt_record_has_a_size_upper_bits_of_the_code_a_version_and_flags() -> None:
    """RFC 6891, 6.1.3."""
    opt = b"\0" + struct.pack("!HHBBHH", 41, 1232, 0x12, 5, 0x8001, 4) + b"\0\x0a\0\0"
    data = struct.pack("!6H", 7, 0x8183, 0, 0, 0, 1) + opt
    message = Message(7, 0x8180, 0x123, edns=Edns(1232, 5, 0x8001, b"\0\x0a\0\0"))
    assert dns_message.parse(data) == message
    assert dns_message.emit(message) == data


def test_a_message_with_two_opt_records_is_malformed() -> None:
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    head = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 2) + b"\0\0\1\0\1"
    malformed(head + opt + opt)
    malformed(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + b"\0\0\1\0\1" + b"\x01a" + opt)
    dns_message.parse(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + b"\0\0\1\0\1" + opt)
