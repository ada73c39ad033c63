"""A policy that would have sufficed, learnt from the events of a network.

Theory of operation. The flows that reached something become rules, one for each name, or for each address without a
name, with the ports that were used. An evaluator judges those rules as a network does. If it closes a flow that was
used, because its name led to an address that is not public, a rule about the name at that address is added. So the
policy allows all that was used, by the definition of rules. Everything else becomes a comment.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from sansnet_core import FlowClosed, FlowOpened, FlowRefused, FlowReport, NameAsked, NetworkConfig, addresses
from sansnet_core.addresses import Prefix
from sansnet_core.config import ResolverConfig
from sansnet_core.policy import Action, Group, NameMode, Policy, Rule, dump_policy
from sansnet_core.policy.embedded import carried
from sansnet_core.policy.evaluator import Evaluator
from sansnet_core.policy.groups import Groups, groups_in
from sansnet_core.policy.names import canonical, pattern
from sansnet_core.policy.rule import RECORD_TYPES
from sansnet_core.wire import dns
from sansnet_trio._version import __version__
from sansnet_trio.audit.entries import Flow, amount, cut, errno_name, protocol
from sansnet_trio.audit.suffixes import common_suffixes, is_of_search
from sansnet_trio.events import Lost

if TYPE_CHECKING:
    from sansnet_trio.events import Event

__all__ = ["Learner"]

_MOST: Final = 10_000
"""Most targets, and most names that were asked for."""
_MOST_ADDRESSES: Final = 64
"""Most addresses of one target."""
_MOST_LINES: Final = 100
"""Most lines of a comment."""

_NUMBERS: Final = {"tcp": {4: 6, 16: 6}, "udp": {4: 17, 16: 17}, "ping": {4: 1, 16: 58}}
"""Protocol -> size of an address -> IP protocol number."""
_FOLLOWED: Final = frozenset({0, dns.A, dns.AAAA, 64, 65})
"""Types of records that a program asks for when it connects to the name; 64 and 65 are SVCB and HTTPS."""
_NOWHERE: Final = Prefix("255.255.255.255", 32)
"""No host has this address, and no socket of ours may broadcast: a rule about names there is about questions alone."""


class _Target(NamedTuple):
    """A destination: a name or an address of the guest's flows, or the address of an outsider."""

    inbound: bool
    name: str | None
    address: bytes
    """Empty for a name."""

    def __str__(self) -> str:
        return cut(self.name) or addresses.format(self.address)


class _Use:
    """The flows of one protocol to one port of a target."""

    __slots__ = ("errno", "failed", "hosts", "opened", "received", "refused", "sent")

    def __init__(self) -> None:
        self.opened = self.failed = self.refused = self.sent = self.received = self.errno = 0
        self.hosts: set[tuple[bytes, bytes]] = set()
        """Pairs of the address that rules see and the host's address that it led to."""

    @property
    def reached(self) -> bool:
        return self.opened > self.failed


class _Draft(NamedTuple):
    """A rule, and the comments before it."""

    rule: Rule
    comments: tuple[str, ...]


