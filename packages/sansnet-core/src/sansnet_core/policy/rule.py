"""Rules about new flows as data, and the verdicts of a program that is asked.

A rule applies to a whole flow. The first rule that matches decides; nothing is evaluated for later packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from errno import EACCES, errorcode
from typing import Final, TypeAlias

from sansnet_core import fields
from sansnet_core.addresses import Prefix, format, format_zoned
from sansnet_core.errors import ConfigError
from sansnet_core.fields import OptionalEndpoint, Part, Prefixes, instance, optional, several
from sansnet_core.policy.names import pattern
from sansnet_core.records import Converted, Record, field

__all__ = [
    "PROTOCOLS",
    "RECORD_TYPES",
    "WORDS",
    "Action",
    "Allow",
    "Check",
    "Drop",
    "Group",
    "Refuse",
    "Rule",
    "Serve",
    "Verdict",
    "place_text",
    "type_name",
    "type_number",
]


def _errno(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 4096:
        raise ValueError(f"{value!r:.100} is not an errno; give one such as errno.ECONNREFUSED")
    return value


class Allow(Record, kw_only=False):
    """The flow may open."""

    to: OptionalEndpoint = field(optional(fields.any_endpoint), default=None)
    """The host's endpoint to use instead of the one that the address map gives. For a ping, its port has no meaning."""


class Refuse(Record, kw_only=False):
    """The flow is refused, as if the host's socket had failed."""

    errno: Converted[int, int] = field(_errno, default=EACCES)
    """The errno of that failure; it decides whether the guest gets a reset, an ICMP error or no answer."""


class Drop(Record):
    """The flow's packets get no answer."""


class Serve(Record):
    """The program itself is the other end: no host socket is made."""


Verdict: TypeAlias = Allow | Refuse | Drop | Serve


class Action(Enum):
    """The effect of a `Rule`."""

    ALLOW = "allow"
    REFUSE = "refuse"
    DROP = "drop"
    ASK = "ask"
    """The driver gets a `DecideFlow` order."""


class Group(Enum):
    """A set of addresses that a `Rule` may name. An address may be in several."""

    PUBLIC = "public"
    """Unicast addresses of the Internet: none of the other groups."""
    PRIVATE = "private"
    """RFC 1918, RFC 6598, RFC 4193, and other addresses that are not globally reachable (RFC 6890)."""
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    """The addresses at which clouds tell a machine its credentials: 169.254.169.254, fd00:ec2::254 and more."""
    MULTICAST = "multicast"
    """Multicast and broadcast."""
    HOST = "host"
    """The host itself: its loopback, its addresses, and every alias of them."""
    RESOLVER = "resolver"
    """The guest's name servers in the configuration."""


class Check(Enum):
    """The first bytes of a connection that must name a host which the rules allow."""

    NONE = "none"
    TLS = "tls"
    """The server name of the TLS ClientHello (RFC 6066, 3)."""
    HTTP = "http"
    """The Host field of each HTTP/1 request (RFC 9112, 3.2)."""


_WITH_PORTS: Final = (6, 17)
PROTOCOLS: Final = {"tcp": (6,), "udp": (17,), "ping": (1, 58)}
"""Name in a rule -> IP protocol numbers."""

WORDS: Final = frozenset(("any", "at", "in", "out", "port", "to", *PROTOCOLS, *(group.value for group in Group)))
"""Words of the text form; a host name that is one of them is written with a dot at its end."""

_TYPES: Final = {
    **{"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "PTR": 12, "HINFO": 13, "MX": 15, "TXT": 16, "RP": 17},
    **{"AFSDB": 18, "SIG": 24, "KEY": 25, "AAAA": 28, "LOC": 29, "SRV": 33, "NAPTR": 35, "KX": 36, "CERT": 37},
    **{"DNAME": 39, "APL": 42, "DS": 43, "SSHFP": 44, "IPSECKEY": 45, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48},
    **{"DHCID": 49, "NSEC3": 50, "NSEC3PARAM": 51, "TLSA": 52, "SMIMEA": 53, "HIP": 55, "CDS": 59, "CDNSKEY": 60},
    **{"OPENPGPKEY": 61, "CSYNC": 62, "ZONEMD": 63, "SVCB": 64, "HTTPS": 65, "SPF": 99, "EUI48": 108, "EUI64": 109},
    **{"TKEY": 249, "TSIG": 250, "IXFR": 251, "AXFR": 252, "ANY": 255, "URI": 256, "CAA": 257},
}
"""Name -> number (IANA, Resource Record TYPEs)."""
_TYPE_NAMES: Final = {number: name for name, number in _TYPES.items()}

RECORD_TYPES: Final = frozenset(
    _TYPES[name] for name in ("A", "AAAA", "HTTPS", "SVCB", "CNAME", "MX", "TXT", "SRV", "PTR", "NS", "SOA")
)
"""The types of records that may be asked for without being named in a rule."""


def _shortened(word: str) -> Iterator[str]:
    """A word, and all that it becomes without one of its letters."""
    yield word
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]


