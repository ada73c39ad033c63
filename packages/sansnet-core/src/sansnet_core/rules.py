"""Finds the rule for a new flow.

Theory of operation. For each protocol and direction, a set of rules is an integer whose bit N stands for rule N (a bit
vector, as in packet classifiers). The sets that match the address and the port are looked up, and the lowest bit of
their intersection is the first rule that matches both. So the time of a search does not grow with the number of rules,
and that to build the tables grows little more than linearly: they are built while a network runs, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from sansnet_core.addresses import Prefix
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
        by_prefix: dict[Prefix, int] = {}
        changes: dict[int, int] = {}
        always = 0
        for number, rule in enumerate(rules):
            bit = 1 << number
            for prefix in rule.destinations:
                by_prefix[prefix] = by_prefix.get(prefix, 0) | bit
            for bound in _bounds(rule.ports):
                changes[bound] = changes.get(bound, 0) ^ bit
            if not rule.ports:
                always |= bit
        self._by_prefix = PrefixTable(by_prefix.items())
        self._bounds = sorted(changes)
        """The ports at which the set of rules changes."""
        self._by_port = list(accumulate((changes[bound] for bound in self._bounds), int.__xor__, initial=always))

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


def _bounds(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The first port of each range, and the one after the last; ranges that overlap count as one."""
    after = 0
    for first, last in sorted(ranges):
        if first > after:
            if after:
                yield after
            yield first
        after = max(after, last + 1)
    if after:
        yield after


def _bits(flags: Iterable[bool]) -> int:
    """An integer whose bit N is flag N."""
    return sum(1 << number for number, flag in enumerate(flags) if flag)
