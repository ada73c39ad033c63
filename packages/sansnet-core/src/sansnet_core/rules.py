"""Finds the rule for a new flow.

Theory of operation. For each protocol and direction, a set of rules is an integer whose bit N stands for rule N (a bit
vector, as in packet classifiers). The sets that match the address and the port are looked up, and the lowest bit of
their intersection is the first rule that matches both. So the time does not grow with the number of rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sansnet_core.orders import Endpoint
from sansnet_core.policy import Action, Rule
from sansnet_core.prefixes import PrefixTable
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["Policy"]


class _Table:
    """The rules about flows of one protocol and direction."""

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
    """The rules of one network.

    Args:
        rules: the first that matches decides.
        default: the effect if none matches; None allows the flow.
    """

    __slots__ = ("_tables",)

    def __init__(self, rules: Iterable[Rule], default: Action | None) -> None:
        rules = (*rules, Rule(action=default or Action.ALLOW))
        self._tables = {
            (protocol, inbound): _Table([rule for rule in rules if rule.applies(protocol, inbound=inbound)])
            for protocol in (TCP, UDP, ICMP, ICMPV6)
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
