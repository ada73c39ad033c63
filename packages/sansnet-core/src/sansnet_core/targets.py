"""Where a new flow of the guest leads: the host's endpoints, and whether the rules allow them.

Theory of operation. A destination in the guest's packets is an address of the host's side, translated by the address
map, or stands for names (`Bindings`). A name's addresses may have to be asked for first. Then each of them is judged on
its own, and those that are closed are left out: so the address that is connected to is one that was judged.

TCP, UDP and ping ask here, and nowhere else, for each new flow and when the rules have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH
from typing import Final, NamedTuple, Protocol

from sansnet_core.address_map import AddressMap, is_destination
from sansnet_core.addresses import Endpoint, is_loopback, is_multicast
from sansnet_core.config import NetworkConfig
from sansnet_core.errors import Reason
from sansnet_core.policy.evaluator import Evaluator, Judgement
from sansnet_core.policy.policy import ProxyConfig, ProxyKind
from sansnet_core.policy.rule import Action, Check
from sansnet_core.wire import dns
from sansnet_core.wire.ip import TCP, UDP

__all__ = ["Bindings", "NetworkState", "Target", "Targets"]


class Bindings(Protocol):
    """The addresses in the guest's packets that stand for names."""

    def is_leased(self, address: bytes) -> bool:
        """Whether an address can only stand for a name: it is in the prefixes of `NameMode.OWN`."""

    def names(self, address: bytes) -> Sequence[str]:
        """The names, in canonical form, that an address stands for now."""

    def hosts(self, name: str) -> Sequence[bytes] | None:
        """The addresses of a name, the preferred ones first; None if they must be resolved first."""

    def resolve(self, name: str, done: Callable[[], None]) -> None:
        """Resolve a name; `done` is called once its `hosts` are known, at the latest after a time limit."""

    def forget(self, name: str, done: Callable[[], None]) -> None:
        """Do not call the `done` of a call of `resolve`: nothing waits for it any more."""

    def pin(self, address: bytes) -> None:
        """A flow to an address has opened: the address keeps its names."""

    def unpin(self, address: bytes) -> None:
        """That flow has ended."""


class NetworkState(Protocol):
    """The parts of a network's `Context` that say where flows lead."""

    address_map: AddressMap
    bindings: Bindings | None
    config: NetworkConfig
    policy: Evaluator


class Target(NamedTuple):
    """Where a flow leads.

    Attributes:
        judgement: the judgement of the rules.
        hosts: the host's endpoints, in the order in which they are tried; empty if the flow may not open, if the driver
            must be asked first, or if a proxy gets the name (`via`).
        name: the host name that the destination stands for.
        reason: the reason if it may not open; None also if the driver must be asked first.
        errno: the errno of a refusal.
        proxy: the proxy that the flow goes through; then it has no `hosts`.
    """

    judgement: Judgement
    hosts: tuple[Endpoint, ...] = ()
    name: str | None = None
    reason: Reason | None = None
    errno: int = EACCES
    proxy: ProxyConfig | None = None

    @property
    def check(self) -> Check:
        """The bytes that must name an allowed host."""
        return self.judgement.check

    @property
    def via(self) -> str | None:
        """The name of the proxy that the flow goes through."""
        return self.judgement.rule.via if self.judgement.rule else None

    @property
    def opens(self) -> bool:
        """Whether the flow may open now."""
        return bool(self.hosts) or (self.reason is None and self.judgement.allowed)


_CLOSED: Final = Judgement(Action.REFUSE)
_OPEN: Final = (Action.ALLOW, Action.ASK)
"""The actions that leave an open flow open; the driver was asked about it, or it opened before it had to be."""
_MAX_KNOWN: Final = 256
"""Targets that are kept; the guest chooses the destinations."""