class Learner:
    """Learns a policy from what a guest does. It allows exactly that; `text` of it is a file to be reviewed.

    The guest's network should be open, and have the resolver of its own (`NetworkOptions.resolver`), so that flows have
    names. Its memory is bounded; targets beyond the limit are missing in the policy, which then says so.

    Args:
        config: the configuration of the network, which has the host's addresses and the guest's name servers.
        wall: the wall clock, in seconds since 1970.
    """

    def __init__(self, config: NetworkConfig | None = None, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._host: Collection[Prefix] = ()
        self._resolvers: Collection[bytes] = ()
        self._search: tuple[str, ...] = ()
        self._names: NameMode | None = None
        defaults = ResolverConfig()
        self._leases: tuple[Prefix, ...] = (defaults.prefix4, defaults.prefix6)
        if config is not None:
            self.set_config(config)
        self._uses: dict[tuple[_Target, str, int], _Use] = {}
        self._asked: dict[str, set[int]] = {}
        """Name -> types of its records that were asked for."""
        self._refused_names: set[str] = set()
        self._missing = 0

    def set_config(self, config: NetworkConfig) -> None:
        """Set the configuration; the last one counts."""
        self._host = config.host_addresses
        real = config.resolver is not None and config.resolver.names is NameMode.REAL
        self._names = NameMode.REAL if real else None
        self._leases = (config.resolver.prefix4, config.resolver.prefix6) if config.resolver is not None else ()
        self._search = config.dns_search
        self._resolvers = (*config.dns_servers, *(match for match, _ in config.dns_forward))

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""
        for event in events:
            if isinstance(event, NameAsked):
                self._add_question(event)
            elif isinstance(event, FlowOpened | FlowRefused | FlowClosed):
                self._add_flow(event)
            elif isinstance(event, Lost):
                self._missing += event.count

    def omit(self, count: int) -> None:
        """Nothing to do: refused flows and questions are no part of the policy."""

    def flush(self) -> None:
        """Nothing to do; see `Account`."""

    def end(self, flows: Iterable[FlowReport] = ()) -> None:
        """Count the bytes of the flows that are open at the end."""
        for flow in flows:
            if (use := self._use(flow)) is not None:
                use.sent += flow.sent
                use.received += flow.received

    def _add_question(self, event: NameAsked) -> None:
        if event.refused:
            if len(self._refused_names) < _MOST:
                self._refused_names.add(event.name)
        elif event.name in self._asked or len(self._asked) < _MOST:
            self._asked.setdefault(event.name, set()).add(event.type)
        else:
            self._missing += 1

    def _add_flow(self, event: FlowOpened | FlowRefused | FlowClosed) -> None:
        use = self._use(event)
        if use is None:
            self._missing += isinstance(event, FlowOpened)
            return
        if event.host is not None and len(use.hosts) < _MOST_ADDRESSES:
            host = event.host.address
            use.hosts.add((host if self._is_leased(event.remote.address) else event.remote.address, host))
        if isinstance(event, FlowOpened):
            use.opened += 1
        elif isinstance(event, FlowClosed):
            use.sent += event.sent
            use.received += event.received
            use.failed += event.reason is not None and not event.received
        elif event.reason is None:
            use.failed += 1
            use.errno = event.errno
        else:
            use.refused += 1

    def _is_leased(self, address: bytes) -> bool:
        """Whether an address exists for a name on the guest's segment only; rules see the name's addresses then."""
        return any(prefix.contains(address) for prefix in self._leases)

    def _is_of_search(self, name: str, asked: Collection[str]) -> bool:
        return is_of_search(name, self._search, asked)

    def _use(self, flow: Flow) -> _Use | None:
        """The use of a flow's target; None if there are too many."""
        target = _Target(flow.inbound, flow.name, b"" if flow.name is not None else flow.remote.address)
        word = protocol(flow)
        port = 0 if word == "ping" else (flow.guest if flow.inbound else flow.remote).port
        use = self._uses.get((target, word, port))
        if use is None and len(self._uses) < _MOST:
            use = self._uses[target, word, port] = _Use()
        return use

    @property
    def policy(self) -> Policy:
        """The policy: it allows what was used until now, and refuses the rest."""
        return self._of(self._drafts())

    def _of(self, drafts: Iterable[_Draft]) -> Policy:
        return Policy(rules=[draft.rule for draft in drafts], default_action=Action.REFUSE, names=self._names)

    def _drafts(self) -> list[_Draft]:
        """The rules: questions, names, addresses, and flows from outside."""
        used: dict[_Target, dict[str, dict[int, _Use]]] = defaultdict(lambda: defaultdict(dict))
        for (target, word, port), use in self._uses.items():
            if use.reached and (target.name is None or _is_name(target.name)):
                used[target][word][port] = use
        drafts = [*self._questions({target.name for target in used})]
        named = bool(drafts) or any(target.name is not None for target in used)
        outside: dict[tuple[str, int], dict[bytes, _Use]] = defaultdict(dict)
        for target in sorted(used, key=_order):
            if target.inbound:
                for word, ports in used[target].items():
                    for port, use in ports.items():
                        outside[word, port][target.address] = use
            elif target.name is not None:
                drafts += self._named(target.name, used[target])
            elif not (named and target.address in self._resolvers and _only_questions(used[target])):
                drafts += self._unnamed(target.address, used[target])
        for (word, port), uses in sorted(outside.items()):
            drafts.append(_from_outside(word, port, uses))
        return drafts

    def _questions(self, connected: Collection[str | None]) -> Iterator[_Draft]:
        """Rules for questions that are more than the beginning of a flow."""
        for name, types in sorted(self._asked.items()):
            more = types - _FOLLOWED
            if more and _is_name(name) and (name not in connected or more - RECORD_TYPES):
                kinds = ", ".join(sorted(filter(None, (NameAsked(name, False, type=one).type_name for one in more))))
                yield _Draft(
                    Rule(
                        action=Action.ALLOW,
                        protocols=("ping",),
                        names=(name,),
                        destinations=(_NOWHERE,),
                        record_types=sorted(more - RECORD_TYPES),
                    ),
                    (f"Looked up ({kinds}). No flow can have this address, so the rule allows questions alone.",),
                )

    def _named(self, name: str, used: dict[str, dict[int, _Use]]) -> Iterator[_Draft]:
        for words, ports in _grouped(used):
            plain = Rule(action=Action.ALLOW, protocols=words, names=(name,), ports=sorted(ports))
            judge = Evaluator([plain], Action.REFUSE, host=self._host, resolvers=self._resolvers).judge
            uses = [(word, port, use) for word in words for port, use in used[word].items()]
            closed: set[tuple[bytes, bytes]] = set()
            public = False
            for word, port, use in uses:
                for seen, host in use.hosts:
                    if judge(_NUMBERS[word][len(seen)], seen, port, name=name, host=host).allowed:
                        public = True
                    else:
                        closed.add((seen, host))
            note = _note(use for _, _, use in uses)
            if public or not closed:
                yield _Draft(plain, (note,))
            if closed:
                at = Rule(
                    action=Action.ALLOW,
                    protocols=words,
                    names=(name,),
                    destinations=_exactly({one for seen, _ in closed for one in _readings(seen)}),
                    ports=sorted(ports),
                )
                kinds = self._kinds(closed)
                yield _Draft(at, (note, f"This name leads to addresses that are not public ({kinds})."))

    def _unnamed(self, address: bytes, used: dict[str, dict[int, _Use]]) -> Iterator[_Draft]:
        for words, ports in _grouped(used):
            note = _note(use for word in words for use in used[word].values())
            if address in self._resolvers and _only_questions(used):
                rule = Rule(action=Action.ALLOW, protocols=words, groups=(Group.RESOLVER,), ports=sorted(ports))
                yield _Draft(rule, (note, "These are questions to the guest's name servers."))
            else:
                both = _readings(address)
                led_to = {host for word in words for use in used[word].values() for host in use.hosts}
                rule = Rule(
                    action=Action.ALLOW,
                    inbound=False,
                    protocols=words,
                    destinations=_exactly(both),
                    ports=sorted(ports),
                )
                odd = f"No name was looked up for this address ({self._kinds(led_to)}). Find out why the guest uses it."
                yield _Draft(rule, (note, odd))

    def _kinds(self, of: Iterable[tuple[bytes, bytes]]) -> str:
        """The groups of pairs of a destination and the host's address that it led to."""
        groups = Groups(self._host, self._resolvers)
        return ", ".join(sorted({group.value for one in of for group in groups_in(groups.of(*one)[1])}))

    def text(self) -> str:
        """The policy as a TOML file, with comments on each rule, and on what is no part of it."""
        drafts = self._drafts()
        policy = self._of(drafts)
        comments = {number: draft.comments for number, draft in enumerate(drafts)}
        parts = [dump_policy(policy, comments, head="\n".join(self._heading()))]
        parts += ["\n".join(f"# {line}" for line in lines) + "\n" for lines in self._left_out() if lines]
        return "\n".join(parts)

    def _heading(self) -> list[str]:
        day = time.strftime("%Y-%m-%d", time.gmtime(self._wall()))
        lines = [
            f"Learnt by sansnet {__version__} on {day}. It allows what the guest used in that run, and nothing else.",
            "Review it before you use it: the guest may have used more than it should.",
            "A rule for a name allows only TLS for that name at port 443, and only HTTP for it at port 80;",
            'add check = "none" to a rule whose server has another protocol there.',
        ]
        if self._missing:
            lines.append(f"It is incomplete: {self._missing} flows or questions were too many to be learnt.")
        return lines

    def _left_out(self) -> Iterator[list[str]]:
        """Comments on what is no part of the policy: each a heading, and lines."""
        items = sorted(self._uses.items(), key=lambda item: (_order(item[0][0]), item[0][1:]))
        reached = {target.name for (target, _, _), use in items if use.reached and target.name is not None}
        suffixes = [f"{one}: {', '.join(names)}" for one, names in common_suffixes(filter(_is_name, reached))]
        yield _listed(
            "Names under one suffix. A pattern can replace them, if every name under it is trusted.", suffixes
        )
        failed = [
            f"{_text(key)} ({errno_name(use.errno) or 'no answer'})"
            for key, use in items
            if use.failed and not use.reached
        ]
        yield _listed("Tried, but the host could not connect, so there is no rule.", failed)
        tried = {target.name for (target, _, _), _ in items}
        asked = {*self._asked, *self._refused_names}
        unused = [
            name
            for name, types in sorted(self._asked.items())
            if name not in tried and types <= _FOLLOWED and _is_name(name) and not self._is_of_search(name, asked)
        ]
        yield _listed(
            "Looked up, but nothing connected to it, so there is no rule.",
            unused,
            f'A rule for the question alone has protocol = "ping" and at = "{addresses.format(_NOWHERE.address)}".',
        )
        refused = [_text(key) for key, use in items if use.refused]
        refused += [
            f"the question for {cut(name)}"
            for name in sorted(self._refused_names)
            if not self._is_of_search(name, asked)
        ]
        yield _listed("Refused in this run, and still refused by this policy.", refused)
        strange = sorted({str(cut(name)) for name in {*reached, *self._asked} if not _is_name(name)})
        yield _listed("Names that no rule can have, because they are no host names.", strange)


def _from_outside(word: str, port: int, uses: dict[bytes, _Use]) -> _Draft:
    rule = Rule(
        action=Action.ALLOW,
        inbound=True,
        protocols=(word,),
        destinations=_exactly({reading for address in uses for reading in _readings(address)}),
        ports=(port,) if word != "ping" else (),
    )
    return _Draft(rule, (_note(uses.values()), "Opened from outside, through a forwarded port."))


def _exactly(of: Iterable[bytes]) -> list[Prefix]:
    """The prefixes of single addresses."""
    return [Prefix(address, 8 * len(address)) for address in sorted(of)]


def _grouped(used: dict[str, dict[int, _Use]]) -> Iterator[tuple[tuple[str, ...], set[int]]]:
    """Protocols with the same ports, and those ports."""
    by_ports: dict[frozenset[int], list[str]] = defaultdict(list)
    for word in ("tcp", "udp", "ping"):
        if word in used:
            by_ports[frozenset(used[word]) - {0}].append(word)
    for ports, words in by_ports.items():
        yield tuple(words), set(ports)


def _only_questions(used: dict[str, dict[int, _Use]]) -> bool:
    """Whether a name server was used for nothing but questions. If rules have names, our own resolver answers them."""
    return all(set(used[word]) == {dns.PORT} for word in used)


def _is_name(name: str) -> bool:
    """Whether a rule can have a name."""
    try:
        return canonical(name) == name == pattern(name)
    except ValueError:
        return False


def _order(target: _Target) -> tuple[object, ...]:
    """Names by their labels from the last one, so that names under one suffix are neighbours; then addresses."""
    labels = tuple(reversed((target.name or "").split(".")))
    return target.inbound, target.name is None, labels, len(target.address), target.address


def _text(key: tuple[_Target, str, int]) -> str:
    target, word, port = key
    where = str(target)
    if target.inbound:
        return f"in {word} {where} port {port}"
    return f"{word} {f'[{where}]' if ':' in where else where}" + (f":{port}" if port else "")


def _note(uses: Iterable[_Use]) -> str:
    """The flows and bytes of a rule."""
    uses = list(uses)
    flows = sum(use.opened - use.failed for use in uses)
    sent, received = sum(use.sent for use in uses), sum(use.received for use in uses)
    return f"{flows} flow{'' if flows == 1 else 's'}, {amount(sent)} sent, {amount(received)} received."


def _listed(heading: str, lines: list[str], *more_heading: str) -> list[str]:
    more = len(lines) - _MOST_LINES
    shown = [f"    {line}" for line in lines[:_MOST_LINES]]
    return [heading, *more_heading, *shown, *([f"    and {more} more"] if more > 0 else [])] if lines else []


def _readings(address: bytes) -> set[bytes]:
    """An address, and the IPv4 addresses that it may carry."""
    return {address, *(carried(address) if len(address) == 16 else ())}