_LONG_WORDS: Final = {part: group.value for group in Group if len(group.value) > 4 for part in _shortened(group.value)}


def mistaken(text: str) -> str | None:
    """The group that a host name may be a mistake for: one letter is wrong, or two are swapped, or the case differs.

    Such a name is written with a dot at its end.
    """
    if not text.replace("-", "").replace("_", "").isalpha():
        return None
    word = text.lower().replace("_", "-")
    return next((_LONG_WORDS[part] for part in _shortened(word) if part in _LONG_WORDS), None)


def type_name(type_: int) -> str:
    """The name of a type of records, such as "TXT"; "TYPE300" if it has none (RFC 3597, 5)."""
    return _TYPE_NAMES.get(type_, f"TYPE{type_}")


def type_number(value: int | str) -> int:
    """The number of a type of records, from its name, "TYPE300", or the number.

    Raises:
        ValueError: there is no such type.
    """
    number = value
    if isinstance(value, str):
        name = value.upper()
        rest = name.removeprefix("TYPE")
        number = int(rest) if rest != name and rest.isascii() and rest.isdigit() and len(rest) < 6 else 0
        number = _TYPES.get(name, number)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 65536:
        raise ValueError(
            f"{value!r:.100} is not a type of records; give a name such as 'CAA', or its number as in 'TYPE257'"
        )
    return number


def _protocol(value: str) -> str:
    if not isinstance(value, str) or value not in PROTOCOLS:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(PROTOCOLS)}")
    return value


