"""Finds the rules that match a part of a flow, as sets.

Theory of operation. A set of rules is an integer whose bit N stands for rule N, as in packet classifiers.
The sets that match the address, the name and the port are looked up, and the lowest bit of their intersection is the
first rule that matches all. So the time of a search hardly grows with the number of rules, and that to build the tables
grows little more than linearly: they are built while a network runs, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from sansnet_core.addresses import Prefix
from sansnet_core.policy.groups import BITS
from sansnet_core.policy.names import fitting
from sansnet_core.policy.rule import Check, Rule
from sansnet_core.prefixes import PrefixTable
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["Index", "bits_of", "first_of"]

_KEPT_NAMES: Final = 1024
"""Names whose sets are kept. A guest may ask for any number of names."""


class Index:
    """The rules of one network, by what they match.

    Args:
        rules: the first that matches decides.

    Attributes:
        rules: the same.
        anywhere: those without destinations and groups.
        unnamed: those without names.
    """

    __slots__ = (
        *("_applies", "_bounds", "_by_group", "_by_name", "_by_port", "_by_prefix", "_checked", "_named"),
        *("_sets_of_groups", "_watching", "anywhere", "rules", "unnamed"),
    )

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.anywhere = bits_of(rule.anywhere for rule in rules)
        self.unnamed = bits_of(not rule.names for rule in rules)
        self._applies = {
            (protocol, inbound): bits_of(rule.applies(protocol, inbound=inbound) for rule in rules)
            for protocol in (TCP, UDP, ICMP, ICMPV6)
            for inbound in (False, True)
        }
        ports = (None, 80, 443)
        self._checked = {
            port: bits_of(not rule.denies and "udp" not in rule.protocols and _checks(rule, port) for rule in rules)
            for port in ports
        }
        """Port, or None for all others -> rules with a check there, which match no UDP."""
        self._watching = {
            port: bits_of(rule.denies and bool(rule.names) and _checks(rule, port) for rule in rules) for port in ports
        }
        by_prefix: dict[Prefix, int] = {}
        self._by_group = (dict.fromkeys(BITS.values(), 0), dict.fromkeys(BITS.values(), 0))
        self._by_name: dict[str, int] = {}
        changes: dict[int, int] = {}
        always = 0
        for number, rule in enumerate(rules):
            bit = 1 << number
            for prefix in rule.destinations:
                by_prefix[prefix] = by_prefix.get(prefix, 0) | bit
            for group in rule.groups:
                self._by_group[rule.denies][BITS[group]] |= bit
            for name in rule.names:
                self._by_name[name] = self._by_name.get(name, 0) | bit
            for bound in _bounds(rule.ports):
                changes[bound] = changes.get(bound, 0) ^ bit
            if not rule.ports:
                always |= bit
        self._by_prefix = PrefixTable(by_prefix.items())
        self._bounds = sorted(changes)
        """The ports at which the set of rules changes."""
        self._by_port = list(accumulate((changes[bound] for bound in self._bounds), int.__xor__, initial=always))
        self._sets_of_groups: dict[tuple[int, int], int] = {}
        self._named: dict[str, int] = {}

    def about(self, protocol: int, port: int, *, inbound: bool) -> int:
        """The rules that match such flows, as far as protocol, direction and port go."""
        found = self._applies[protocol, inbound] & self._by_port[bisect_right(self._bounds, port)]
        if protocol == UDP and not inbound:
            found &= ~self._checked[port if port in self._checked else None]
        return found

    def watching(self, port: int) -> int:
        """The rules that deny a name in the first bytes of a connection to a port."""
        return self._watching[port if port in self._watching else None]

    def at(self, address: bytes, groups: tuple[int, int]) -> int:
        """The rules that match a destination.

        Args:
            address: in the guest's packets.
            groups: those for rules that open it, and for rules that close it.
        """
        found = self._sets_of_groups.get(groups)
        if found is None:  # there are few combinations of groups
            found = self.anywhere
            for some, sets in zip(groups, self._by_group, strict=True):
                for bit, rules in sets.items():
                    found |= rules if some & bit else 0
            self._sets_of_groups[groups] = found
        for bits in self._by_prefix.matches(address):
            found |= bits
        return found

    def named(self, name: str) -> int:
        """The rules that match a name in canonical form, and those without names."""
        found = self._named.get(name)
        if found is None:
            found = self.unnamed | self._by_name.get(name, 0)
            for each in fitting(name):
                found |= self._by_name.get(each, 0)
            if len(self._named) >= _KEPT_NAMES:
                self._named.clear()
            self._named[name] = found
        return found


def bits_of(flags: Iterable[bool]) -> int:
    """The set of the rules whose flags are true; one flag for each rule."""
    text = "".join("1" if flag else "0" for flag in flags)
    return int(text[::-1] or "0", 2)


def first_of(found: int) -> int:
    """The number of the first rule of a set that is not empty."""
    return (found & -found).bit_length() - 1


def _checks(rule: Rule, port: int | None) -> bool:
    return rule.check_at(port or 0) is not Check.NONE


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
