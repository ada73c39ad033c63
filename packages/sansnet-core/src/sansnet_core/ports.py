"""Forwarded ports as data, and the grammar of their specifications.

    SPEC   = "none" | [LISTEN "/"] CHUNK *("," CHUNK)
    LISTEN = (ADDRESS | "*") ["%" INTERFACE] | "%" INTERFACE
    CHUNK  = "all" [":" ADDRESS] | "auto" | "~" RANGE | RANGE [":" TO]
    TO     = RANGE | ADDRESS ["/" RANGE]
    RANGE  = PORT ["-" PORT]

The grammar is pasta's. Its less obvious rules:

- IPv6 addresses may be in brackets. The text before the first slash is the listening address if it is an address at
  all: `80:fe80::1/8080` listens on 80:fe80::1. Put a target into brackets: `80:[fe80::1]/8080`.
- `~` excludes ports from all other chunks of its specification. If there are none, it excludes them from all ports.
- `all` is *weak*: it leaves out ports that cannot be bound, and those of the host's ephemeral range.
- `auto` makes its whole specification follow the listeners of the other side; alone, it applies to all ports.
- If specifications overlap, explicit ports win over `all` and `~`, which win over `auto`. Two of the same kind must
  agree on the target.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sansnet_core import addresses, fields
from sansnet_core.errors import ConfigError, SansnetError, UsageError, expect
from sansnet_core.fields import OptionalAddress, Port, optional
from sansnet_core.records import Converted, Record, field, replace

__all__ = ["ALL_PORTS", "TCP", "UDP", "ForwardRule", "checked", "combine", "parse", "parse_all", "without"]

TCP: Final = 6
UDP: Final = 17
"""IP protocol numbers."""

ALL_PORTS: Final = range(1, 65536)

_MAX_RANGES: Final = 1024
"""Ranges of ports, of all specifications together."""

_TOO_MANY: Final = f"there are more than {_MAX_RANGES} ranges of ports"

_OPTIONS: Final = {(TCP, True): "-t", (UDP, True): "-u", (TCP, False): "-T", (UDP, False): "-U"}

_MAX_NAME: Final = 15
"""Bytes of an interface's name (IFNAMSIZ)."""


def _protocol(value: int) -> int:
    if value not in (TCP, UDP):
        raise ValueError(f"{value!r} is neither ports.TCP nor ports.UDP")
    return value


class ForwardRule(Record):
    """A range of ports of one side, each of which leads to a port of the other side.

    Attributes:
        protocol: `TCP` or `UDP`.
        first, last: the ports to listen on.
        to: the port of the other side that `first` leads to; the others follow.
        address: the address to listen on; None means all of both families, an unspecified one all of its family.
        interface: the only interface of the host to listen on; None means all.
        target: address in the guest; None means the guest's current one.
        inbound: from the host to the guest; if False, from the guest's loopback to the host's.
        weak: leave out ports that cannot be bound, and those of the host's ephemeral range.
        auto: listen only while a program of the other side listens, and only where the port can be bound.
    """

    protocol: Converted[int, int] = field(_protocol)
    first: Port = field(fields.port)
    last: Port = field(fields.port)
    to: Port = field(fields.port)
    address: OptionalAddress = field(optional(fields.address), default=None)
    interface: str | None = None
    target: OptionalAddress = field(optional(fields.address), default=None)
    inbound: bool = True
    weak: bool = False
    auto: bool = False

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"last: {self.last} is below first, {self.first}; give a range that begins before it ends")
        if self.leads_to(self.last) not in ALL_PORTS:
            raise ValueError(
                f"to: {self.last - self.first + 1} ports from {self.to} end beyond 65535; give a lower one"
            )
        if self.interface is not None and not _is_interface(self.interface):
            raise ValueError(f"interface: {self.interface!r} is not a possible name of an interface")

    @property
    def option(self) -> str:
        """The command-line option of such rules, such as `-t`."""
        return _OPTIONS[self.protocol, self.inbound]

    @property
    def ports(self) -> range:
        """The ports to listen on."""
        return range(self.first, self.last + 1)

    def leads_to(self, port: int) -> int:
        """The port of the other side that a port leads to."""
        return self.to + port - self.first

    def spec(self) -> str:
        """The specification of this rule alone."""
        chunks = ["auto"] if self.auto else []
        if not self.weak:
            chunks.append(_range(self.first, self.last) + self._to())
        else:
            if self.target is not None:
                chunks.append(f"all:{_bracketed(self.target)}")
            elif not self.auto:
                chunks.append("all")
            gaps = [(1, self.first - 1), (self.last + 1, ALL_PORTS[-1])]
            chunks += [f"~{_range(*gap)}" for gap in gaps if gap[0] <= gap[1]]
        return self._listen() + ",".join(chunks)

    def _listen(self) -> str:
        if self.address is None and self.interface is None:
            return ""
        address = "*" if self.address is None else addresses.format(self.address)
        return f"{address}/" if self.interface is None else f"{address}%{self.interface}/"

    def _to(self) -> str:
        range_ = _range(self.to, self.leads_to(self.last))
        if self.target is not None:
            return f":{_bracketed(self.target)}/{range_}"
        return "" if self.to == self.first else f":{range_}"


