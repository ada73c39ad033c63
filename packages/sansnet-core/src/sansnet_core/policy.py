"""Decisions about new flows: rules as data, and the verdicts of a program that is asked.

A rule applies to a whole flow. The first rule that matches decides; nothing is evaluated for later packets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum
from errno import EACCES
from typing import Final, TypeAlias

from sansnet_core import fields
from sansnet_core.addresses import Endpoint
from sansnet_core.errors import ConfigError
from sansnet_core.fields import OptionalEndpoint, Prefixes, optional, several
from sansnet_core.prefixes import PrefixTable
from sansnet_core.records import Converted, Record, field

__all__ = ["Action", "Allow", "Drop", "Policy", "Refuse", "Rule", "Serve", "Verdict"]


def _errno(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 4096:
        raise ValueError(f"{value!r} is not an errno; give one such as errno.ECONNREFUSED")
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


_WITH_PORTS: Final = (6, 17)
_PROTOCOLS: Final = {"tcp": (6,), "udp": (17,), "ping": (1, 58)}
"""Name in a rule -> IP protocol numbers."""


def _action(value: Action) -> Action:
    if not isinstance(value, Action):
        raise ValueError(f"{value!r} is not an action; give one such as Action.REFUSE")
    return value


def _protocol(value: str) -> str:
    if value not in _PROTOCOLS:
        raise ValueError(f"{value!r} is not one of {', '.join(_PROTOCOLS)}")
    return value


def _ports(value: int | tuple[int, int]) -> tuple[int, int]:
    """A range of ports, from a pair or a single port."""
    if not isinstance(value, tuple):
        return fields.port(value), value
    if len(value) != 2:
        raise ValueError(f"{value!r} is not a pair of the first and the last port")
    first, last = fields.port(value[0]), fields.port(value[1])
    if first > last:
        raise ValueError(f"{first} to {last} is a range that ends before it begins")
    return first, last


class Rule(Record):
    """A rule about new flows. An empty field matches every flow.

    Attributes:
        action: the effect.
        protocols: of `tcp`, `udp`, `ping`.
        destinations: prefixes of the destination in the guest's packets; for an inbound flow, of the outsider's
            address.
        ports: single ports, or pairs (first, last), of the destination's port; for an inbound flow, of the guest's
            port. A rule with ports matches no ping.
        inbound: True for flows that outsiders open, False for those of the guest, None for both.
        to: with `ALLOW`, the host's endpoint to use instead; see `Allow`.
        errno: with `REFUSE`, see `Refuse`.
        name: a name for reports.

    Raises:
        ConfigError: a field is wrong.
    """

    action: Converted[Action, Action] = field(_action)
    protocols: Converted[Iterable[str], tuple[str, ...]] = field(several(_protocol), default=())
    destinations: Prefixes = field(several(fields.prefix), default=())
    ports: Converted[Iterable[int | tuple[int, int]], tuple[tuple[int, int], ...]] = field(several(_ports), default=())
    inbound: bool | None = None
    to: OptionalEndpoint = field(optional(fields.any_endpoint), default=None)
    errno: Converted[int, int] = field(_errno, default=EACCES)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.to is not None and self.action is not Action.ALLOW:
            raise ConfigError(f"to: it has no effect with {self.action}; leave it out, or use Action.ALLOW")

    @property
    def verdict(self) -> Verdict | None:
        """The verdict about a flow that the rule matches; None if the driver is to be asked."""
        match self.action:
            case Action.ALLOW:
                return Allow(self.to)
            case Action.REFUSE:
                return Refuse(self.errno)
            case Action.DROP:
                return Drop()
            case Action.ASK:
                return None

    def applies(self, protocol: int, *, inbound: bool) -> bool:
        """Whether the rule is about such flows.

        Args:
            protocol: IP protocol number.
            inbound: whether an outsider opens them.
        """
        return (
            (self.inbound is None or self.inbound is inbound)
            and (not self.protocols or any(protocol in _PROTOCOLS[name] for name in self.protocols))
            and (not self.ports or protocol in _WITH_PORTS)
        )


class _Table:
    """The rules about flows of one protocol and direction.

    A set of rules is an integer whose bit N stands for rule N. The sets that match the address and the port are looked
    up, and the lowest bit of their intersection is the first rule that matches both.
    """

    __slots__ = ("_any_address", "_bounds", "_by_port", "_by_prefix", "_rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._any_address = _bits(not rule.destinations for rule in rules)
        prefixes = dict.fromkeys(prefix for rule in rules for prefix in rule.destinations)
        self._by_prefix = PrefixTable(
            (prefix, _bits(prefix in rule.destinations for rule in rules)) for prefix in prefixes
        )
        ranges = [(first, last + 1) for rule in rules for first, last in rule.ports]
        self._bounds = sorted({bound for pair in ranges for bound in pair})
        """The ports at which the set of rules changes."""
        self._by_port = [
            _bits(not rule.ports or any(first <= port <= last for first, last in rule.ports) for rule in rules)
            for port in (0, *self._bounds)
        ]

    def find(self, address: bytes, port: int) -> Rule:
        """The first rule that matches; the last rule matches everything."""
        found = self._any_address
        for bits in self._by_prefix.matches(address):
            found |= bits
        found &= self._by_port[bisect_right(self._bounds, port)]
        return self._rules[(found & -found).bit_length() - 1]


class Policy:
    """The rules of one network, compiled so that finding one takes about as long for a hundred rules as for a few.

    Args:
        rules: the first that matches decides.
        default: the effect if none matches.
    """

    __slots__ = ("_tables",)

    def __init__(self, rules: Iterable[Rule], default: Action) -> None:
        rules = (*rules, Rule(action=default))
        self._tables = {
            (protocol, inbound): _Table([rule for rule in rules if rule.applies(protocol, inbound=inbound)])
            for protocol in (6, 17, 1, 58)
            for inbound in (False, True)
        }

    def find(self, protocol: int, remote: Endpoint, port: int, *, inbound: bool) -> Rule:
        """The rule for a new flow.

        Args:
            protocol: IP protocol number: TCP, UDP, ICMP or ICMPv6.
            remote: the endpoint whose address `Rule.destinations` refers to.
            port: the port that `Rule.ports` refers to; anything for ping.
            inbound: whether an outsider opens the flow.
        """
        return self._tables[protocol, inbound].find(remote.address, port)


def _bits(flags: Iterable[bool]) -> int:
    """An integer whose bit N is flag N."""
    return sum(1 << number for number, flag in enumerate(flags) if flag)
