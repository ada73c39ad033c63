"""The names that a server knows: exact names, wildcards (RFC 4592), and zones that begin at an SOA record."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.reversename
from dns.name import Name
from dns.rdatatype import RdataType

from sansnet_core import ConfigError
from sansnet_trio.dns.records import Answerer, Entry, Value, add_record, read_answer

__all__ = ["Zones"]

_WILD: Final = b"*"


class Zones:
    """Read-only names and their records.

    Args:
        names: name -> its records, or a callable that is asked for them. `*` as the first label makes a wildcard, and
            the text of an address stands for its reverse name.
        ttl: seconds, for records without a TTL of their own and for negative answers without an SOA record.
        reverse: make PTR records for all addresses of names that are no wildcards.

    Raises:
        ConfigError: a name or a record is wrong, or a name occurs twice.
    """

    def __init__(self, names: Mapping[str, Value], *, ttl: int, reverse: bool) -> None:
        self._entries: dict[Name, Entry | Answerer] = {}
        for key, value in names.items():
            name, where = _read_name(key), f"zones[{str(key)!r}]"
            if name in self._entries:
                raise ConfigError(f"{where}: this name occurs twice; give all its records in one list")
            self._entries[name] = value if callable(value) else read_answer(value, ttl, where)
        if reverse:
            self._add_reverse_names()
        self._existing = {ancestor for name in self._entries for ancestor in _ancestors(name)}
        """Names with an entry, and names above them (empty non-terminals: RFC 8020)."""
        self._apexes = {
            name: entry[RdataType.SOA]
            for name, entry in self._entries.items()
            if isinstance(entry, dict) and RdataType.SOA in entry
        }
        text = f". . 1 {ttl} {ttl} {ttl} {ttl}"
        soa = dns.rdata.from_text(dns.rdataclass.IN, RdataType.SOA, text, dns.name.root, relativize=False)
        self._default_soa = dns.rdataset.from_rdata(ttl, soa)

    def find(self, name: Name) -> Entry | Answerer | None:
        """The entry of a name, or of the wildcard from which it is made; None if there is neither."""
        if name in self._existing:
            return self._entries.get(name)
        encloser = self._enclosers(name)[-1]  # the closest one decides (RFC 4592, section 3.3.1)
        return self._entries.get(Name((_WILD, *encloser.labels)))

    def exists(self, name: Name) -> bool:
        """Whether there is an entry for the name, or for a name below it."""
        return name in self._existing

    def owns(self, name: Name) -> bool:
        """Whether the name is in a zone that begins at an SOA record."""
        return any(encloser in self._apexes for encloser in self._enclosers(name))

    def authority(self, name: Name) -> tuple[Name, dns.rdataset.Rdataset]:
        """The SOA record for negative answers about a name, and its owner (RFC 2308, section 3).

        It is the closest one above the name. Without one, the server has authority for the root.
        """
        apex = next((each for each in reversed(self._enclosers(name)) if each in self._apexes), dns.name.root)
        soa = self._apexes.get(apex, self._default_soa)
        return apex, dns.rdataset.from_rdata(min(soa.ttl, soa[0].minimum), soa[0])

    def _enclosers(self, name: Name) -> list[Name]:
        """The root and the existing names below it that lead to a name, the closest one last.

        They are found from the root on: a name of 127 labels costs no more than those that exist.
        """
        found = [dns.name.root]
        for count in range(len(name.labels) - 2, -1, -1):
            encloser = Name(name.labels[count:])
            if encloser not in self._existing:
                break
            found.append(encloser)
        return found

    def _add_reverse_names(self) -> None:
        """Add PTR records. An entry of the program for a reverse name is left as it is."""
        made: dict[Name, dict[RdataType, dns.rdataset.Rdataset]] = {}
        for name, entry in self._entries.items():
            if not isinstance(entry, dict) or name.labels[0] == _WILD:
                continue
            for kind in (RdataType.A, RdataType.AAAA):
                for record in entry.get(kind, ()):
                    there = dns.reversename.from_address(record.address)
                    if there not in self._entries:
                        pointer = dns.rdata.from_text(dns.rdataclass.IN, RdataType.PTR, name.to_text())
                        add_record(made.setdefault(there, {}), pointer, entry[kind].ttl, "reverse")
        self._entries.update(made)


def _ancestors(name: Name) -> list[Name]:
    """The name and all names above it, the root last."""
    return [Name(name.labels[count:]) for count in range(len(name.labels))]


def _read_name(key: str) -> Name:
    where = f"zones[{str(key)!r}]"
    if not isinstance(key, str):
        raise ConfigError(f"{where}: a name is text such as 'app.internal' or '*.cdn.example', not {key!r}")
    try:
        return dns.reversename.from_address(str(ip_address(key)))
    except ValueError:
        pass
    try:
        name = dns.name.from_text(key)
    except (dns.exception.DNSException, UnicodeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{where}: this is no domain name ({reason}); write one such as 'app.internal'") from error
    if not key.strip():
        raise ConfigError(f"{where}: the name is empty; write '.' for the root")
    if _WILD in name.labels[1:]:
        raise ConfigError(f"{where}: a wildcard must be the first label (RFC 4592, section 2.1.1); write '*.example'")
    return name
