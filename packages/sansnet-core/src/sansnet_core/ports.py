"""Port forwards as data, and the language in which people ask for them.

    SPEC   = "none" | [LISTEN "/"] CHUNK *("," CHUNK)
    LISTEN = (ADDRESS | "*") ["%" INTERFACE] | "%" INTERFACE
    CHUNK  = "all" [":" ADDRESS] | "auto" | "~" RANGE | RANGE [":" TO]
    TO     = RANGE | ADDRESS ["/" RANGE]
    RANGE  = PORT ["-" PORT]

It is pasta's. What a reader of it has to know:

- An IPv6 address may stand bare or in brackets. What precedes the first slash is where to listen if it is an address at
  all, so `80:fe80::1/8080` listens on the address 80:fe80::1; a target is in brackets there: `80:[fe80::1]/8080`.
- `~` takes ports away from whatever else its specification has, wherever it stands. Where that is nothing else, it has
  all ports.
- `all` is *weak*: a port that cannot be had is left out, and so are those that the host hands out by itself.
- `auto` makes the whole of its specification follow the listeners of the other side; alone it is about all ports.
- Of what overlaps, explicit ports count more than `all`, and that more than `auto`. What counts the same must lead to
  the same place.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sansnet_core import addresses
from sansnet_core.errors import ConfigError, SansnetError
from sansnet_core.records import Record, replace

__all__ = ["ALL_PORTS", "TCP", "UDP", "ForwardRule", "combine", "parse", "parse_all", "without"]

TCP: Final = 6
UDP: Final = 17
"""IP protocol numbers."""

ALL_PORTS: Final = range(1, 65536)

_MOST: Final = 1024
"""Ranges of one kind."""

_TOO_MANY: Final = f"there are more than {_MOST} ranges of ports"

_OPTIONS: Final = {(TCP, True): "-t", (UDP, True): "-u", (TCP, False): "-T", (UDP, False): "-U"}

_MAX_NAME: Final = 15
"""Bytes of an interface's name (IFNAMSIZ)."""


class ForwardRule(Record):
    """A range of ports of one side that leads to the other.

    Attributes:
        protocol: `TCP` or `UDP`.
        first, last: the ports to listen on.
        to: the port of the other side that `first` leads to; the others follow.
        address: where to listen; None is every address of both families, an unspecified one every one of its family.
        interface: of the host, to listen on it alone.
        target: address in the guest; None is the guest's own.
        inbound: from the host to the guest; else from the guest's loopback to the host's.
        weak: ports that cannot be had are left out, and so are those that the host hands out by itself.
        auto: listen only while somebody does so on the other side, and where that is possible.
    """

    protocol: int
    first: int
    last: int
    to: int
    address: bytes | None = None
    interface: str | None = None
    target: bytes | None = None
    inbound: bool = True
    weak: bool = False
    auto: bool = False

    @property
    def option(self) -> str:
        """The option that asks for it, as `-t`."""
        return _OPTIONS[self.protocol, self.inbound]

    @property
    def ports(self) -> range:
        """The ports to listen on."""
        return range(self.first, self.last + 1)

    def leads_to(self, port: int) -> int:
        """The port of the other side."""
        return self.to + port - self.first

    def spec(self) -> str:
        """The specification that means this forward and nothing else."""
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
    """Understand one specification; `none` is no forward.

    Args:
        spec: as in this module's grammar.
        protocol: `TCP` or `UDP`.
        inbound: whether it is about ports of the host. If not, it has no addresses: loopback leads to loopback.

    Raises:
        ConfigError: it means nothing, in a sentence that quotes it.
    """
    if spec == "none":
        return ()
    try:
        return combine(_parse(spec, protocol, inbound))
    except _Wrong as wrong:
        raise ConfigError(f"{spec!r} {_foreign(spec, inbound) or wrong}") from None


def parse_all(specs: Sequence[str], protocol: int, *, inbound: bool = True) -> tuple[ForwardRule, ...]:
    """Understand what an option that may be repeated was given.

    Raises:
        ConfigError: one of them means nothing, two of them contradict each other, or `none` comes after another.
    """
    if "none" in specs[1:]:
        raise ConfigError("'none' comes after other ports; leave one of them out")
    return combine(forward for spec in specs for forward in parse(spec, protocol, inbound=inbound))


