"""Reads the answers of name servers: what counts in them, and for how long.

Theory of operation. The records that count are those of the name that was asked, or that a chain of CNAME records
leads to from it, in the section of answers. All others are ignored, whatever the server put beside them: it knows
nothing about them. The lifetime is the shortest of these records.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sansnet_core.config import ResolverConfig
from sansnet_core.wire import dns_message as dns
from sansnet_core.wire.dns_message import Message, Question, ResourceRecord

__all__ = ["FAILED", "Answer", "read_answer"]

MAX_CHAIN: Final = 16
"""Most CNAME records that lead from a name to its records."""
MAX_ADDRESSES: Final = 64
"""Most addresses of a name that are used."""
FAILURE: Final = 5.0
"""Seconds for which a failure is kept: at least 1, at most 300 (RFC 9520, 3.2)."""

_MAX_TTL: Final = 1 << 31
"""A larger TTL counts as 0 (RFC 2181, 8)."""
_SIZES: Final = {dns.A: 4, dns.AAAA: 16}


class Answer(NamedTuple):
    """The answer to a question, as far as it is known.

    Attributes:
        rcode: NOERROR, NXDOMAIN or SERVFAIL.
        records: the chain of CNAME records, and the records that were asked for.
        addresses: those of the records, if they are addresses.
        authorities: the SOA record of a negative answer (RFC 2308).
        lifetime: seconds.
    """

    rcode: int
    records: tuple[ResourceRecord, ...] = ()
    addresses: tuple[bytes, ...] = ()
    authorities: tuple[ResourceRecord, ...] = ()
    lifetime: float = FAILURE

    @property
    def size(self) -> int:
        """Bytes that it takes, approximately."""
        return 200 + sum(150 + len(record.name) + len(record.data) for record in (*self.records, *self.authorities))


FAILED: Final = Answer(dns.SERVFAIL)


def read_answer(message: Message | None, question: Question, config: ResolverConfig) -> Answer:
    """The answer that a response has.

    Args:
        message: whose response code is NOERROR or NXDOMAIN; anything else is a failure.
        question: that was asked.
        config: has the bounds of lifetimes.
    """
    if message is None or message.rcode not in (dns.NOERROR, dns.NXDOMAIN):
        return FAILED
    owner = question.name.lower()
    chain: list[ResourceRecord] = []
    found: list[ResourceRecord] = []
    own = [record for record in message.answers if record.class_ == dns.INTERNET]
    while True:
        found = [record for record in own if record.name.lower() == owner and _is_valid(record, question.type)]
        alias = next((record for record in own if record.type == dns.CNAME and record.name.lower() == owner), None)
        if found or alias is None or question.type == dns.CNAME:
            break
        chain.append(alias)
        if len(chain) > MAX_CHAIN or alias.data.lower() in {record.name.lower() for record in chain}:
            return FAILED
        owner = alias.data.lower()
    found = found[:MAX_ADDRESSES] if question.type in _SIZES else found
    ttls = [record.ttl if record.ttl < _MAX_TTL else 0 for record in (*chain, *found)]
    authorities: tuple[ResourceRecord, ...] = ()
    if not found:
        soa = next((record for record in message.authorities if _is_authority(record, owner)), None)
        if soa is None:
            ttls.append(0)
        else:
            ttls += [soa.ttl if soa.ttl < _MAX_TTL else 0, int.from_bytes(soa.data[-4:], "big")]  # RFC 2308, 5
            authorities = (soa,)
    lifetime = min(max(min(ttls), config.min_ttl), config.max_ttl)
    addresses = tuple(record.data for record in found) if question.type in _SIZES else ()
    rcode = dns.NOERROR if found else message.rcode
    return Answer(rcode, (*chain, *found), addresses, authorities, lifetime)


def _is_valid(record: ResourceRecord, type_: int) -> bool:
    return record.type == type_ and len(record.data) == _SIZES.get(type_, len(record.data))


def _is_authority(record: ResourceRecord, owner: bytes) -> bool:
    """Whether it is the SOA record of a zone that a name may be in."""
    if record.type != dns.SOA or record.class_ != dns.INTERNET or len(record.data) < 22:
        return False
    zone = record.name.lower()
    position = 0
    while owner[position:] != zone and owner[position]:
        position += 1 + owner[position]
    return owner[position:] == zone
