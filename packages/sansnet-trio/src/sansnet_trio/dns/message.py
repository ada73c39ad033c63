"""Queries and responses as bytes (RFC 1035, section 4; RFC 6891). Pure: no query raises an exception."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import BytesIO
from struct import Struct
from typing import Final

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.wire
from dns.name import Name
from dns.rcode import Rcode
from dns.rdatatype import RdataType

__all__ = ["MAX_SIZE_TCP", "UDP_PAYLOAD", "Query", "Reply", "compose", "read_query"]

UDP_PAYLOAD: Final = 1232
"""Most bytes of a datagram in both directions: it is not fragmented on the way (DNS flag day 2020; RFC 9715)."""
MAX_SIZE_TCP: Final = 65535

_HEADER: Final = Struct("!HHHHHH")
_QUESTION: Final = Struct("!HH")
_OPT: Final = Struct("!BHHIH")
"""Name (the root), type, payload size, extended response code with flags, length of the options."""
_MIN_PAYLOAD: Final = 512
_MAX_QUERY: Final = 4096
"""Bytes; one question with options takes less than 1500."""
_MAX_ADDITIONAL: Final = 4
"""Records behind the question; a query has one OPT, and perhaps a signature."""
_MAX_SHARED: Final = 16
"""Parents of a name that are used to compress others: making them takes quadratic time."""
_OPCODE: Final = 0x7800
_META: Final = range(128, 256)
"""QTYPEs and meta-types (RFC 6895, section 3.1)."""
_TRANSFERS: Final = frozenset({RdataType.AXFR, RdataType.IXFR})


@dataclass(frozen=True, slots=True)
class Query:
    """A query, as far as it could be read.

    Attributes:
        id: 16 bits.
        flags: the second 16 bits of the header.
        question: the question's bytes, which the response repeats with the case of all letters; empty if it could not
            be read.
        name, type, rdclass: the question; name None if it could not be read.
        problem: the response code, if the query gets no other answer.
        payload: most bytes of the response over UDP; at least 512.
        edns: whether the query has an OPT record.
        dnssec_ok: the DO bit, which the response repeats (RFC 3225, section 3).
    """

    id: int
    flags: int
    question: bytes = b""
    name: Name | None = None
    type: RdataType = RdataType.NONE
    rdclass: int = dns.rdataclass.IN
    problem: Rcode | None = None
    payload: int = _MIN_PAYLOAD
    edns: bool = False
    dnssec_ok: bool = False


@dataclass(slots=True)
class Reply:
    """The content of a response.

    Attributes:
        rcode: the response code.
        answer, authority: records with their owners.
        authoritative: the first name is one of this server's (AA).
    """

    rcode: Rcode = dns.rcode.NOERROR
    answer: list[tuple[Name, dns.rdataset.Rdataset]] = field(default_factory=list)
    authority: list[tuple[Name, dns.rdataset.Rdataset]] = field(default_factory=list)
    authoritative: bool = False


def read_query(data: bytes) -> Query | None:
    """Read a message; None if it must not be answered: it is a response, or too short to have a header."""
    if len(data) < _HEADER.size:
        return None
    identity, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & dns.flags.QR:
        return None
    if flags & _OPCODE:
        return Query(identity, flags, problem=dns.rcode.NOTIMP)
    wrong = Query(identity, flags, problem=dns.rcode.FORMERR)
    if questions != 1 or answers or additional > _MAX_ADDITIONAL or len(data) > _MAX_QUERY:  # one question: RFC 9619
        return wrong
    parser = dns.wire.Parser(data, _HEADER.size)
    try:
        question = _read_question(parser)
    except (dns.exception.DNSException, ValueError):
        return wrong
    wrong = Query(identity, flags, *question, dns.rcode.FORMERR)
    if authorities:  # only IXFR has these (RFC 1995, section 3)
        return replace(wrong, problem=dns.rcode.REFUSED) if wrong.type == RdataType.IXFR else wrong
    payload, version, edns_flags, edns = _MIN_PAYLOAD, 0, 0, False
    try:
        for _ in range(additional):
            owner = dns.name.from_wire_parser(parser)
            each, payload_or_class, ttl, size = parser.get_struct("!HHIH")
            parser.get_bytes(size)
            if each != RdataType.OPT:
                continue
            if edns or owner != dns.name.root:  # RFC 6891, section 6.1.1
                return wrong
            edns, payload = True, max(_MIN_PAYLOAD, payload_or_class)
            version, edns_flags = ttl >> 16 & 0xFF, ttl & 0xFFFF
        if parser.remaining():
            return wrong
    except (dns.exception.DNSException, ValueError):
        return wrong
    problem = dns.rcode.BADVERS if version else _unsupported(wrong.type, wrong.rdclass)
    dnssec_ok = bool(edns_flags & dns.flags.DO)
    return Query(identity, flags, *question, problem, min(payload, UDP_PAYLOAD), edns, dnssec_ok)


def _read_question(parser: dns.wire.Parser) -> tuple[bytes, Name, RdataType, int]:
    name = dns.name.from_wire_parser(parser)
    if parser.current != _HEADER.size + sum(1 + len(label) for label in name.labels):
        raise dns.exception.FormError  # nothing is before the name to which a pointer could lead
    kind, rdclass = parser.get_struct(_QUESTION.format)
    return parser.wire[_HEADER.size : parser.current], name, RdataType.make(kind), rdclass


def _unsupported(kind: RdataType, rdclass: int) -> Rcode | None:
    if rdclass != dns.rdataclass.IN:
        return dns.rcode.NOTIMP
    if kind in _TRANSFERS:
        return dns.rcode.REFUSED
    if kind in (RdataType.NONE, RdataType.OPT) or (kind in _META and kind != RdataType.ANY):
        return dns.rcode.NOTIMP
    return None


def compose(query: Query, reply: Reply, limit: int) -> bytes:
    """The response to a query.

    Args:
        query: see `read_query`.
        reply: its content. If it does not fit, complete rdatasets are left out, and TC is set.
        limit: most bytes: `query.payload` over UDP, `MAX_SIZE_TCP` over TCP.
    """
    low, high = dns.rcode.to_flags(reply.rcode)
    # A guest takes this server for a resolver, so it says that recursion is available
    flags = dns.flags.QR | (query.flags & (_OPCODE | dns.flags.RD | dns.flags.CD)) | dns.flags.RA | low
    if reply.authoritative:
        flags |= dns.flags.AA
    out, counts = BytesIO(), [0, 0, 0, int(query.edns)]
    names: dns.name.CompressType = {}
    out.write(bytes(_HEADER.size))
    out.write(query.question)
    if query.name is not None:
        counts[0] = 1
        names.update(_suffixes(query.name))
    room = limit - (_OPT.size if query.edns else 0)
    sections = [(1, *each) for each in reply.answer] + [(2, *each) for each in reply.authority]
    for section, owner, rdataset in sections:
        start = out.tell()
        count = rdataset.to_wire(owner, out, names, want_shuffle=False)
        if out.tell() > room:
            out.seek(start)
            out.truncate()
            flags |= dns.flags.TC
            break
        counts[section] += count
    if query.edns:
        extended = high | (dns.flags.DO if query.dnssec_ok else 0)
        out.write(_OPT.pack(0, RdataType.OPT, UDP_PAYLOAD, extended, 0))
    out.seek(0)
    out.write(_HEADER.pack(query.id, flags, *counts))
    return out.getvalue()


def _suffixes(name: Name) -> dns.name.CompressType:
    """Where the name of the question and its parents are in the message; later names may end with them."""
    found: dns.name.CompressType = {}
    place = _HEADER.size
    for count, label in enumerate(name.labels[:_MAX_SHARED]):
        if label:
            found[Name(name.labels[count:])] = place
        place += 1 + len(label)
    return found
