"""Decisions about new flows: rules as data, and the verdicts of a program that is asked.

A rule applies to a whole flow. The first rule that matches decides; nothing is evaluated for later packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from errno import EACCES
from typing import Final, TypeAlias

from sansnet_core.addresses import Endpoint, Prefix
from sansnet_core.errors import ConfigError
from sansnet_core.orders import value_class
from sansnet_core.records import Record
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["Action", "Allow", "Drop", "Policy", "Refuse", "Rule", "Serve", "Verdict"]


@value_class
class Allow:
    """The flow may open."""

    to: Endpoint | None = None
    """The host's endpoint to use instead of the one that the address map gives. For a ping, its port has no meaning."""


@value_class
class Refuse:
    """The flow is refused, as if the host's socket had failed."""

    errno: int = EACCES
    """The errno of that failure; it decides whether the guest gets a reset, an ICMP error or no answer."""


@value_class
class Drop:
    """The flow's packets get no answer."""


@value_class
class Serve:
    """The program itself is the other end: no host socket is made."""


Verdict: TypeAlias = Allow | Refuse | Drop | Serve


class Action(Enum):
    """The effect of a `Rule`."""

    ALLOW = "allow"
    REFUSE = "refuse"
    DROP = "drop"
    ASK = "ask"
    """The driver gets a `DecideFlow` order."""


_PROTOCOLS: Final = {"tcp": frozenset((TCP,)), "udp": frozenset((UDP,)), "ping": frozenset((ICMP, ICMPV6))}
"""Name in a rule -> IP protocol numbers."""


class Rule(Record):
    """A rule about new flows. An empty field matches every flow.

    Attributes:
        action: the effect.
        protocols: of `tcp`, `udp`, `ping`.
        destinations: prefixes of the destination in the guest's packets; for an inbound flow, of the outsider's
            address.
        ports: pairs (first, last) of the destination's port; for an inbound flow, of the guest's port. A rule with
            ports matches no ping.
        inbound: True for flows that outsiders open, False for those of the guest, None for both.
        to: with `ALLOW`, the host's endpoint to use instead; see `Allow`.
        errno: with `REFUSE`, see `Refuse`.
        name: a name for reports.

    Raises:
        ConfigError: a field is wrong.
    """

    action: Action
    protocols: tuple[str, ...] = ()
    destinations: tuple[Prefix, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    inbound: bool | None = None
    to: Endpoint | None = None
    errno: int = EACCES
    name: str | None = None

    def __post_init__(self) -> None:
        for protocol in self.protocols:
            if protocol not in _PROTOCOLS:
                raise ConfigError(f"protocols: {protocol!r} is not one of {', '.join(_PROTOCOLS)}")
        for first, last in self.ports:
            if not 0 < first <= last < 65536:
                raise ConfigError(f"ports: {first} to {last} is not a range of ports between 1 and 65535")

    def matches(self, protocol: int, remote: Endpoint, port: int, *, inbound: bool) -> bool:
        """Whether the rule matches a new flow.

        Args:
            protocol: IP protocol number.
            remote: the endpoint whose address `destinations` refers to.
            port: the port that `ports` refers to.
            inbound: whether an outsider opens it.
        """
        return (
            (self.inbound is None or self.inbound is inbound)
            and (not self.protocols or any(protocol in _PROTOCOLS[name] for name in self.protocols))
            and (not self.ports or (protocol in (TCP, UDP) and any(a <= port <= b for a, b in self.ports)))
            and (not self.destinations or any(prefix.contains(remote.address) for prefix in self.destinations))
        )


class Policy:
    """The rules of one network.

    Args:
        rules: the first that matches decides.
        default: the effect if none matches.
    """

    __slots__ = ("_default", "_rules")

    def __init__(self, rules: Iterable[Rule], default: Action) -> None:
        self._rules = tuple(rules)
        self._default = Rule(action=default)

    def find(self, protocol: int, remote: Endpoint, port: int, *, inbound: bool) -> Rule:
        """The rule for a new flow; the arguments are those of `Rule.matches`."""
        for rule in self._rules:
            if rule.matches(protocol, remote, port, inbound=inbound):
                return rule
        return self._default