def combine(forwards: Iterable[ForwardRule]) -> tuple[ForwardRule, ...]:
    """The same forwards, without overlaps.

    Raises:
        ConfigError: of two that overlap and count the same, one leads elsewhere; or there are too many.
    """
    kept = _Kept()
    for new in sorted(forwards, key=_weight):
        pieces = [new]
        for old in kept.overlapping(new):
            pieces = [rest for piece in pieces for rest in _beside(piece, old)]
        for piece in pieces:
            kept.add(piece)
        if len(kept.forwards) > _MOST:
            raise ConfigError(f"{_TOO_MANY}; give fewer, larger ones")
    return tuple(kept.forwards)


def without(forward: ForwardRule, ports: range) -> Iterator[ForwardRule]:
    """What is left of a forward without some of the ports to listen on: itself, or up to two others."""
    first, last = max(forward.first, ports.start), min(forward.last, ports.stop - 1)
    if first > last:
        yield forward
        return
    if forward.first < first:
        yield replace(forward, last=first - 1)
    if last < forward.last:
        yield replace(forward, first=last + 1, to=forward.leads_to(last + 1))


class _Kept:
    """Forwards without overlaps, to be searched by ports: not each is compared with each other one.

    Attributes:
        forwards: in the order in which they were added.
    """

    def __init__(self) -> None:
        self.forwards: list[ForwardRule] = []
        self._places: dict[tuple[int, bool], dict[bytes | None, dict[str | None, list[tuple[int, int]]]]] = {}
        """Protocol and direction, address, interface -> first port and index, sorted: ranges of one place are apart."""

    def add(self, forward: ForwardRule) -> None:
        """One that overlaps with none."""
        by_address = self._places.setdefault((forward.protocol, forward.inbound), {})
        place = by_address.setdefault(forward.address, {}).setdefault(forward.interface, [])
        insort(place, (forward.first, len(self.forwards)))
        self.forwards.append(forward)

    def overlapping(self, new: ForwardRule) -> list[ForwardRule]:
        """Those that the kernel would not let listen beside `new`, in the order in which they were added."""
        found: list[int] = []
        for address, interfaces in self._places.get((new.protocol, new.inbound), {}).items():
            if not _addresses_meet(new.address, address):
                continue
            for interface in interfaces if new.interface is None else (new.interface, None):
                place = interfaces.get(interface, [])
                index = bisect_right(place, (new.last, len(self.forwards)))
                while index and self.forwards[place[index - 1][1]].last >= new.first:
                    index -= 1
                    found.append(place[index][1])
        return [self.forwards[index] for index in sorted(found)]


# two forwards


def _weight(forward: ForwardRule) -> int:
    """What counts more is less."""
    return 2 if forward.auto else 1 if forward.weak else 0


def _addresses_meet(one: bytes | None, other: bytes | None) -> bool:
    """Whether the kernel would not let both listen on one port, of one interface or of all."""
    if one is None or other is None:
        return True
    same = one == other or addresses.is_unspecified(one) or addresses.is_unspecified(other)
    return len(one) == len(other) and same


def _beside(piece: ForwardRule, old: ForwardRule) -> Iterator[ForwardRule]:
    """What is left of a forward beside one that counts as much or more."""
    first, last = max(piece.first, old.first), min(piece.last, old.last)
    if first <= last and _weight(piece) == _weight(old) and not _agree(piece, old, first):
        what = f"{piece.option} {piece.spec()} and {old.option} {old.spec()}"
        raise ConfigError(f"{what} do not go together, since both are about port {_range(first, last)}; leave one out")
    return without(piece, old.ports)


def _agree(one: ForwardRule, other: ForwardRule, port: int) -> bool:
    """Whether two forwards are the same where they overlap."""
    listening = (one.address, one.interface, one.target) == (other.address, other.interface, other.target)
    return listening and one.leads_to(port) == other.leads_to(port)


