"""The DNS messages (RFC 1035, 4) of a server that has only the addresses of a few names."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from sansnet_core.orders import Buffer

__all__ = ["A", "AAAA", "ANY", "HEADER_SIZE", "PORT", "PORTS", "Query", "emit_answer", "parse_query"]

PORT: Final = 53
PORTS: Final = (PORT, 853)
"""Ports of name servers: DNS (RFC 1035), and DNS over TLS (RFC 7858)."""

A: Final = 1
AAAA: Final = 28
ANY: Final = 255
"""Types of records, and of questions."""

# identifier, flags, counts of questions, answers, authorities, additional records
_HEADER: Final = Struct("!6H")
HEADER_SIZE: Final = 12

_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_CHECKING_DISABLED: Final = 0x0010
"""RFC 4035, 3.2.2: copied from the query, like `_RECURSION_DESIRED`."""

_INTERNET: Final = 1
"""Class IN."""
_MAX_NAME: Final = 255
_MAX_LABEL: Final = 63

# type, class, TTL, length of the data; after a name
_RECORD: Final = Struct("!HHIH")
_NAME_OF_QUESTION: Final = (0xC000 | HEADER_SIZE).to_bytes(2, "big")
"""A pointer (RFC 1035, 4.1.4)."""

_OPT: Final = 41
"""EDNS (RFC 6891): the class is the largest datagram that the sender accepts; the TTL has a version and flags."""
_ROOT: Final = b"\0"
_VERSION: Final = 0x00FF0000
_DNSSEC_OK: Final = 0x00008000
_MAX_DATAGRAM: Final = 1232


class Query(NamedTuple):
    """A query of one question about the Internet.

    Attributes:
        identifier: 16 bits.
        flags: 16 bits.
        name: as on the wire, uncompressed, ASCII letters in lower case.
        type: of the requested records.
        question: as on the wire.
        edns: the 32 bits of the OPT record's TTL; None without an OPT record.
    """

    identifier: int
    flags: int
    name: bytes
    type: int
    question: bytes
    edns: int | None


def parse_query(message: Buffer) -> Query | None:
    """Read a query.

    Args:
        message: the payload of a datagram, with any contents.

    Returns:
        None for anything but a query with one question of class IN and no record but an OPT record of EDNS version 0.
        Such messages must be left to a full server.
    """
    size = len(message)
    if size < HEADER_SIZE:
        return None
    identifier, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & (_RESPONSE | _OPCODE | _TRUNCATED) or (questions, answers, authorities) != (1, 0, 0):
        return None
    end = _end_of_name(message)
    if end is None or end + 4 > size:
        return None
    type_ = int.from_bytes(message[end : end + 2], "big")
    class_ = int.from_bytes(message[end + 2 : end + 4], "big")
    rest = bytes(message[end + 4 :])
    edns = None
    if additional:
        edns = _parse_opt(rest) if additional == 1 else None
        if edns is None:
            return None
    elif rest:
        return None
    if class_ != _INTERNET:
        return None
    name = bytes(message[HEADER_SIZE:end]).lower()  # the lengths in it are below the upper-case letters
    return Query(identifier, flags, name, type_, bytes(message[HEADER_SIZE : end + 4]), edns)


def _end_of_name(message: Buffer) -> int | None:
    """End of the question's name; None if it is invalid or compressed."""
    position = HEADER_SIZE
    while position < min(len(message), HEADER_SIZE + _MAX_NAME):
        length = message[position]
        position += 1 + length
        if not length:
            return position
        if length > _MAX_LABEL:
            return None
    return None


def _parse_opt(record: bytes) -> int | None:
    """The TTL of an OPT record of version 0; None if `record` is anything else or longer."""
    if len(record) < len(_ROOT) + _RECORD.size or record[:1] != _ROOT:
        return None
    type_, _, ttl, length = _RECORD.unpack_from(record, len(_ROOT))
    if type_ != _OPT or ttl & _VERSION or length != len(record) - len(_ROOT) - _RECORD.size:
        return None
    return int(ttl)


def emit_answer(query: Query, type_: int, addresses: Sequence[bytes]) -> bytes:
    """The answer to a query, without an error, with records of these addresses, or with none.

    Args:
        query: the query.
        type_: of the records.
        addresses: 4 or 16 bytes each, according to the type; few enough for 512 bytes.
    """
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE
    flags |= query.flags & (_RECURSION_DESIRED | _CHECKING_DISABLED)
    parts = [
        _HEADER.pack(query.identifier, flags, 1, len(addresses), 0, query.edns is not None),
        query.question,
    ]
    # TTL 0: a cache would save nothing, and the address may change by a reconfiguration
    parts += [_NAME_OF_QUESTION + _RECORD.pack(type_, _INTERNET, 0, len(address)) + address for address in addresses]
    if query.edns is not None:
        parts.append(_ROOT + _RECORD.pack(_OPT, _MAX_DATAGRAM, query.edns & _DNSSEC_OK, 0))
    return b"".join(parts)
