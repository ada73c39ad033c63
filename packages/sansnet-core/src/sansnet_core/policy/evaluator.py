"""Finds the rule for a new flow.

Theory of operation. For each protocol and direction, a set of rules is an integer whose bit N stands for rule N (a bit
vector, as in packet classifiers). The sets that match the address and the port are looked up, and the lowest bit of
their intersection is the first rule that matches both. So the time of a search does not grow with the number of rules,
and that to build the tables grows little more than linearly: they are built while a network runs, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import EACCES
from itertools import accumulate
from typing import NamedTuple

from sansnet_core.addresses import Prefix
from sansnet_core.policy.groups import Groups
from sansnet_core.policy.rule import Action, Check, Group, Rule, Verdict
from sansnet_core.prefixes import PrefixTable
from sansnet_core.wire.ip import ICMP, ICMPV6, TCP, UDP

__all__ = ["Evaluator", "Judgement"]


class Judgement(NamedTuple):
    """The result of an evaluation.

    Attributes:
        action: the effect.
        rule: the rule that decided; None for the default action.
        check: the bytes that must name an allowed host before any of the guest's bytes pass.
    """

    action: Action
    rule: Rule | None = None
    check: Check = Check.NONE

    @property
    def allowed(self) -> bool:
        """Whether the flow may open."""
        return self.action is Action.ALLOW

    @property
    def errno(self) -> int:
        """The errno of a refusal."""
        return self.rule.errno if self.rule else EACCES

    @property
    def text(self) -> str | None:
        """The rule's label or, without one, its text; None for the default action."""
        return None if self.rule is None else self.rule.label or str(self.rule)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None if the driver is to be asked."""
        if self.rule is not None:
            return self.rule.verdict
        return Rule(action=self.action).verdict


class _Table:
    """The rules about flows of one protocol and direction."""

    __slots__ = ("_any_address", "_any_name", "_bounds", "_by_group", "_by_name", "_by_port", "_by_prefix", "_rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._any_address = _bits(not (rule.destinations or rule.groups) for rule in rules)
        self._any_name = _bits(not rule.names for rule in rules)
        by_prefix: dict[Prefix, int] = {}
        self._by_group: dict[Group, int] = {}
        self._by_name: dict[str, int] = {}
        changes: dict[int, int] = {}
        always = 0
        for number, rule in enumerate(rules):
            bit = 1 << number
            for prefix in rule.destinations:
                by_prefix[prefix] = by_prefix.get(prefix, 0) | bit
            for group in rule.groups:
                self._by_group[group] = self._by_group.get(group, 0) | bit
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

    def find(self, address: bytes | None, groups: Iterable[Group], port: int, name: str | None) -> Rule | None:
        """The first rule that matches; None if there is none."""
        found = self._any_address
        if address is not None:
            for bits in self._by_prefix.matches(address):
                found |= bits
            for group in groups:
                found |= self._by_group.get(group, 0)
        found &= self._any_name if name is None else self._any_name | self._named(name)
        found &= self._by_port[bisect_right(self._bounds, port)]
        return self._rules[(found & -found).bit_length() - 1] if found else None

    def _named(self, name: str) -> int:
        """The rules whose names match a name."""
        found = self._by_name.get(name, 0) | self._by_name.get("*", 0)
        while "." in name:
            name = name.partition(".")[2]
            found |= self._by_name.get(f"*.{name}", 0)
        return found


class Evaluator:
    """The rules of one network.

    Args:
        rules: the first that matches decides.
        default: the effect if none matches; None allows the flow.
        host: the host's own addresses.
        resolvers: the guest's name servers.

    Attributes:
        names: whether a rule has names.
    """

    __slots__ = ("_default", "_groups", "_tables", "names")

    def __init__(
        self,
        rules: Iterable[Rule],
        default: Action | None,
        *,
        host: Collection[bytes] = (),
        resolvers: Collection[bytes] = (),
    ) -> None:
        rules = tuple(rules)
        self.names = any(rule.names for rule in rules)
        self._default = Judgement(default or Action.ALLOW)
        self._groups = Groups(host, resolvers)
        self._tables = {
            (protocol, inbound): _Table([rule for rule in rules if rule.applies(protocol, inbound=inbound)])
            for protocol in (TCP, UDP, ICMP, ICMPV6)
            for inbound in (False, True)
        }

    def judge(
        self,
        protocol: int,
        address: bytes | None,
        port: int,
        *,
        inbound: bool = False,
        name: str | None = None,
        host: bytes | None = None,
    ) -> Judgement:
        """Judge a new flow.

        Args:
            protocol: IP protocol number: TCP, UDP, ICMP or ICMPv6.
            address: the destination in the guest's packets, 4 or 16 bytes; for an inbound flow, the outsider's address.
                With a name, the address that it was resolved to; None if it is not known yet, so that only rules
                without addresses match.
            port: the port that `Rule.ports` refers to; anything for ping.
            inbound: whether an outsider opens the flow.
            name: the host name that the destination stands for, in canonical form.
            host: the host's address that the destination leads to, if that is another one. It decides about groups.
        """
        groups = () if address is None else self._groups.of(host or address)
        rule = self._tables[protocol, inbound].find(address, groups, port, name)
        return self._default if rule is None else Judgement(rule.action, rule, rule.check_at(port))

    def question(self, name: str, type_: int) -> Judgement:
        """Judge a question for a name.

        Args:
            name: in canonical form.
            type_: of the records that are asked for.
        """
        return self.judge(UDP, None, 53, name=name)


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
