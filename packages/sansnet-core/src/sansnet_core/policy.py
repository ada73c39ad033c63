"""Decisions about new flows: rules as data, and the verdicts of a program that is asked.

A rule applies to a whole flow. The first rule that matches decides; nothing is evaluated for later packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from errno import EACCES
from typing import Final, TypeAlias

from sansnet_core import fields
from sansnet_core.errors import ConfigError
from sansnet_core.fields import OptionalEndpoint, Part, Prefixes, instance, optional, several
from sansnet_core.records import Converted, Record, field

__all__ = ["Action", "Allow", "Drop", "Refuse", "Rule", "Serve", "Verdict"]


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


_WITH_PORTS: Final = (6, 17)
_PROTOCOLS: Final = {"tcp": (6,), "udp": (17,), "ping": (1, 58)}
"""Name in a rule -> IP protocol numbers."""


def _protocol(value: str) -> str:
    if not isinstance(value, str) or value not in _PROTOCOLS:
        raise ValueError(f"{value!r:.100} is not one of {', '.join(_PROTOCOLS)}")
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
            port. A rule with ports matches no ping.
        inbound: True for flows that outsiders open, False for those of the guest, None for both.
        to: with `ALLOW`, the host's endpoint to use instead; see `Allow`.
        errno: with `REFUSE`, see `Refuse`.
        name: a name for people; it is in the `repr` of the rule, and has no other effect.

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
    name: str | None = None

    def __post_init__(self) -> None:
        if self.to is not None and self.action is not Action.ALLOW:
            raise ConfigError(f"to: it has no effect with {self.action}; leave it out, or use Action.ALLOW")
        if self.to is not None and not self.to.port and self.protocols != ("ping",):
            raise ConfigError(f"to: {self.to} has port 0, which only pings can go to; give the port of the server")

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
