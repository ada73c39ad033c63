"""Where a new flow of the guest leads: the host's endpoints, and whether the rules allow them.

Theory of operation. A destination in the guest's packets is an address of the host's side, translated by the address
map, or stands for names (`Bindings`). A name's addresses may have to be asked for first. Then each of them is judged on
its own, and those that are closed are left out: so the address that is connected to is one that was judged.

TCP, UDP and ping ask here, and nowhere else, for each new flow and when the rules have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sansnet_core.addresses import Endpoint
from sansnet_core.errors import Reason
from sansnet_core.policy.evaluator import Judgement
from sansnet_core.policy.rule import Action, Check

if TYPE_CHECKING:
    from sansnet_core.context import Context

__all__ = ["Bindings", "Target", "Targets"]


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

    def pin(self, address: bytes) -> None:
        """A flow to an address has opened: the address keeps its names."""

    def unpin(self, address: bytes) -> None:
        """That flow has ended."""


class Target(NamedTuple):
    """Where a flow leads.

    Attributes:
        judgement: of the rules.
        hosts: the host's endpoints, in the order in which they are tried; empty if the flow may not open, if the driver
            must be asked first, or if it goes through a proxy.
        name: the host name that the destination stands for.
        reason: why it may not open.
        errno: the errno of a refusal.
    """

    judgement: Judgement
    hosts: tuple[Endpoint, ...] = ()
    name: str | None = None
    reason: Reason | None = None
    errno: int = EACCES

    @property
    def check(self) -> Check:
        """The bytes that must name an allowed host."""
        return self.judgement.check


_CLOSED = Judgement(Action.REFUSE)


class Targets:
    """Finds the targets of one network.

    Args:
        context: of the network.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

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
        bindings = context.bindings
        if bindings is not None and bindings.is_leased(remote.address):
            names = bindings.names(remote.address)
            if not names:
                return Target(_CLOSED, reason=Reason.OWN_ADDRESS, errno=ECONNREFUSED)
            return self._find_named(bindings, protocol, remote, names[0], allowed=allowed)
        host = context.address_map.to_host(remote.address, remote.port, groups=groups)
        if host is None:
            reason = context.address_map.refusal(remote.address)
            return Target(_CLOSED, reason=reason, errno=ECONNREFUSED if reason is Reason.OWN_ADDRESS else EACCES)
        judge = context.policy.judge
        best = None
        for name in bindings.names(remote.address) if bindings is not None else ():
            judgement = judge(protocol, remote.address, remote.port, name=name, host=host.address)
            if judgement.allowed or (judgement.action is Action.ASK and best is None):
                best = _opened(judgement, host, name, allowed=allowed)
                if judgement.allowed:
                    return best
        judgement = judge(protocol, remote.address, remote.port, host=host.address)
        if best is None or judgement.allowed:
            return _opened(judgement, host, None, allowed=allowed)
        return best

    def _find_named(
        self, bindings: Bindings, protocol: int, remote: Endpoint, name: str, *, allowed: bool
    ) -> Target | None:
        judge = self._context.policy.judge
        first = judge(protocol, None, remote.port, name=name)
        if first.rule is not None and first.rule.via is not None:
            return Target(first, (), name)
        if first.action is Action.ASK and not allowed:
            return Target(first, (), name)
        hosts = bindings.hosts(name)
        if hosts is None:
            return None
        judged = [(judge(protocol, host, remote.port, name=name), host) for host in hosts]
        if not judged:
            return Target(_CLOSED, (), name, Reason.NAME_UNRESOLVED, EHOSTUNREACH)
        for wanted in (Action.ALLOW, Action.ASK):
            chosen = [(judgement, host) for judgement, host in judged if judgement.action is wanted]
            if chosen and (wanted is Action.ALLOW or allowed):
                return Target(chosen[0][0], tuple(Endpoint._make((host, remote.port)) for _, host in chosen), name)
            if chosen:
                return Target(chosen[0][0], (), name)
        return Target(judged[0][0], (), name, Reason.REFUSED, judged[0][0].errno)

    def wait(self, remote: Endpoint, done: Callable[[], None]) -> None:
        """Resolve the name that a destination stands for; `done` is called when `find` has a target."""
        bindings = self._context.bindings
        names = bindings.names(remote.address) if bindings is not None else ()
        if bindings is not None and names:
            bindings.resolve(names[0], done)

    def pin(self, remote: Endpoint) -> None:
        """A flow to a destination that stands for a name begins; see `Bindings.pin`. Call `unpin` at its end."""
        if self._context.bindings is not None:
            self._context.bindings.pin(remote.address)

    def unpin(self, remote: Endpoint) -> None:
        """A flow that has called `pin` has ended."""
        if self._context.bindings is not None:
            self._context.bindings.unpin(remote.address)

    def is_allowed(self, protocol: int, remote: Endpoint, host: Endpoint, name: str | None) -> bool:
        """Whether the present rules allow an open flow of the guest to a host's endpoint."""
        given = host.address if name is not None and host.address != remote.address else remote.address
        judged = self._context.policy.judge(protocol, given, remote.port, name=name, host=host.address)
        return judged.action in (Action.ALLOW, Action.ASK)


def _opened(judgement: Judgement, host: Endpoint, name: str | None, *, allowed: bool) -> Target:
    if judgement.allowed or (allowed and judgement.action is Action.ASK):
        return Target(judgement, (host,), name)
    reason = None if judgement.action is Action.ASK else Reason.REFUSED
    return Target(judgement, (), name, reason, judgement.errno)