def parse(spec: str, protocol: int, *, inbound: bool = True) -> tuple[ForwardRule, ...]:
    """Parse one specification; `none` gives no rules.

    Args:
        spec: in this module's grammar.
        protocol: `TCP` or `UDP`.
        inbound: whether to listen on the host. If not, the specification has no addresses: loopback leads to loopback.

    Raises:
        ConfigError: it is wrong; the message quotes it.
    """
    expect("spec", spec, str, "the text of a specification, such as '8080:80'")
    if spec == "none":
        return ()
    try:
        return combine(_parse(spec, protocol, inbound))
    except _SpecError as wrong:
        raise ConfigError(f"{spec!r} {_foreign(spec, inbound) or wrong}") from None


def parse_all(specs: Sequence[str], protocol: int, *, inbound: bool = True) -> tuple[ForwardRule, ...]:
    """Parse the specifications of an option that was given several times.

    Args:
        specs: the specifications, in order.
        protocol: `TCP` or `UDP`.
        inbound: as for `parse`.

    Returns:
        The rules, without overlaps.

    Raises:
        ConfigError: one is wrong, two of them contradict each other, or `none` comes after another.
    """
    if isinstance(specs, str):
        raise UsageError(f"specs: {specs!r} is one specification; give [{specs!r}]")
    if "none" in specs[1:]:
        raise ConfigError("'none' comes after other ports; leave one of them out")
    return combine(forward for spec in specs for forward in parse(spec, protocol, inbound=inbound))


def combine(forwards: Iterable[ForwardRule]) -> tuple[ForwardRule, ...]:
    """The same rules without overlaps.

    Args:
        forwards: rules, in any order; explicit ports win over `all`, and `all` over `auto`.

    Raises:
        UsageError: one is no rule.
        ConfigError: two rules of the same kind overlap and do not agree on the target; or there are too many.
    """
    index = _RuleIndex()
    for new in sorted(checked(forwards), key=_rank):
        pieces = [new]
        for old in index.overlapping(new):
            pieces = [rest for piece in pieces for rest in _beside(piece, old)]
        for piece in pieces:
            index.add(piece)
        if len(index.forwards) > _MAX_RANGES:
            raise ConfigError(f"{_TOO_MANY}; give fewer, larger ones")
    return tuple(index.forwards)


def checked(forwards: Iterable[ForwardRule]) -> tuple[ForwardRule, ...]:
    """The same rules.

    Raises:
        UsageError: they are no rules.
    """
    expect("forwards", forwards, Iterable, "a sequence of rules; give parse('8080:80', TCP)")
    rules = tuple(forwards)
    for rule in rules:
        expect("forwards", rule, ForwardRule, "a ForwardRule; give parse('8080:80', TCP)")
    return rules


def without(forward: ForwardRule, ports: range) -> Iterator[ForwardRule]:
    """A rule without some of its ports: the rule itself, or up to two others."""
    first, last = max(forward.first, ports.start), min(forward.last, ports.stop - 1)
    if first > last:
        yield forward
        return
    if forward.first < first:
        yield replace(forward, last=first - 1)
    if last < forward.last:
        yield replace(forward, first=last + 1, to=forward.leads_to(last + 1))


