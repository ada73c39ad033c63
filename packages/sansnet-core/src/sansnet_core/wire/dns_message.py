"""DNS messages of any kind (RFC 1035, 4; RFC 6891): the parser takes any bytes, from the guest or from a name server.

Theory of operation. Names and the names in the data of records are kept as on the wire but uncompressed, in their
case, so that a record can be put into another message. A pointer must lead to a place before the name that it is part
of, so that no name is read for ever, and their number per name is bounded, as is that of the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple, NoReturn

from sansnet_core.errors import Malformed, Reason
from sansnet_core.orders import Buffer

__all__ = [
    "A",
    "AAAA",
    "ANY",
    "CNAME",
    "FORMERR",
    "HTTPS",
    "INTERNET",
    "NOERROR",
    "NOTIMP",
    "NS",
    "NXDOMAIN",
    "OPCODE",
    "OPT",
    "PTR",
    "REFUSED",
    "RESPONSE",
    "SERVFAIL",
    "SOA",
    "SVCB",
    "TRUNCATED",
    "Edns",
    "Message",
    "Question",
    "ResourceRecord",
    "emit",
    "parse",
]

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
AAAA: Final = 28
OPT: Final = 41
SVCB: Final = 64
HTTPS: Final = 65
ANY: Final = 255
"""Types of records, and of questions."""

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
"""Response codes."""

RESPONSE: Final = 0x8000
OPCODE: Final = 0x7800
TRUNCATED: Final = 0x0200
"""Bits of `Message.flags`."""
_RCODE: Final = 0x000F

INTERNET: Final = 1
"""Class IN."""

_HEADER: Final = Struct("!6H")
_QUESTION: Final = Struct("!HH")
_RECORD: Final = Struct("!HHIH")
"""Type, class, TTL, length of the data; after a name."""

MAX_RECORDS: Final = 512
"""Most records of a message that is read; real ones have a few dozen at most."""
MAX_POINTERS: Final = 128
"""Most pointers in one name: it has fewer labels."""
_MAX_NAME: Final = 255
_MAX_LABEL: Final = 63
_POINTER: Final = 0xC0
_MAX_POINTER: Final = 0x3FFF

_NAMES: Final = {
    **dict.fromkeys((NS, 3, 4, CNAME, 7, 8, 9, PTR, 39), (0, 1)),  # NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME
    **dict.fromkeys((SOA, 14, 17), (0, 2)),  # SOA, MINFO, RP
    **dict.fromkeys((15, 18, 21, 36), (2, 1)),  # MX, AFSDB, RT, KX
    33: (6, 1),  # SRV
    26: (2, 2),  # PX
}
"""Type -> bytes before the names in its data, and number of names; RFC 3597, 4 lets them be compressed."""
_COMPRESSIBLE: Final = frozenset((NS, CNAME, SOA, PTR, 15))
"""Types whose names every reader expands (RFC 3597, 4)."""


class Question(NamedTuple):
    """A question.

    Attributes:
        name: as on the wire, uncompressed.
        type: of the records.
        class_: of the records.
    """

    name: bytes
    type: int
    class_: int = INTERNET


class ResourceRecord(NamedTuple):
    """A record.

    Attributes:
        name: of its owner, as on the wire, uncompressed.
        type: 16 bits.
        class_: 16 bits.
        ttl: seconds, 32 bits.
        data: names in it are uncompressed.
    """

    name: bytes
    type: int
    class_: int
    ttl: int
    data: bytes


class Edns(NamedTuple):
    """The OPT record of a message (RFC 6891).

    Attributes:
        size: bytes of the largest datagram that the sender accepts.
        version: 0 is the only one.
        flags: 16 bits.
        options: as on the wire.
    """

    size: int
    version: int = 0
    flags: int = 0
    options: bytes = b""


class Message(NamedTuple):
    """A query or a response.

    Attributes:
        identifier: 16 bits.
        flags: 16 bits, without the response code.
        rcode: the response code, with its upper bits from the OPT record.
        questions: usually one.
        answers, authorities, additional: records; the OPT record is not among them.
        edns: None without an OPT record.
    """

    identifier: int
    flags: int
    rcode: int = NOERROR
    questions: tuple[Question, ...] = ()
    answers: tuple[ResourceRecord, ...] = ()
    authorities: tuple[ResourceRecord, ...] = ()
    additional: tuple[ResourceRecord, ...] = ()
    edns: Edns | None = None


def parse(message: Buffer, most: int = MAX_RECORDS) -> Message:
    """Read a message with any contents. Bytes after the last record have no effect.

    Args:
        message: the message.
        most: questions and records that it may have.

    Raises:
        Malformed: it is truncated, a name is too long or compressed in a loop, or there are too many records.
    """
    data = bytes(message)
    if len(data) < _HEADER.size:
        _malformed()
    identifier, flags, asked, *counts = _HEADER.unpack_from(data)
    if asked + sum(counts) > most:
        _malformed()
    position = _HEADER.size
    questions = []
    for _ in range(asked):
        name, position = _parse_name(data, position)
        if position + _QUESTION.size > len(data):
            _malformed()
        questions.append(Question(name, *_QUESTION.unpack_from(data, position)))
        position += _QUESTION.size
    sections: list[tuple[ResourceRecord, ...]] = []
    for count in counts:
        records = []
        for _ in range(count):
            record, position = _parse_record(data, position)
            records.append(record)
        sections.append(tuple(records))
    edns, rcode = None, flags & _RCODE
    for record in sections[2]:
        if record.type == OPT:
            if edns is not None or record.name != b"\0":
                _malformed()  # RFC 6891, 6.1.1
            edns = Edns(record.class_, record.ttl >> 16 & 0xFF, record.ttl & 0xFFFF, record.data)
            rcode |= record.ttl >> 24 << 4
    additional = tuple(record for record in sections[2] if record.type != OPT)
    return Message(identifier, flags & ~_RCODE, rcode, tuple(questions), sections[0], sections[1], additional, edns)


def _malformed() -> NoReturn:
    raise Malformed(Reason.DNS_MALFORMED)


def _parse_name(data: bytes, position: int) -> tuple[bytes, int]:
    """The name at a position, uncompressed, and the position after it."""
    parts: list[bytes] = []
    size, end, before, pointers = 1, 0, position, 0
    while True:
        if position >= len(data):
            _malformed()
        length = data[position]
        if length > _MAX_LABEL:
            if length < _POINTER or position + 2 > len(data):
                _malformed()
            target = int.from_bytes(data[position : position + 2], "big") & _MAX_POINTER
            pointers += 1
            if target >= before or pointers > MAX_POINTERS:
                _malformed()
            end = end or position + 2
            position = before = target
            continue
        position += 1 + length
        if not length:
            return b"".join(parts) + b"\0", end or position
        size += 1 + length
        if position > len(data) or size > _MAX_NAME:
            _malformed()
        parts.append(data[position - length - 1 : position])


def _parse_record(data: bytes, position: int) -> tuple[ResourceRecord, int]:
    """The record at a position, and the position after it."""
    name, position = _parse_name(data, position)
    start = position + _RECORD.size
    if start > len(data):
        _malformed()
    type_, class_, ttl, length = _RECORD.unpack_from(data, position)
    end = start + length
    if end > len(data):
        _malformed()
    content = data[start:end]
    if type_ in _NAMES:
        before, names = _NAMES[type_]
        parts, at = [content[:before]], start + before
        for _ in range(names):
            part, at = _parse_name(data, at)
            parts.append(part)
        if at > end or (at < end and type_ != SOA):
            _malformed()
        content = b"".join((*parts, data[at:end]))
    return ResourceRecord(name, type_, class_, ttl, content), end


def emit(message: Message, size: int = 65535) -> bytes:
    """The bytes of a message, with compressed names.

    Args:
        message: the message.
        size: bytes, at least 512; a larger message is emitted without records, marked as truncated.
    """
    data = _emit(message)
    if len(data) > size:
        kept = message._replace(flags=message.flags | TRUNCATED, answers=(), authorities=(), additional=())
        data = _emit(kept)
    return data


def _emit(message: Message) -> bytes:
    edns = message.edns
    sections = (message.answers, message.authorities, message.additional)
    counts = [len(section) for section in sections]
    counts[2] += edns is not None
    out = bytearray(
        _HEADER.pack(message.identifier, message.flags | message.rcode & _RCODE, len(message.questions), *counts)
    )
    known: dict[bytes, int] = {}
    for question in message.questions:
        _emit_name(out, question.name, known)
        out += _QUESTION.pack(question.type, question.class_)
    for section in sections:
        _emit_records(out, section, known)
    if edns is not None:
        ttl = message.rcode >> 4 << 24 | edns.version << 16 | edns.flags
        out += b"\0" + _RECORD.pack(OPT, edns.size, ttl, len(edns.options)) + edns.options
    return bytes(out)


def _emit_records(out: bytearray, records: Iterable[ResourceRecord], known: dict[bytes, int]) -> None:
    for record in records:
        _emit_name(out, record.name, known)
        start = len(out)
        out += _RECORD.pack(record.type, record.class_, record.ttl, 0)
        data = record.data
        if record.type in _COMPRESSIBLE:
            before, names = _NAMES[record.type]
            out += data[:before]
            position = before
            for _ in range(names):
                name, position = _parse_name(data, position)
                _emit_name(out, name, known)
            data = data[position:]
        out += data
        out[start + 8 : start + 10] = (len(out) - start - _RECORD.size).to_bytes(2, "big")


def _emit_name(out: bytearray, name: bytes, known: dict[bytes, int]) -> None:
    """Append a name; `known` has the places of the names so far, and of their ends."""
    position = 0
    while length := name[position]:
        rest = name[position:]
        if rest in known:
            out += (_POINTER << 8 | known[rest]).to_bytes(2, "big")
            return
        if len(out) <= _MAX_POINTER:
            known[rest] = len(out)
        out += name[position : position + 1 + length]
        position += 1 + length
    out.append(0)
