"""The commands of the control socket about the policy, the flows that wait for a verdict, and the audit."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from sansnet_core import Action, Allow, Refuse
from sansnet_core.records import replace
from sansnet_trio.control.requests import RequestError, endpoint, number

if TYPE_CHECKING:
    from sansnet_core import Rule
    from sansnet_core.policy import Policy
    from sansnet_trio import decisions
    from sansnet_trio.control.server import Answer, Request
    from sansnet_trio.decisions import PendingFlow

__all__ = ["Policed", "PolicyCommands"]

DEFAULT_ENTRIES: Final = 1000
"""Rules or flows in one answer if the request gives no number."""
MAX_ENTRIES: Final = 10_000
"""Rules or flows in one answer, at most."""

_CHANGES: Final = ("add", "remove", "replace")


class Policed(Protocol):
    """A network whose policy can change, such as a `GuestNetwork`."""

    @property
    def policy(self) -> Policy:
        """The present policy."""

    def set_policy(self, policy: Policy, *, keep_flows: bool = False) -> None:
        """Replace it; if that fails with a `SansnetError`, nothing has changed."""

    def pending(self) -> list[PendingFlow]:
        """The flows that wait for a verdict."""

    def answer(self, id: int, verdict: decisions.Verdict, rule: Rule | None = None) -> None:
        """Decide about such a flow, and put a rule before all others."""


class PolicyCommands:
    """Answers requests about a policy; see `ControlCommands`."""

    def __init__(self) -> None:
        self._policed: Policed | None = None
        self._complete: Callable[[Policy], Policy] = lambda policy: policy
        self._audit: Callable[[], Answer] | None = None

    def set_policed(self, policed: Policed, complete: Callable[[Policy], Policy] | None = None) -> None:
        """Set the network whose policy can change; until then, all commands fail.

        Args:
            policed: the network.
            complete: makes the policy of the network from that of a file.
        """
        self._policed = policed
        if complete is not None:
            self._complete = complete

    def set_audit(self, summary: Callable[[], Answer] | None) -> None:
        """Set what makes the answer to `audit`: JSON values of a bounded size; None without a guest."""
        self._audit = summary

    def _ready(self) -> Policed:
        if self._policed is None:
            raise RequestError("the guest is not ready yet; try again")
        return self._policed

    def policy(self, request: Request) -> Answer:
        """The policy, after the change that the request asks for."""
        policed, limit = self._ready(), number(request, "most", DEFAULT_ENTRIES, MAX_ENTRIES)
        asked = [name for name in _CHANGES if name in request]
        if len(asked) > 1:
            raise RequestError(f"{' and '.join(asked)} exclude each other; ask for one change at a time")
        if asked:
            made = self._changed(policed.policy, asked[0], request)
            policed.set_policy(made, keep_flows=_flag(request, "keep_flows"))
        present = policed.policy
        return {
            "rules": [str(rule) for rule in present.rules[:limit]],
            "total": len(present.rules),
            "default": (present.default_action or Action.ALLOW).value,
            "names": present.names.value if present.names else None,
            "proxies": [proxy.name for proxy in present.proxies],
        }

    def _changed(self, policy: Policy, change: str, request: Request) -> Policy:
        """The policy after a change.

        Raises:
            RequestError: the change is not possible.
            PolicyError: the new policy is wrong.
        """
        asked = request[change]
        if change == "replace":
            return self._complete(_loaded(asked, request.get("credentials", {})))
        if not isinstance(asked, list) or not asked or not all(isinstance(one, str) for one in asked):
            raise RequestError(f'{change} must be a non-empty list of rules, such as ["allow tcp example.org:443"]')
        if change == "add":
            return replace(policy, rules=(*chain.from_iterable(map(_parsed, asked)), *policy.rules))
        removed: set[int] = set()
        for one in asked:
            removed |= _places(policy.rules, one)
        return replace(policy, rules=tuple(rule for place, rule in enumerate(policy.rules) if place not in removed))

    def pending(self, request: Request) -> Answer:
        """The flows that wait for a verdict."""
        limit = number(request, "most", DEFAULT_ENTRIES, MAX_ENTRIES)
        flows, now = self._ready().pending(), trio.current_time()
        return {"flows": [_pending(one, now) for one in flows[:limit]], "total": len(flows)}

    def allow(self, request: Request) -> Answer:
        """Allow a flow that waits."""
        return self._decide(request, Action.ALLOW, Allow())

    def refuse(self, request: Request) -> Answer:
        """Refuse a flow that waits."""
        return self._decide(request, Action.REFUSE, Refuse())

    def _decide(self, request: Request, action: Action, verdict: decisions.Verdict) -> Answer:
        from sansnet_trio.policies import rule_for

        policed, id = self._ready(), request.get("id")
        if type(id) is not int:
            raise RequestError("id must be the number of a flow that waits; `pending` lists them")
        rule = None
        if _flag(request, "always"):
            found = next((one.flow for one in policed.pending() if one.id == id), None)
            rule = None if found is None else rule_for(found, action)
        policed.answer(id, verdict, rule)
        return {"id": id, "rule": None if rule is None else str(rule)}

    def audit(self, request: Request) -> Answer:
        """The summary of the audit until now."""
        if self._audit is None:
            raise RequestError("there is no guest now, so there is no audit of one")
        return self._audit()


def _loaded(text: Any, credentials: Any) -> Policy:
    """A policy from the text of its file, and of the files that it names."""
    from sansnet_core.policy import load_policy

    if not isinstance(text, str):
        raise RequestError("replace must be the text of a policy file")
    if not isinstance(credentials, dict):
        raise RequestError('credentials must be an object of files, such as {"FILE": "USER:PASSWORD"}')

    def read(name: str) -> str:
        found = credentials.get(name)
        if not isinstance(found, str):
            raise FileNotFoundError(errno.ENOENT, "the request does not have it", name)
        return found

    return load_policy(text, read=read).policy


def _parsed(text: str) -> tuple[Rule, ...]:
    from sansnet_core.policy import parse_rules

    return parse_rules(text)


def _places(rules: Sequence[Rule], asked: str) -> set[int]:
    """The places of the rules with this label, or with this text; those of a text need no label."""
    if found := {place for place, rule in enumerate(rules) if rule.label is not None and rule.label == asked}:
        return found
    present = [replace(rule, label=None) for rule in rules]
    from sansnet_core.policy import PolicyError

    parsed: tuple[Rule, ...] = ()
    try:
        parsed = _parsed(asked)
    except PolicyError:
        if asked.split()[1:]:  # one word is meant as a label
            raise
    if not parsed:
        raise RequestError(f"there is no rule {asked!r:.200}; `policy` lists the rules")
    for wanted in (replace(rule, label=None) for rule in parsed):
        places = {place for place, rule in enumerate(present) if rule == wanted}
        if not places:
            raise RequestError(f"there is no rule {asked!r:.200}; `policy` lists the rules")
        found |= places
    return found


def _flag(request: Request, name: str) -> bool:
    value = request.get(name, False)
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false")
    return value


def _pending(waiting: PendingFlow, now: float) -> Answer:
    from sansnet_trio.policies import rule_for

    flow = waiting.flow
    return {
        "id": waiting.id,
        "protocol": flow.protocol,
        "inbound": flow.inbound,
        "guest": endpoint(flow.guest),
        "destination": endpoint(flow.destination),
        "name": flow.name,
        "waited": round(max(0.0, now - waiting.since), 1),
        "left": round(max(0.0, waiting.until - now), 1),
        "rule": str(rule_for(flow, Action.ALLOW)),
    }