class _RuleIndex:
    """Rules without overlaps, indexed by port, so that a new one is not compared with all others.

    Attributes:
        forwards: the rules, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.forwards: list[ForwardRule] = []
        self._index: dict[tuple[int, bool], dict[bytes | None, dict[str | None, list[tuple[int, int]]]]] = {}
        """Protocol and direction, address, interface -> first port and position, sorted by port."""

    def add(self, forward: ForwardRule) -> None:
        """Add a rule that overlaps with none of these."""
        by_address = self._index.setdefault((forward.protocol, forward.inbound), {})
        ranges = by_address.setdefault(forward.address, {}).setdefault(forward.interface, [])
        insort(ranges, (forward.first, len(self.forwards)))
        self.forwards.append(forward)

    def overlapping(self, new: ForwardRule) -> list[ForwardRule]:
        """The rules that the kernel would not let listen together with `new`, in the order in which they were added."""
        found: list[int] = []
        for address, interfaces in self._index.get((new.protocol, new.inbound), {}).items():
            if not _addresses_overlap(new.address, address):
                continue
            for interface in interfaces if new.interface is None else (new.interface, None):
                ranges = interfaces.get(interface, [])
                index = bisect_right(ranges, (new.last, len(self.forwards)))
                while index and self.forwards[ranges[index - 1][1]].last >= new.first:
                    index -= 1
                    found.append(ranges[index][1])
        return [self.forwards[index] for index in sorted(found)]


# two rules


def _rank(forward: ForwardRule) -> int:
    """0 for explicit ports, 1 for `all`, 2 for `auto`; where rules overlap, the lowest rank wins."""
    return 2 if forward.auto else 1 if forward.weak else 0


def _addresses_overlap(one: bytes | None, other: bytes | None) -> bool:
    """Whether the kernel would not let sockets on both addresses listen on the same port."""
    if one is None or other is None:
        return True
    same = one == other or addresses.is_unspecified(one) or addresses.is_unspecified(other)
    return len(one) == len(other) and same


def _beside(piece: ForwardRule, old: ForwardRule) -> Iterator[ForwardRule]:
    """The parts of a rule that do not overlap with one of equal or lower rank."""
    first, last = max(piece.first, old.first), min(piece.last, old.last)
    if first <= last and _rank(piece) == _rank(old) and not _agree(piece, old, first):
        both = f"{piece.option} {piece.spec()} and {old.option} {old.spec()}"
        raise ConfigError(f"{both} contradict each other about port {_range(first, last)}; leave one out")
    return without(piece, old.ports)


def _agree(one: ForwardRule, other: ForwardRule, port: int) -> bool:
    """Whether two rules lead to the same target where they overlap."""
    listening = (one.address, one.interface, one.target) == (other.address, other.interface, other.target)
    return listening and one.leads_to(port) == other.leads_to(port)


# the grammar


class _SpecError(SansnetError):
    """A specification is wrong; the message continues a sentence that begins with the specification."""


def _parse(spec: str, protocol: int, inbound: bool) -> list[ForwardRule]:
    address, interface, rest = _parse_listen(spec)
    if not inbound and rest != spec:
        raise _SpecError(
            "has an address to listen on, but always listens on the guest's loopback; omit the part before the slash"
        )
    base = ForwardRule(protocol=protocol, first=1, last=1, to=1, address=address, interface=interface, inbound=inbound)
    forwards: list[ForwardRule] = []
    excluded: list[range] = []
    auto = False
    chunks = rest.split(",")
    if len(chunks) > _MAX_RANGES:
        raise ConfigError(f"{_TOO_MANY}; give fewer, larger ones")
    for chunk in chunks:
        if chunk == "auto":
            auto = True
        elif chunk.startswith("~"):
            excluded.append(_parse_range(chunk[1:]))
        else:
            forwards.append(_parse_chunk(chunk, base))
    forwards = forwards or [_everything(base)]
    if auto:
        forwards = [replace(forward, auto=True) for forward in forwards]
    for ports in excluded:
        forwards = [piece for forward in forwards for piece in without(forward, ports)]
    if not forwards:
        raise _SpecError("excludes every port that it includes; leave out a ~")
    return forwards


def _foreign(spec: str, inbound: bool) -> str:
    """The error in a specification that is written as for another program, such as Docker; empty if it is not."""
    for protocol in ("/tcp", "/udp"):
        if spec.endswith(protocol):
            return f"ends with a protocol, which the option determines; leave out {protocol!r}"
    where, bracket, ports = spec.partition("]:") if spec.startswith("[") else spec.partition(":")
    where += bracket.rstrip(":")
    if inbound and ports.isprintable() and ports and (where == "*" or _address_or_none(where) is not None):
        return f"has a colon after the address to listen on; write a slash: {where}/{ports}"
    return ""


def _parse_listen(spec: str) -> tuple[bytes | None, str | None, str]:
    """Address and interface to listen on, and the rest of the specification."""
    before, slash, rest = spec.partition("/")
    if not slash:
        return None, None, spec
    where, percent, interface = before.partition("%")
    if percent and where.startswith("[") and interface.endswith("]"):  # [fe80::1%eth0]
        where, interface = f"{where}]", interface[:-1]
    all_addresses = where == "*" or (percent and not where)
    address = None if all_addresses else _address_or_none(where)
    if address is None and not all_addresses:
        if ":" in before:  # the slash is that of a target
            return None, None, spec
        raise _SpecError(f"begins with {before!r}, which is neither an address nor * nor %INTERFACE")
    if percent and not _is_interface(interface):
        raise _SpecError(f"has {interface!r}, which is not a possible name of an interface")
    if address is not None and addresses.is_multicast(address):
        raise _SpecError("has a multicast address to listen on; give an address of this host")
    return address, interface or None, rest


def _parse_chunk(chunk: str, base: ForwardRule) -> ForwardRule:
    ports, colon, to = chunk.partition(":")
    if ports == "all":
        forward = _everything(base)
        return _to_target(forward, to) if colon else forward
    included = _parse_range(ports)
    forward = replace(base, first=included.start, last=included.stop - 1, to=included.start)
    if not colon:
        return forward
    if to.replace("-", "").isdigit():
        return _to_ports(forward, to)
    target, slash, mapped = to.partition("/")
    forward = _to_target(forward, target)
    return _to_ports(forward, mapped) if slash else forward


def _everything(base: ForwardRule) -> ForwardRule:
    return replace(base, first=ALL_PORTS[0], last=ALL_PORTS[-1], to=ALL_PORTS[0], weak=True)


def _to_ports(forward: ForwardRule, text: str) -> ForwardRule:
    mapped = _parse_range(text)
    if len(mapped) != len(forward.ports):
        ranges = f"{_range(forward.first, forward.last)} to {text}"
        raise _SpecError(f"forwards {ranges}, which is a different number of ports; give ranges of one length")
    return replace(forward, to=mapped.start)


def _to_target(forward: ForwardRule, text: str) -> ForwardRule:
    target = _address_or_none(text)
    if target is None:
        raise _SpecError(f"has {_quoted(text)} after the colon; give a port, a range of ports or an address")
    if not forward.inbound:
        raise _SpecError("has a target address, but always leads to the host's loopback; leave it out")
    if not addresses.is_unicast(target) or addresses.is_loopback(target):
        raise _SpecError(f"leads to {text}, which cannot be the address of a node on the guest's network")
    address = forward.address
    if address is None:
        address = bytes(len(target))
    elif len(address) != len(target):
        raise _SpecError("listens on an address of one family and leads to one of the other; give two of one family")
    return replace(forward, address=address, target=target)


def _parse_range(text: str) -> range:
    begin, hyphen, end = text.partition("-")
    if not _is_number(begin) or (hyphen and not _is_number(end)):
        raise _SpecError(f"has {_quoted(text)} in place of a port or a range such as 8000-8010")
    first = int(begin)
    last = int(end) if hyphen else first
    if first not in ALL_PORTS or last not in ALL_PORTS:
        raise _SpecError(f"has {text!r}, which is not between {ALL_PORTS[0]} and {ALL_PORTS[-1]}")
    if first > last:
        raise _SpecError(f"has the range {text!r}, which ends before it begins")
    return range(first, last + 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _is_interface(name: str) -> bool:
    """Whether the kernel may allow the name. Only a driver can check whether the interface exists."""
    try:
        size = len(name.encode(errors="surrogateescape"))  # bytes of a command line that are not text
    except UnicodeEncodeError:
        return False
    return 0 < size <= _MAX_NAME and not any(letter in "/:%\0" or letter.isspace() for letter in name)


def _address_or_none(text: str) -> bytes | None:
    if text.startswith("[") and text.endswith("]"):
        if ":" not in text:  # only IPv6 has brackets
            return None
        text = text[1:-1]
    try:
        return addresses.parse(text)
    except ValueError:
        return None


# text


def _quoted(text: str) -> str:
    return repr(text) if text else "nothing"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _bracketed(address: bytes) -> str:
    text = addresses.format(address)
    return f"[{text}]" if len(address) == 16 else text
