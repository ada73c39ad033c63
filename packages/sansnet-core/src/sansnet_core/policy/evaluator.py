"""Judges flows and questions by the rules.

Theory of operation. The first rule that matches decides. A name in a rule says nothing about the addresses that the
name is resolved to, and the answer may be hostile. So an address of a name that a rule allows must be public, or a rule
must allow its prefix; and a rule that closes the prefix holds for names, too. An IPv6 address that carries an IPv4
address is judged as both, and the stricter judgement counts.

Rules that close something which no rule of the configuration names are here, too, with labels of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from errno import EACCES
from typing import Final, NamedTuple

from sansnet_core.addresses import Prefix
from sansnet_core.policy.embedded import carried, checked_translators
from sansnet_core.policy.groups import BITS, Groups
from sansnet_core.policy.index import Index, bits_of, first_of
from sansnet_core.policy.names import is_host_name
from sansnet_core.policy.rule import RECORD_TYPES, Action, Allow, Check, Drop, Group, Refuse, Rule
from sansnet_core.wire.ip import TCP, UDP

__all__ = [
    "ADDRESS_OF_NAME",
    "NO_HOST_NAME",
    "OTHER_RESOLVER",
    "QUIC",
    "RESOLVER_PORTS",
    "Evaluator",
    "Judgement",
    "opens_resolvers",
    "sets_aside_questions",
]

RESOLVER_PORTS: Final = frozenset((53, 853, 5353, 5355, 137))
"""DNS, DNS over TLS and QUIC, mDNS, LLMNR, NetBIOS: other ways to resolve names."""

OTHER_RESOLVER: Final = Rule(action=Action.REFUSE, label="names are resolved by the resolver of the network alone")
"""Closes `RESOLVER_PORTS` if rules have names, unless the rule that decides names the port."""
ADDRESS_OF_NAME: Final = Rule(action=Action.REFUSE, label="an address of a name must be public, or allowed by a rule")
"""Closes an address that is not public to a name whose rule has no addresses."""
NO_HOST_NAME: Final = Rule(action=Action.REFUSE, label="only host names have addresses")
"""Closes questions for addresses of other names, whose labels may have any bytes. Such a name could be read as a
pattern (in a rule about a flow to it), as an address, or as another name with a port (by a proxy)."""
QUIC: Final = Rule(action=Action.REFUSE, label="QUIC shows no server name, and a rule refuses names at this port")
"""Closes UDP at ports where a rule denies names in the first bytes of a connection."""

_ADDRESSES: Final = frozenset((1, 28, 255))
"""Types of records: A, AAAA, and ANY, which is answered as one of them."""
_PUBLIC: Final = BITS[Group.PUBLIC]
_STRICTNESS: Final = {Action.ALLOW: 0, Action.ASK: 1, Action.REFUSE: 2, Action.DROP: 3}


class Judgement(NamedTuple):
    """The result of an evaluation.

    Attributes:
        action: the effect.
        rule: the rule that decided; None for the default action.
        check: the first bytes that must name an allowed host; for TCP only.
        strict: whether first bytes without a name end the connection. If not, only a name that is refused does.
    """

    action: Action
    rule: Rule | None = None
    check: Check = Check.NONE
    strict: bool = True

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
    def verdict(self) -> Allow | Refuse | Drop | None:
        """The verdict; None if the driver is to be asked."""
        rule = self.rule if self.rule is not None and self.rule.action is self.action else Rule(action=self.action)
        return rule.verdict


class Evaluator:
    """The rules of one network.

    Args:
        rules: the first that matches decides.
        default: the effect if none matches; None allows the flow.
        host: the host's own addresses, and networks that are all its own.
        resolvers: the guest's name servers, as it sees them.
        translators: prefixes of NAT64 translators of the host's network, beside 64:ff9b::/96.

    Attributes:
        names: whether a rule has names.

    Raises:
        ValueError: a translator's prefix has an impossible length.
    """

    __slots__ = ("_default", "_groups", "_index", "_questions", "_rules", "_translators", "names")

    def __init__(
        self,
        rules: Iterable[Rule],
        default: Action | None,
        *,
        host: Iterable[bytes | Prefix] = (),
        resolvers: Collection[bytes] = (),
        translators: Iterable[Prefix] = (),
    ) -> None:
        self._rules = tuple(rules)
        self.names = any(rule.names for rule in self._rules)
        self._default = Judgement(default or Action.ALLOW)
        self._groups = Groups(host, resolvers)
        self._translators = checked_translators(translators)
        self._index = Index(self._rules)
        aside = sets_aside_questions(self._rules, default)
        self._questions = bits_of(
            _decides_questions(rule, resolvers) and not (aside and opens_resolvers(rule)) for rule in self._rules
        )

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
        """Judge a flow.

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
        if not self._rules and self._default.action is not Action.ASK:
            return self._default  # as in most networks
        index = self._index
        about = index.about(protocol, port, inbound=inbound)
        matching = about & (index.unnamed if name is None else index.named(name))
        flow = _Flow(matching, port, name is not None, protocol == TCP and not inbound)
        if address is None:
            places = index.anywhere
            judged = self._first(matching & places, flow)
        else:
            groups = self._groups.of(address, host or address)
            places = index.at(address, groups)
            judged = self._judge_address(flow, places, groups)
            if len(address) == 16 or (host is not None and len(host) == 16):
                for other in self._other_readings(address, host):
                    groups = self._groups.of(*other)
                    found = self._judge_address(flow, index.at(other[0], groups), groups)
                    judged = max(judged, found, key=_strictness)
        if not self.names or inbound or protocol not in (TCP, UDP) or judged.action in (Action.REFUSE, Action.DROP):
            return judged
        if port in RESOLVER_PORTS and not self._is_open_resolver(address, port, judged.rule):
            return Judgement(Action.REFUSE, OTHER_RESOLVER)
        watching = about & places & index.watching(port)
        return judged if not watching else self._watched(protocol, port, watching, matching & places, judged)

    def question(self, name: str, type_: int) -> Judgement:
        """Judge a question for a name.

        A rule with names decides if a name matches, unless it refuses only some flows to it. A rule without names
        decides if it matches UDP to port 53 of the guest's name servers, and is not set aside (`sets_aside_questions`).
        Types of records beside `RECORD_TYPES` need a rule with names that lists them, or a rule without names.
        Addresses are refused for what is no host name.

        Args:
            name: in canonical form.
            type_: of the records that are asked for.
        """
        judged = self._judge_question(name, type_)
        if type_ in _ADDRESSES and judged.action in (Action.ALLOW, Action.ASK) and not is_host_name(name):
            return Judgement(Action.REFUSE, NO_HOST_NAME)
        return judged

    def _judge_question(self, name: str, type_: int) -> Judgement:
        """The judgement of the first rule that decides about a question."""
        found = self._questions & self._index.named(name)
        while found:
            number = first_of(found)
            rule = self._rules[number]
            if (
                rule.denies
                or type_ in RECORD_TYPES
                or type_ in rule.record_types
                or not (rule.names or rule.record_types)
            ):
                return Judgement(rule.action, rule)
            found &= ~(1 << number)
        return self._default

    def _first(self, found: int, flow: _Flow) -> Judgement:
        """The judgement of the first rule of a set."""
        if not found:
            return self._default
        rule = self._rules[first_of(found)]
        checked = flow.checked and not rule.denies
        return Judgement(rule.action, rule, rule.check_at(flow.port) if checked else Check.NONE)

    def _judge_address(self, flow: _Flow, places: int, groups: tuple[int, int]) -> Judgement:
        """Judge one reading of an address.

        Args:
            flow: the flow.
            places: the rules that match the address.
            groups: of the address.
        """
        found = flow.matching & places
        judged = self._first(found, flow)
        rule = judged.rule
        if not flow.named or judged.action in (Action.REFUSE, Action.DROP):
            return judged
        if rule is not None and (not rule.anywhere or rule.to is not None):
            return judged
        found &= ~self._index.anywhere
        if found:
            second = self._rules[first_of(found)]
            if second.denies or (second.action is Action.ASK and judged.action is Action.ALLOW):
                return Judgement(second.action, second, Check.NONE if second.denies else judged.check)
            return judged
        if groups[0] & _PUBLIC or (judged.action is Action.ALLOW and (rule is None or not rule.names)):
            return judged
        return Judgement(Action.REFUSE, ADDRESS_OF_NAME)

    def _other_readings(self, address: bytes, host: bytes | None) -> Iterable[tuple[bytes, bytes]]:
        """The IPv4 addresses that a destination carries, with the host's address for each."""
        found: list[tuple[bytes, bytes]] = []
        if len(address) == 16:
            for other in carried(address, self._translators):
                found.append((other, other if host is None or host == address else host))
        if host is not None and host != address and len(host) == 16:
            found += [(address, other) for other in carried(host, self._translators)]
        return found

    def _is_open_resolver(self, address: bytes | None, port: int, rule: Rule | None) -> bool:
        """Whether one of `RESOLVER_PORTS` stays open to a flow that a rule allows."""
        if address is not None and self._groups.is_resolver(address) and port in (53, 853):
            return port == 53
        return rule is not None and bool(rule.ports)

    def _watched(self, protocol: int, port: int, watching: int, found: int, judged: Judgement) -> Judgement:
        """The judgement about an outbound flow whose first bytes may have a name that a rule denies.

        Args:
            protocol: TCP or UDP.
            port: the destination's.
            watching: the rules that deny a name in first bytes of such flows.
            found: the rules that match the flow.
            judged: their judgement, which does not refuse it.
        """
        rule = judged.rule
        if found:  # a rule that comes later denies nothing
            watching &= (found & -found) - 1
        if not watching or judged.check is not Check.NONE or (rule is not None and rule.check is not None):
            return judged
        if protocol == TCP:
            return judged._replace(check=self._rules[first_of(watching)].check_at(port), strict=False)
        return judged if rule is not None and "udp" in rule.protocols else Judgement(Action.REFUSE, QUIC)