class Targets:
    """Finds the targets of one network.

    Args:
        context: of the network.
    """

    __slots__ = ("_context", "_known", "_policy")

    def __init__(self, context: NetworkState) -> None:
        self._context = context
        self._known: dict[tuple[int, Endpoint, bool, bool], Target | None] = {}
        """The targets of the latest destinations, as long as they follow from the configuration alone."""
        self._policy: Evaluator | None = None
        """The rules that they follow from: another configuration has others."""

    def find(self, protocol: int, remote: Endpoint, *, groups: bool = False, allowed: bool = False) -> Target | None:
        """The target of a flow.

        Args:
            protocol: IP protocol number: TCP, UDP, ICMP or ICMPv6.
            remote: the destination in the guest's packets; for ping, the port has no meaning.
            groups: whether multicast destinations are possible.
            allowed: the driver has allowed the flow: `Action.ASK` counts as `ALLOW`.

        Returns:
            None if the name that it stands for must be resolved first; see `wait`.
        """
        context = self._context
        if context.bindings is not None:  # the names of a destination come and go
            return self._find_now(protocol, remote, groups=groups, allowed=allowed)
        if self._policy is not context.policy:
            self._policy = context.policy
            self._known.clear()
        key = (protocol, remote, groups, allowed)
        target = self._known.get(key)
        if target is None:
            target = self._find_now(protocol, remote, groups=groups, allowed=allowed)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = target
        return target

    def _find_now(self, protocol: int, remote: Endpoint, *, groups: bool, allowed: bool) -> Target | None:
        target = self._find(protocol, remote, groups=groups, allowed=allowed)
        if target is None or target.via is None or not target.opens:
            return target
        return self._through_proxy(protocol, remote, target)

    def _through_proxy(self, protocol: int, remote: Endpoint, target: Target) -> Target:
        """The target of a flow that may open, and goes through a proxy: it has no host's endpoints.

        A proxy knows neither this host's loopback nor the other aliases of the address map. So a flow to one of them is
        refused, rather than sent to another host.
        """
        proxy = next((one for one in self._context.config.proxies if one.name == target.via), None)
        aliased = bool(target.hosts) and target.name is None and target.hosts[0] != remote
        carried = protocol == TCP or (protocol == UDP and proxy is not None and proxy.kind is ProxyKind.SOCKS5)
        if proxy is None or aliased or not carried or is_multicast(remote.address):
            return Target(target.judgement, (), target.name, Reason.PROXY)
        return Target(target.judgement._replace(action=Action.ALLOW), (), target.name, proxy=proxy)

    def _find(self, protocol: int, remote: Endpoint, *, groups: bool, allowed: bool) -> Target | None:
        context = self._context
        bindings = context.bindings
        names: Sequence[str] = ()
        if bindings is not None:
            names = bindings.names(remote.address)
            if bindings.is_leased(remote.address):
                if not names:
                    return Target(_CLOSED, reason=Reason.OWN_ADDRESS, errno=ECONNREFUSED)
                return self._find_leased(bindings, protocol, remote, names[0], allowed=allowed)
        host = context.address_map.to_host(remote.address, remote.port, groups=groups)
        if host is None:
            reason = context.address_map.refusal(remote.address)
            return Target(_CLOSED, reason=reason, errno=ECONNREFUSED if reason is Reason.OWN_ADDRESS else EACCES)
        judge = context.policy.judge
        asked = refused = None
        for name in names:
            judgement = judge(protocol, remote.address, remote.port, name=name, host=host.address)
            if judgement.allowed:
                return _target(judgement, host, name, allowed=allowed)
            if judgement.action is Action.ASK:
                asked = asked or _target(judgement, host, name, allowed=allowed)
            elif judgement.rule is not None and judgement.rule.names:
                refused = refused or _target(judgement, host, name, allowed=allowed)
        judgement = judge(protocol, remote.address, remote.port, host=host.address)
        if asked is not None and (not judgement.allowed or (asked.judgement.rule and asked.judgement.rule.names)):
            return asked
        return refused or _target(judgement, host, None, allowed=allowed)

    def _find_leased(
        self, bindings: Bindings, protocol: int, remote: Endpoint, name: str, *, allowed: bool
    ) -> Target | None:
        """The target of a flow to an address of `NameMode.OWN`, which leads to the addresses of its name."""
        policy = self._context.policy
        first = policy.judge(protocol, None, remote.port, name=name)
        if first.action is Action.ASK and not allowed:
            return Target(first, (), name)
        rule = first.rule
        if rule is not None and first.action in _OPEN:
            if rule.via is not None:
                return Target(first._replace(action=Action.ALLOW), (), name)
            if rule.to is not None:
                return Target(first, (rule.to,), name)
        hosts = bindings.hosts(name)
        if hosts is None:
            # A rule with addresses may match once they are known. Names for proxies are not asked for upstream
            question = policy.question(name, dns.A)
            if first.action in _OPEN or (question.action in _OPEN and not (question.rule and question.rule.via)):
                return None
            return Target(first, (), name, Reason.REFUSED, first.errno)
        chosen: dict[Action, list[bytes]] = {Action.ALLOW: [], Action.ASK: []}
        judgements: dict[Action, Judgement] = {}
        for host in hosts:
            judgement = self._judge_resolved(protocol, host, remote.port, name)
            judgements.setdefault(judgement.action, judgement)
            if judgement.action in chosen:
                chosen[judgement.action].append(host)
        for action in _OPEN:
            if chosen[action]:
                if action is Action.ASK and not allowed:
                    return Target(judgements[action], (), name)
                found = [*chosen[Action.ALLOW], *(chosen[Action.ASK] if allowed else ())]
                found.sort(key=hosts.index)
                return Target(judgements[action], tuple(Endpoint._make((host, remote.port)) for host in found), name)
        if first.action not in _OPEN:
            return Target(first, (), name, Reason.REFUSED, first.errno)
        if not judgements:
            return Target(first, (), name, Reason.NAME_UNRESOLVED, EHOSTUNREACH)
        refused = next(iter(judgements.values()))
        return Target(refused, (), name, Reason.NAME_UNRESOLVED, refused.errno)

    def _judge_resolved(self, protocol: int, host: bytes, port: int, name: str) -> Judgement:
        """Judge an address that a name was resolved to.

        The host's loopback is closed unless a rule names it, and addresses that are no unicast destination always are,
        as they are for packets of the guest.
        """
        judge = self._context.policy.judge
        judgement = judge(protocol, host, port, name=name)
        if judgement.action not in _OPEN or is_destination(host):
            return judgement
        if is_loopback(host) and (_has_addresses(judgement) or _has_addresses(judge(protocol, host, port))):
            return judgement
        return _CLOSED

    def name(self, remote: Endpoint) -> str | None:
        """The name that a destination stands for, and that `wait` resolves; None if there is none."""
        bindings = self._context.bindings
        return next(iter(bindings.names(remote.address)), None) if bindings is not None else None

    def wait(self, remote: Endpoint, done: Callable[[], None]) -> None:
        """Resolve the name that a destination stands for; `done` is called when `find` has a target."""
        bindings, name = self._context.bindings, self.name(remote)
        if bindings is not None and name is not None:
            bindings.resolve(name, done)

    def pin(self, remote: Endpoint) -> None:
        """A flow to a destination that stands for a name begins; see `Bindings.pin`. Call `unpin` at its end."""
        if self._context.bindings is not None:
            self._context.bindings.pin(remote.address)

    def unpin(self, remote: Endpoint, done: Callable[[], None] | None = None) -> None:
        """A flow that has called `pin` has ended, and with it its wait for `done`, if it has called `wait`."""
        bindings = self._context.bindings
        if bindings is not None:
            if done is not None:
                for name in bindings.names(remote.address):
                    bindings.forget(name, done)
            bindings.unpin(remote.address)

    def is_allowed(
        self, protocol: int, remote: Endpoint, host: Endpoint | None, name: str | None, *, via: str | None = None
    ) -> bool:
        """Whether the present rules allow an open flow of the guest.

        Args:
            protocol: IP protocol number.
            remote: the destination in the guest's packets.
            host: the host's endpoint that it was sent to; None if the driver or a proxy has chosen it.
            name: the host name that it stands for.
            via: the proxy that it goes through.
        """
        context = self._context
        leased = context.bindings is not None and context.bindings.is_leased(remote.address)
        if (leased and name is None) or context.address_map.is_resolver(remote.address, remote.port):
            return False
        judge = context.policy.judge
        if leased and name is not None:
            judged = judge(protocol, None, remote.port, name=name)
            redirected = judged.rule is not None and judged.rule.to is not None
            if host is not None and not redirected:
                judged = self._judge_resolved(protocol, host.address, remote.port, name)
        else:
            leads = context.address_map.to_host(remote.address, remote.port, groups=True)
            address = (leads or host or remote).address
            judged = judge(protocol, remote.address, remote.port, name=name, host=address)
        if judged.action not in _OPEN:
            return False
        rule = judged.rule
        if rule is None or judged.action is Action.ASK:
            return True
        return rule.via == via and (host is None or rule.to in (None, host))


def _target(judgement: Judgement, host: Endpoint, name: str | None, *, allowed: bool) -> Target:
    action, rule = judgement.action, judgement.rule
    if action is Action.ALLOW or (allowed and action is Action.ASK):
        return Target(judgement, ((rule.to if rule is not None else None) or host,), name)
    return Target(judgement, (), name, None if action is Action.ASK else Reason.REFUSED, judgement.errno)


def _has_addresses(judgement: Judgement) -> bool:
    """Whether a rule that names addresses leaves a flow open."""
    rule = judgement.rule
    return judgement.action in _OPEN and rule is not None and bool(rule.destinations or rule.groups)
