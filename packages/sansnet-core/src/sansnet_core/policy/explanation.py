"""Explains the judgement about one flow or question, and runs the cases of a policy file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import errorcode
from typing import Final, NamedTuple

from sansnet_core.addresses import AnyAddress, format, packed
from sansnet_core.errors import ConfigError
from sansnet_core.policy.cases import Case, Place, PolicyFile, canonical_question
from sansnet_core.policy.embedded import carried
from sansnet_core.policy.evaluator import (
    ADDRESS_OF_NAME,
    Evaluator,
    Judgement,
    opens_resolvers,
    sets_aside_questions,
)
from sansnet_core.policy.groups import BITS, Groups, groups_in
from sansnet_core.policy.names import matches
from sansnet_core.policy.policy import Policy, PolicyError
from sansnet_core.policy.rule import PROTOCOLS, Action, Check, Group, Rule, type_name, type_number
from sansnet_core.wire.ip import ICMP, ICMPV6

__all__ = ["CaseResult", "Explanation", "Miss", "explain", "explain_question", "run_cases"]

_MOST_MISSES: Final = 10
_LENIENCE: Final = (Action.ALLOW, Action.ASK, Action.REFUSE, Action.DROP)
_CHECKS: Final = {
    (Check.TLS, True): "the TLS server name must be a name that the rules allow",
    (Check.HTTP, True): "the Host of each HTTP request must be a name that the rules allow",
    (Check.TLS, False): "a TLS server name that the rules refuse ends the connection",
    (Check.HTTP, False): "an HTTP Host that the rules refuse ends the connection",
}


class Miss(NamedTuple):
    """A rule that nearly matched.

    Attributes:
        number: of the rule, from 1.
        rule: the rule.
        why: the only part that does not match.
    """

    number: int
    rule: Rule
    why: str


class Explanation(NamedTuple):
    """The judgement about a flow or a question, and why.

    Attributes:
        subject: the flow or the question, such as "tcp to example.org:443".
        action: "allow", "refuse", "drop", "ask", or "redirect".
        judgement: that decides.
        number: of the rule that decided, from 1; None for the default action, and for rules that are not of the policy.
        line: of that rule in the file; None if it is not known.
        reasons: sentences about how the judgement came about.
        misses: rules before the one that decided that matched but for one part; the first ten.

    `str` gives all in lines of text.
    """

    subject: str
    action: str
    judgement: Judgement
    number: int | None
    line: int | None
    reasons: tuple[str, ...]
    misses: tuple[Miss, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.subject}: {self.action}", *(f"  {reason}" for reason in self.reasons)]
        parts += [f"  rule {miss.number} ({miss.rule}) does not match: {miss.why}" for miss in self.misses]
        return "\n".join(parts)


class CaseResult(NamedTuple):
    """The result of a case.

    Attributes:
        case: the case.
        passed: whether the policy has the action that the case expects.
        explanation: of the judgement.
    """

    case: Case
    passed: bool
    explanation: Explanation

    def __str__(self) -> str:
        place = f"line {self.case.line}: " if self.case.line else ""
        label = f"{self.case.label}: " if self.case.label else ""
        found = "" if self.passed else f", not {self.explanation.action}; {self.explanation.reasons[0]}"
        return f"{place}{label}{self.case}: {'passed' if self.passed else 'FAILED'}: {self.case.expect}{found}"


def explain(
    policy: Policy | PolicyFile,
    destination: str,
    protocol: str = "tcp",
    *,
    inbound: bool = False,
    addresses: Iterable[AnyAddress] = (),
    host_addresses: Iterable[AnyAddress] = (),
    resolvers: Iterable[AnyAddress] = (),
) -> Explanation:
    """Explain the judgement about a flow.

    Args:
        policy: the policy, or a file, whose lines the explanation names.
        destination: a host name or an address, with a port unless the flow is a ping, such as "example.org:443".
        protocol: "tcp", "udp" or "ping".
        inbound: whether an outsider opens the flow; then the destination is its address and the guest's port.
        addresses: those of the host name; without them, a public address is assumed.
        host_addresses: the host's own addresses.
        resolvers: the guest's name servers.

    Raises:
        ConfigError: the destination or an address is wrong.
    """
    if protocol not in PROTOCOLS:
        raise PolicyError(f"{protocol!r:.100} is not one of {', '.join(PROTOCOLS)}", field="protocol")
    found = _Explainer(policy, [*map(packed, host_addresses)], [*map(packed, resolvers)])
    place = Place.parse(destination, protocol, inbound=inbound)
    return found.flow(place, protocol, [*map(packed, addresses)], inbound=inbound)


def explain_question(
    policy: Policy | PolicyFile, name: str, type_: int | str = "A", *, resolvers: Iterable[AnyAddress] = ()
) -> Explanation:
    """Explain the judgement about a question.

    Args:
        policy: as in `explain`.
        name: the host name that is asked for.
        type_: of the records that are asked for.
        resolvers: the guest's name servers.

    Raises:
        ConfigError: the name or the type is wrong.
    """
    try:
        number = type_number(type_)
    except ValueError as wrong:
        raise ConfigError(f"type: {wrong}") from None
    return _Explainer(policy, [], [*map(packed, resolvers)]).question(canonical_question(name), number)


def run_cases(
    file: PolicyFile, *, host_addresses: Iterable[AnyAddress] = (), resolvers: Iterable[AnyAddress] = ()
) -> tuple[CaseResult, ...]:
    """Run the cases of a policy file.

    Args:
        file: the policy and its cases.
        host_addresses: the host's own addresses.
        resolvers: the guest's name servers.
    """
    explainer = _Explainer(file, [*map(packed, host_addresses)], [*map(packed, resolvers)])
    results = []
    for case in file.cases:
        if case.question is not None:
            found = explainer.question(canonical_question(case.question), case.type)
        else:
            place = Place.parse(case.to or "", case.protocol, inbound=bool(case.inbound))
            found = explainer.flow(place, case.protocol, case.addresses, inbound=bool(case.inbound))
        passed = case.expect == found.action or (case.expect == "allow" and found.judgement.allowed)
        results.append(CaseResult(case, passed, found))
    return tuple(results)


class _Explainer:
    """Explains judgements of one policy."""

    def __init__(self, policy: Policy | PolicyFile, host: Collection[bytes], resolvers: Collection[bytes]) -> None:
        self._lines = policy.lines if isinstance(policy, PolicyFile) else ()
        self._policy = policy.policy if isinstance(policy, PolicyFile) else policy
        self._rules = self._policy.rules
        self._groups = Groups(host, resolvers)
        self._evaluator = Evaluator(self._rules, self._policy.default_action, host=host, resolvers=resolvers)

    def flow(self, place: Place, protocol: str, addresses: Sequence[bytes], *, inbound: bool) -> Explanation:
        """Explain a flow."""
        target = f"[{format(place.address)}]" if place.address and len(place.address) == 16 else place.name
        subject = f"{protocol} {'from' if inbound else 'to'} {target or format(place.address or bytes(4))}"
        subject += f":{place.port}" if place.port else ""
        reasons: list[str] = []
        if place.name is None:
            assert place.address is not None
            chosen: bytes | None = place.address
            judged = self._judge(protocol, chosen, place, inbound=inbound)
        else:
            asked = self._evaluator.question(place.name, 1)
            if asked.action in (Action.REFUSE, Action.DROP):
                reasons = ["the name is not resolved", self._decided(asked), *self._set_aside()]
                return self._made(subject, asked, reasons)
            judged, chosen = self._judge_name(place, protocol, addresses, reasons)
        reasons.insert(0, self._decided(judged))
        for other in carried(chosen) if chosen is not None else ():
            reasons.append(f"it carries {format(other)}, which is judged as well; the stricter judgement counts")
        if (judged.check, judged.strict) in _CHECKS:
            reasons.append(_CHECKS[judged.check, judged.strict])
        if judged.rule is not None and judged.rule.via is not None and not judged.rule.denies:
            reasons.append(f"it goes through the proxy {judged.rule.via}")
        misses = self._misses(
            judged, place, protocol, chosen, assumed=place.name is not None and not addresses, inbound=inbound
        )
        return self._made(subject, judged, reasons, misses)

    def question(self, name: str, type_: int) -> Explanation:
        """Explain a question."""
        judged = self._evaluator.question(name, type_)
        reasons = [self._decided(judged)]
        if judged.action in (Action.REFUSE, Action.DROP) and self._evaluator.question(name, 1).allowed:
            reasons.append(f'a rule with records = ["{type_name(type_)}"] would allow records of this type')
        elif not judged.allowed:
            reasons += self._set_aside()
        return self._made(f"question for {name}, type {type_name(type_)}", judged, reasons)

    def _set_aside(self) -> Iterator[str]:
        """Sentences about rules that would allow all questions, if no rule opened names."""
        if sets_aside_questions(self._rules, self._policy.default_action):
            for number, rule in enumerate(self._rules, 1):
                if opens_resolvers(rule) and Group.RESOLVER in rule.groups:
                    yield f"rule {number} ({rule}) allows no questions: other rules open names, which alone count"

    def _judge(self, protocol: str, address: bytes | None, place: Place, *, inbound: bool = False) -> Judgement:
        number = PROTOCOLS[protocol][0]
        if number == ICMP and address is not None and len(address) == 16:
            number = ICMPV6
        return self._evaluator.judge(number, address, place.port, inbound=inbound, name=place.name)

    def _judge_name(
        self, place: Place, protocol: str, addresses: Sequence[bytes], reasons: list[str]
    ) -> tuple[Judgement, bytes | None]:
        """The judgement about a flow to a name, and the address that it is about."""
        if not addresses:
            address = self._public_address()
            judged = self._judge(protocol, address, place)
            if not (judged.rule is not None and (judged.rule.to is not None or judged.rule.via is not None)):
                reasons.append("that is for a public address of the name")
            return judged, address
        found = [(self._judge(protocol, address, place), address) for address in addresses]
        for judged, address in found:
            reasons.append(f"{format(address)}: {judged.action.value}; {self._decided(judged)}")
        return min(found, key=lambda pair: _LENIENCE.index(pair[0].action))

    def _public_address(self) -> bytes | None:
        """A public address that no rule names; None if rules name all that are tried."""
        prefixes = [prefix for rule in self._rules for prefix in rule.destinations]
        for number in range(1, 224):
            address = bytes((number, 1, 1, 1))
            groups = self._groups.of(address, address)[0]
            if groups == BITS[Group.PUBLIC] and not any(prefix.contains(address) for prefix in prefixes):
                return address
        return None

    def _made(self, subject: str, judged: Judgement, reasons: list[str], misses: Iterable[Miss] = ()) -> Explanation:
        number = self._number(judged.rule)
        line = self._lines[number - 1] if number and len(self._lines) >= number else 0
        action = judged.action.value
        if judged.allowed and judged.rule is not None and judged.rule.to is not None:
            action = "redirect"
            reasons.append(f"it goes to {judged.rule.target_text}")
        elif judged.action is Action.REFUSE:
            action = "refuse"
            reasons.append(f"the guest sees {errorcode.get(judged.errno, judged.errno)}")
        return Explanation(subject, action, judged, number, line or None, tuple(reasons), tuple(misses))

    def _number(self, rule: Rule | None) -> int | None:
        return next((number for number, each in enumerate(self._rules, 1) if each is rule), None)

    def _decided(self, judged: Judgement) -> str:
        rule = judged.rule
        if rule is None:
            return "no rule matches, so the default action decides"
        number = self._number(rule)
        if number is None:
            return f"closed: {rule.label}"
        line = self._lines[number - 1] if len(self._lines) >= number else 0
        return f"rule {number}{f', line {line},' if line else ''} decides: {rule}"

    def _misses(
        self,
        judged: Judgement,
        place: Place,
        protocol: str,
        address: bytes | None,
        *,
        assumed: bool,
        inbound: bool,
    ) -> list[Miss]:
        """The rules before the one that decided that matched but for one part.

        Args:
            judged: by the one that decided.
            place: the destination.
            protocol: of the flow.
            address: of the destination.
            assumed: whether the address stands for any public one.
            inbound: whether an outsider opens the flow.
        """
        if judged.rule is ADDRESS_OF_NAME:
            return []
        found = []
        for number, rule in enumerate(self._rules, 1):
            if rule is judged.rule:
                break
            problems = list(self._problems(rule, place, protocol, address, assumed=assumed, inbound=inbound))
            if len(problems) == 1 and rule.action is not judged.action:
                found.append(Miss(number, rule, problems[0]))
        return found[:_MOST_MISSES]

    def _problems(
        self, rule: Rule, place: Place, protocol: str, address: bytes | None, *, assumed: bool, inbound: bool
    ) -> Iterator[str]:
        """The parts of a rule that do not match."""
        if rule.inbound is not None and rule.inbound is not inbound:
            yield f"it is about flows {'from outside' if rule.inbound else 'that the guest opens'}"
        if rule.protocols and protocol not in rule.protocols:
            yield f"it is about {', '.join(rule.protocols)}"
        unnamed_udp = protocol == "udp" and not inbound and not rule.denies and "udp" not in rule.protocols
        if not rule.protocols and unnamed_udp and rule.check_at(place.port) is not Check.NONE:
            yield "it checks first bytes, so it is about UDP only if its protocols name udp"
        if rule.ports and not any(first <= place.port <= last for first, last in rule.ports):
            yield "it is about other ports"
        if rule.names and place.name is None:
            yield "it is about names, and an address alone stands for none"
        elif rule.names and not any(matches(pattern, place.name or "") for pattern in rule.names):
            yield "the name matches none of its patterns"
        if not rule.anywhere and address is not None and not any(each.contains(address) for each in rule.destinations):
            opens, closes = self._groups.of(address, address)
            groups = groups_in(closes if rule.denies else opens)
            if not any(group in rule.groups for group in groups):
                words = ", ".join(group.value for group in groups)
                subject = "the public address that the name is assumed to have" if assumed else format(address)
                yield f"{subject} is in none of its networks and groups; it is in: {words}"
