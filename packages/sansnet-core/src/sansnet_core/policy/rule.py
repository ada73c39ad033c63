"""Rules about new flows as data, and the verdicts of a program that is asked.

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

__all__ = ["Action", "Allow", "Check", "Drop", "Group", "Refuse", "Rule", "Serve", "Verdict"]


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
        label: a name for people; it is in reports about flows, and has no other effect.
        names: patterns of host names (`example.org`, `*.example.org`, `*`). A rule with names matches only flows to an
            address that stands for such a name, and questions for such a name.
        groups: groups of destinations; a rule matches an address that is in `destinations` or in `groups`.
        check: the bytes that must name an allowed host; None means `TLS` for port 443 and `HTTP` for port 80 of rules
            with `names`, and `NONE` otherwise. A rule with a check matches no UDP, unless `protocols` has "udp".
        via: with `ALLOW`, the name of the proxy that the flow goes through; see `NetworkConfig.proxies`.

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
    label: str | None = None
    names: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    check: Part[Check | None] = field(optional(instance(Check)), default=None)
    via: str | None = None

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

    def check_at(self, port: int) -> Check:
        """The check of a connection to this port."""
        if self.check is not None:
            return self.check
        return {443: Check.TLS, 80: Check.HTTP}.get(port, Check.NONE) if self.names else Check.NONE
