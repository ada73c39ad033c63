"""From a question to the content of the response (RFC 1034, section 4.3.2). Pure; callables are called elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, TypeAlias, cast

import dns.name
import dns.rcode
import dns.rdataset
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.CNAME import CNAME

from sansnet_trio.dns.message import Query, Reply
from sansnet_trio.dns.records import Answerer, Entry
from sansnet_trio.dns.zones import Zones

__all__ = ["Resolution", "resolve"]

_MAX_CHAIN: Final = 16
"""Most CNAME records that are followed."""

Resolution: TypeAlias = Generator[tuple[Answerer, Name], Entry | None, Reply]
"""Gives each callable that must be asked and the name to ask for, takes the entry (`send`), and returns the reply."""


def resolve(zones: Zones, otherwise: Entry | Answerer, query: Query) -> Resolution:
    """Find the answer to a query without a problem.

    Args:
        zones: the names.
        otherwise: the entry of names that `zones` does not have, outside of its zones with SOA records.
        query: the query.
    """
    if query.problem is not None or query.name is None:
        return Reply(query.problem or dns.rcode.FORMERR)
    name, kind, reply = query.name, query.type, Reply(authoritative=True)
    for step in range(_MAX_CHAIN + 1):
        found = zones.find(name)
        if found is None:
            if zones.owns(name) or (zones.exists(name) and isinstance(otherwise, dns.rcode.Rcode)):
                found = {} if zones.exists(name) else dns.rcode.NXDOMAIN
            else:
                found = otherwise
                if not step:
                    reply.authoritative = isinstance(otherwise, Mapping) or otherwise == dns.rcode.NXDOMAIN
        entry = found if isinstance(found, dns.rcode.Rcode | Mapping) else ((yield found, name) or {})
        if isinstance(entry, dns.rcode.Rcode):
            if reply.answer and entry == dns.rcode.REFUSED:
                return reply  # the chain leads to a name of other servers
            reply.rcode = entry
            if entry == dns.rcode.NXDOMAIN:
                reply.authority.append(zones.authority(name))
            return reply
        chosen = _choose(entry, kind)
        if chosen is None:
            reply.authority.append(zones.authority(name))
            return reply
        reply.answer.append((name, chosen))
        if chosen.rdtype != RdataType.CNAME or kind in (RdataType.CNAME, RdataType.ANY):
            return reply
        name = cast(CNAME, chosen[0]).target
        if any(name == owner for owner, _ in reply.answer):
            break
    reply.rcode = dns.rcode.SERVFAIL  # a circle, or a chain without an end
    return reply


def _choose(entry: Mapping[RdataType, dns.rdataset.Rdataset], kind: RdataType) -> dns.rdataset.Rdataset | None:
    """The rdataset of a type, or the CNAME that leads to it. ANY gets one of them (RFC 8482, section 4.1)."""
    if kind == RdataType.ANY:
        return next(iter(entry.values()), None)
    return entry.get(kind) or entry.get(RdataType.CNAME)