# the grammar


class _Wrong(SansnetError):
    """What follows the quoted specification in the message."""


def _parse(spec: str, protocol: int, inbound: bool) -> list[ForwardRule]:
    address, interface, rest = _parse_listen(spec)
    if not inbound and rest != spec:
        raise _Wrong("says where to listen, which is always the guest's loopback; leave out what precedes the slash")
    base = ForwardRule(protocol=protocol, first=1, last=0, to=1, address=address, interface=interface, inbound=inbound)
    forwards: list[ForwardRule] = []
    excluded: list[range] = []
    auto = False
    chunks = rest.split(",")
    if len(chunks) > _MOST:
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
        raise _Wrong("excludes every port that it includes; leave out a ~")
    return forwards


def _foreign(spec: str, inbound: bool) -> str:
    """What is wrong with a specification that has the form of other programs' ones, such as Docker's."""
    for protocol in ("/tcp", "/udp"):
        if spec.endswith(protocol):
            return f"ends with a protocol, which the option says; leave out {protocol!r}"
    where, bracket, ports = spec.partition("]:") if spec.startswith("[") else spec.partition(":")
    where += bracket.rstrip(":")
    if inbound and ports and (where == "*" or _address_or_none(where) is not None):
        return f"has a colon behind the address to listen on, where a slash must be: {where}/{ports}"
    return ""


def _parse_listen(spec: str) -> tuple[bytes | None, str | None, str]:
    """Address and interface to listen on, and what follows."""
    before, slash, rest = spec.partition("/")
    if not slash:
        return None, None, spec
    where, percent, interface = before.partition("%")
    if percent and where.startswith("[") and interface.endswith("]"):  # [fe80::1%eth0]
        where, interface = f"{where}]", interface[:-1]
    any_address = where == "*" or (percent and not where)
    address = None if any_address else _address_or_none(where)
    if address is None and not any_address:
        if ":" in before:  # the slash of a target
            return None, None, spec
        raise _Wrong(f"begins with {before!r}, which is neither an address nor * nor %INTERFACE")
    if percent and not _is_interface(interface):
        raise _Wrong(f"has {interface!r} for the name of an interface")
    if address is not None and addresses.is_multicast(address):
        raise _Wrong("would listen on a group's address; give one of this host's")
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
        counts = f"{_range(forward.first, forward.last)} to {text}, which is not as many"
        raise _Wrong(f"forwards the ports {counts}; give ranges of one length")
    return replace(forward, to=mapped.start)


def _to_target(forward: ForwardRule, text: str) -> ForwardRule:
    target = _address_or_none(text)
    if target is None:
        raise _Wrong(f"has {_quoted(text)} behind the colon, where a port, a range of ports or an address must be")
    if not forward.inbound:
        raise _Wrong("says where to connect, which is always the host's loopback; leave out the address")
    if not addresses.is_unicast(target) or addresses.is_loopback(target):
        raise _Wrong(f"leads to {text}, which is not the address of a node on the guest's network")
    address = forward.address
    if address is None:
        address = bytes(len(target))
    elif len(address) != len(target):
        raise _Wrong("listens on an address of one family and leads to one of the other; give two of one family")
    return replace(forward, address=address, target=target)


def _parse_range(text: str) -> range:
    begin, hyphen, end = text.partition("-")
    if not _is_number(begin) or (hyphen and not _is_number(end)):
        raise _Wrong(f"has {_quoted(text)} where a port or a range like 8000-8010 must be")
    first = int(begin)
    last = int(end) if hyphen else first
    if first not in ALL_PORTS or last not in ALL_PORTS:
        raise _Wrong(f"has {text!r}, which is not between {ALL_PORTS[0]} and {ALL_PORTS[-1]}")
    if first > last:
        raise _Wrong(f"has the range {text!r}, which ends before it begins")
    return range(first, last + 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _is_interface(name: str) -> bool:
    """Whether the kernel allows the name, more or less; whether there is such an interface, a driver knows."""
    try:
        size = len(name.encode(errors="surrogateescape"))  # as bytes that are no text come from a command line
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