def _text(value: str) -> str:
    """A text for people, in one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 200:
        raise ValueError(f"{value!r:.100} is not a text of 1 to 200 printable characters")
    return value


def _ports(value: int | tuple[int, int]) -> tuple[int, int]:
    """A range of ports, from a pair or a single port."""
    if not isinstance(value, tuple):
        return fields.port(value), value
    if len(value) != 2:
        raise ValueError(f"{value!r:.100} is not a pair of the first and the last port")
    first, last = fields.port(value[0]), fields.port(value[1])
    if first > last:
        raise ValueError(f"{first} to {last} is not a range; give the lower port first")
    return first, last


class Rule(Record):
    """A rule about new flows. An empty field matches every flow.

    Attributes:
        action: the effect.
        protocols: of `tcp`, `udp`, `ping`.
        destinations: prefixes of the destination in the guest's packets; for an inbound flow, of the outsider's
            address.
        ports: single ports, or pairs (first, last), of the destination's port; for an inbound flow, of the guest's
            port. A rule with ports matches no ping, so one that is about pings alone has none.
        inbound: True for flows that outsiders open, False for those of the guest, None for both.
        to: with `ALLOW`, the host's endpoint to use instead; see `Allow`.
        errno: with `REFUSE`, see `Refuse`.
        label: a name for people, 1 to 200 printable characters; it is in reports about flows, and has no other effect.
        names: patterns of host names (`example.org`, `*.example.org`, `*`), kept in canonical form. A rule with names
            matches only flows to an address that stands for such a name, and questions for such a name. With
            destinations or groups as well, it matches the flow if both match.
        groups: groups of destinations; a rule matches an address that is in `destinations` or in `groups`.
        check: the bytes that must name an allowed host; None means `TLS` for port 443 and `HTTP` for port 80 of rules
            with `names`, and `NONE` otherwise. A rule with a check matches no UDP, unless `protocols` has "udp".
        via: with `ALLOW` or `ASK`, the name of the proxy that the flow goes through; see `NetworkConfig.proxies`.
        record_types: with `ALLOW` or `ASK`, types of records that may be asked for beside `RECORD_TYPES`, as numbers or
            as names such as "CAA".

    `str` gives the text form, which `parse_rule` reads.

    Raises:
        ConfigError: a field is wrong.
    """

    action: Part[Action] = field(instance(Action))
    protocols: Converted[Iterable[str], tuple[str, ...]] = field(several(_protocol), default=())
    destinations: Prefixes = field(several(fields.prefix), default=())
    ports: Converted[Iterable[int | tuple[int, int]], tuple[tuple[int, int], ...]] = field(several(_ports), default=())
    inbound: bool | None = None
    to: OptionalEndpoint = field(optional(fields.any_endpoint), default=None)
    errno: Converted[int, int] = field(_errno, default=EACCES)
    label: Part[str | None] = field(optional(_text), default=None)
    names: Converted[Iterable[str], tuple[str, ...]] = field(several(pattern), default=())
    groups: Converted[Iterable[Group], tuple[Group, ...]] = field(several(instance(Group)), default=())
    check: Part[Check | None] = field(optional(instance(Check)), default=None)
    via: Part[str | None] = field(optional(_text), default=None)
    record_types: Converted[Iterable[int | str], tuple[int, ...]] = field(several(type_number), default=())

    def __post_init__(self) -> None:
        action = self.action.value
        if self.to is not None and self.action is not Action.ALLOW:
            raise ConfigError(f"to: it has no effect with {action}; leave it out, or use allow")
        if self.to is not None and not self.to.port and self.protocols != ("ping",):
            raise ConfigError(f"to: {self.to} has port 0, which only pings can go to; give the port of the server")
        if self.ports and set(self.protocols) == {"ping"}:
            raise ConfigError("ports: a ping has no port; leave them out, or name tcp or udp")
        if self.errno != EACCES and self.action is not Action.REFUSE:
            raise ConfigError(f"errno: it has no effect with {action}; leave it out, or use refuse")
        for name in ("via", "record_types"):
            if getattr(self, name) and self.denies:
                raise ConfigError(f"{name}: it has no effect with {action}; leave it out, or use allow")
        if self.to is not None and self.via is not None:
            raise ConfigError("via: a flow that is redirected goes to no proxy; give one of both")

    @property
    def verdict(self) -> Allow | Refuse | Drop | None:
        """The verdict about a flow that the rule matches; None if the driver is to be asked."""
        match self.action:
            case Action.ALLOW:
                return Allow(self.to)
            case Action.REFUSE:
                return Refuse(self.errno)
            case Action.DROP:
                return Drop()
        return None

    @property
    def denies(self) -> bool:
        """Whether the action is `REFUSE` or `DROP`."""
        return self.action in (Action.REFUSE, Action.DROP)

    @property
    def anywhere(self) -> bool:
        """Whether the rule has neither destinations nor groups."""
        return not (self.destinations or self.groups)

    def applies(self, protocol: int, *, inbound: bool) -> bool:
        """Whether the rule is about such flows.

        Args:
            protocol: IP protocol number.
            inbound: whether an outsider opens them.
        """
        return (
            (self.inbound is None or self.inbound is inbound)
            and (not self.protocols or any(protocol in PROTOCOLS[name] for name in self.protocols))
            and (not self.ports or protocol in _WITH_PORTS)
        )

    def check_at(self, port: int) -> Check:
        """The check of a connection to this port."""
        if self.check is not None:
            return self.check
        return {443: Check.TLS, 80: Check.HTTP}.get(port, Check.NONE) if self.names else Check.NONE

    @property
    def target_text(self) -> str:
        """The endpoint `to` in the text form; an address alone for pings. Empty if there is none."""
        if self.to is None:
            return ""
        return str(self.to) if self.to.port else format_zoned(self.to.address)

    def __str__(self) -> str:
        """The text form."""
        words = ["redirect" if self.to is not None else self.action.value]
        if self.errno != EACCES:
            words[0] += f"({errorcode.get(self.errno, self.errno)})"
        if self.inbound is not None:
            words.append("in" if self.inbound else "out")
        if self.protocols:
            words.append(",".join(self.protocols))
        names = [*map(name_text, self.names)]
        places = [*map(place_text, self.destinations), *(group.value for group in self.groups)]
        ports = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ports)
        single = names + places if len(names + places) == 1 and not self.groups else []
        if single and "/" not in single[0] and ports.isdigit():
            words.append(f"[{single[0]}]:{ports}" if ":" in single[0] else f"{single[0]}:{ports}")
        else:
            words += (
                [",".join(names)] * bool(names) + ["at"] * bool(names and places) + [",".join(places)] * bool(places)
            )
            words += ["port", ports] * bool(ports)
        if self.to is not None:
            words += ["to", self.target_text]
        if self.check is not None:
            words.append(f"check={self.check.value}")
        for key in ("label", "via"):
            value = getattr(self, key)
            if value is not None:
                words.append(f"{key}={_quoted(value)}")
        if self.record_types:
            words.append(f"records={','.join(map(type_name, self.record_types))}")
        return " ".join(words)


def name_text(name: str) -> str:
    """A pattern in the text form: with a dot at its end if it could be read as a word of that form."""
    return f"{name}." if name in WORDS or mistaken(name) else name


def place_text(prefix: Prefix) -> str:
    """A network in the text form; an address alone if it is one."""
    return format(prefix.address) if prefix.length == 8 * len(prefix.address) else str(prefix)


def _quoted(text: str) -> str:
    """A value of a key in the text form, in quotes if it needs them."""
    if text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