class _Flow(NamedTuple):
    """A flow, without its address.

    Attributes:
        matching: the rules that match it.
        port: as in `Evaluator.judge`.
        named: whether its destination stands for a name.
        checked: whether its first bytes can be checked.
    """

    matching: int
    port: int
    named: bool
    checked: bool


def _strictness(judgement: Judgement) -> tuple[int, bool]:
    return _STRICTNESS[judgement.action], judgement.check is not Check.NONE


def sets_aside_questions(rules: Iterable[Rule], default: Action | None) -> bool:
    """Whether rules that open the guest's name servers (`opens_resolvers`) say nothing about questions.

    That is so if rules open names, and nothing without names allows public addresses: the answers to other questions
    would be of no use, and a question can carry data.
    """
    outbound = [rule for rule in rules if not rule.denies and rule.inbound is not True]
    opens_public = default in (None, Action.ALLOW) or any(
        rule.action is Action.ALLOW
        and not rule.names
        and (rule.applies(TCP, inbound=False) or rule.applies(UDP, inbound=False))
        and (rule.anywhere or Group.PUBLIC in rule.groups or any(not prefix.length for prefix in rule.destinations))
        for rule in outbound
    )
    return not opens_public and any(rule.names for rule in outbound)


def opens_resolvers(rule: Rule) -> bool:
    """Whether a rule that matches the guest's name servers opens these, or a network that has them."""
    return not (rule.denies or rule.names or rule.anywhere)


def _decides_questions(rule: Rule, resolvers: Collection[bytes]) -> bool:
    """Whether a rule can decide about a question."""
    if rule.names:
        narrow = rule.ports or rule.protocols or rule.destinations or rule.groups
        return rule.inbound is not True and not (rule.denies and narrow)
    to_resolver = (
        rule.anywhere
        or Group.RESOLVER in rule.groups
        # A network that is refused as a whole is about its hosts: our resolver has an address there, and is no host
        or (
            (not rule.denies or bool(rule.ports))
            and any(prefix.contains(address) for prefix in rule.destinations for address in resolvers)
        )
    )
    ports = not rule.ports or any(first <= 53 <= last for first, last in rule.ports)
    return to_resolver and ports and rule.applies(UDP, inbound=False)
