"""The records that a program gives for a name, in the forms that are easy to write, as rdatasets of dnspython.

A value is an address, the text of a record as in a zone file (RFC 1035, section 5.1), a record or rdataset of
dnspython, several of these, the name of a response code, or None for NXDOMAIN.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.ttl
from dns.rdatatype import RdataType

from sansnet_core import ConfigError

if TYPE_CHECKING:
    from sansnet_core import Endpoint

__all__ = ["Answer", "Answerer", "Entry", "Question", "Record", "Records", "Value", "add_record", "read_answer"]

Record: TypeAlias = str | bytes | IPv4Address | IPv6Address | dns.rdata.Rdata
"""An address as text, bytes or object; `"[TTL] TYPE DATA"`; the name of a response code; or a record of dnspython."""

Answer: TypeAlias = Record | Iterable[Record] | None
"""The records of a name. None: there is no such name. An empty iterable: the name exists, without records."""

Records: TypeAlias = Mapping[RdataType, dns.rdataset.Rdataset]
"""The records of one name by their type."""

Entry: TypeAlias = Records | dns.rcode.Rcode
"""The records of a name, or the response code instead of them."""

_SERVED_NEVER: Final = frozenset({RdataType.DNAME, RdataType.OPT, RdataType.TSIG, RdataType.TKEY, RdataType.SIG})
_SIZES: Final = {4: RdataType.A, 16: RdataType.AAAA}
_FORMS: Final = (
    "give an address such as '10.9.0.1', a record as in a zone file such as 'CNAME app.internal' or "
    "'300 SRV 0 0 80 app.internal', or a response code such as 'NXDOMAIN'"
)


class Question(NamedTuple):
    """A question about a name for which the program has a callable.

    Attributes:
        name: in lower case, without the final dot; the root is `"."`.
        type: such as `"A"`, `"HTTPS"`; `"TYPE65280"` for types that have no name.
        guest: the endpoint that asks.
    """

    name: str
    type: str
    guest: Endpoint

    def __str__(self) -> str:
        return f"{self.name} {self.type} from {self.guest}"


Answerer: TypeAlias = Callable[[Question], Answer | Awaitable[Answer]]
"""A function, sync or async, that is asked for the records of a name."""

Value: TypeAlias = Answer | Answerer


def read_answer(value: Answer, ttl: int, where: str) -> Entry:
    """Read the value of one name.

    Args:
        value: see `Answer`.
        ttl: seconds, for records that have no TTL of their own.
        where: names the value in errors.

    Raises:
        ConfigError: it has none of the forms, or the records exclude each other.
    """
    if value is None:
        return dns.rcode.NXDOMAIN
    if isinstance(value, str) and (code := _response_code(value)) is not None:
        return code
    found: dict[RdataType, dns.rdataset.Rdataset] = {}
    if isinstance(value, dns.rdataset.Rdataset):
        for record in value:
            add_record(found, record, value.ttl, where)
        return found
    if isinstance(value, Record):
        value = (value,)
    elif not isinstance(value, Iterable):
        raise ConfigError(f"{where}: {value!r} is no record; {_FORMS}")
    for each in value:
        record, own = _read_record(each, ttl, where)
        add_record(found, record, own, where)
    if RdataType.CNAME in found and len(found) > 1:
        others = ", ".join(dns.rdatatype.to_text(kind) for kind in found if kind != RdataType.CNAME)
        raise ConfigError(f"{where}: a CNAME excludes other records (RFC 1034, section 3.6.2); leave out {others}")
    return found


def add_record(found: dict[RdataType, dns.rdataset.Rdataset], record: dns.rdata.Rdata, ttl: int, where: str) -> None:
    """Add a record to those of a name.

    Raises:
        ConfigError: its type may not be served, or only once; or a name in it is not complete.
    """
    kind = record.rdtype
    if kind in _SERVED_NEVER or dns.rdatatype.is_metatype(kind) or record.rdclass != dns.rdataclass.IN:
        remedy = "; use a wildcard with a CNAME" if kind == RdataType.DNAME else "; leave it out"
        raise ConfigError(
            f"{where}: records of class {record.rdclass.name} and type {kind.name} are not served{remedy}"
        )
    try:
        record.to_wire()
    except dns.name.NeedAbsoluteNameOrOrigin as error:
        raise ConfigError(f"{where}: {record} has a name without its final dot; add the dot") from error
    rdataset = found.get(kind)
    if rdataset is None:
        rdataset = found[kind] = dns.rdataset.Rdataset(record.rdclass, kind)
    elif dns.rdatatype.is_singleton(kind) and record not in rdataset:
        raise ConfigError(f"{where}: a name has one {dns.rdatatype.to_text(kind)} at most; leave out the others")
    rdataset.add(record, ttl)  # one TTL for all, the smallest (RFC 2181, section 5.2)


def _response_code(text: str) -> dns.rcode.Rcode | None:
    try:
        code = dns.rcode.from_text(text.strip())
    except dns.exception.DNSException:
        return None
    return code if text.strip().isalpha() and dns.rcode.NOERROR < code < 16 else None


def _read_record(value: object, ttl: int, where: str) -> tuple[dns.rdata.Rdata, int]:
    """A record and its TTL."""
    if isinstance(value, dns.rdata.Rdata):
        return value, ttl
    if isinstance(value, bytes) and len(value) in _SIZES:
        value = ip_address(value)
    if isinstance(value, str):
        try:
            value = ip_address(value.strip())
        except ValueError:
            return _read_text(str(value), ttl, where)
    if not isinstance(value, IPv4Address | IPv6Address):
        raise ConfigError(f"{where}: {value!r} is no record; {_FORMS}")
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        raise ConfigError(f"{where}: {value} has a zone; leave out the % and the rest")
    return dns.rdata.from_text(dns.rdataclass.IN, _SIZES[len(value.packed)], str(value)), ttl


def _read_text(text: str, ttl: int, where: str) -> tuple[dns.rdata.Rdata, int]:
    words = text.split(None, 1)
    try:
        if words and words[0][0].isdigit():
            ttl = dns.ttl.from_text(words[0])
            words = words[1].split(None, 1) if len(words) > 1 else []
        kind = dns.rdatatype.from_text(words[0].upper()) if words else RdataType.NONE
        data = words[1] if len(words) > 1 else ""
        if kind != RdataType.NONE:
            return dns.rdata.from_text(dns.rdataclass.IN, kind, data, dns.name.root, relativize=False), ttl
    except (dns.exception.DNSException, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{where}: {text!r} is no record ({reason}); {_FORMS}") from error
    raise ConfigError(f"{where}: {text!r} is no record; {_FORMS}")
