"""The judgement of the rules about one connection, and the verdict of the driver."""

from __future__ import annotations

from collections.abc import Callable

from sansnet_core.addresses import Endpoint
from sansnet_core.mypyc import mypyc_attr
from sansnet_core.targets import Target, Targets

__all__ = ["Permission"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Permission:
    """Whether a connection may open, and where it leads.

    Attributes:
        target: the target by the rules; None if they were not asked, as about services, or if a name is not resolved.
        asked: the driver is asked for a verdict.
        allowed: the driver has allowed it.
        elsewhere: the driver has chosen another endpoint of the host for it.
    """

    __slots__ = ("_name", "_pinned", "_waiting", "allowed", "asked", "elsewhere", "target")

    def __init__(self) -> None:
        self.target: Target | None = None
        self.asked = self.allowed = self.elsewhere = False
        self._name: str | None = None
        """As long as there is no target."""
        self._pinned: tuple[Targets, Endpoint] | None = None
        self._waiting: Callable[[], None] | None = None

    @property
    def name(self) -> str | None:
        """The host name that the destination stands for."""
        return self.target.name if self.target else self._name

    @property
    def rule(self) -> str | None:
        """The rule that decided, for notices."""
        return self.target.judgement.text if self.target else None

    def ask(self, target: Target) -> None:
        """The driver is asked for a verdict."""
        self.asked, self.target = True, target

    def verdict_came(self, *, allowed: bool) -> None:
        """The driver has decided, or need not any more."""
        self.asked, self.allowed = False, allowed

    def redirect(self) -> None:
        """The driver has chosen another endpoint of the host."""
        self.elsewhere = True

    @property
    def pinned(self) -> bool:
        """Whether the names of the destination are kept."""
        return self._pinned is not None

    def decide(self, target: Target | None) -> None:
        """It leads to a target, or is refused; None for the last one."""
        self.target = target or self.target

    @property
    def is_settled(self) -> bool:
        """Whether the judgement of the rules is all that there is, so that connections with the same one can share it.

        The connection has opened to one endpoint, and nothing inspects it.
        """
        if self.asked or self.allowed or self.elsewhere or self._pinned is not None:
            return False
        target = self.target
        return target is not None and target.name is None and target.proxy is None

    def settle(self, target: Target) -> None:
        """Forget all of the target but the judgement."""
        self.target = Target(target.judgement)

    def note(self, name: str | None) -> None:
        """The guest's first bytes named a host that is not allowed, on a connection without a name."""
        if self.target is not None and self.target.name is None:
            self.target = self.target._replace(name=name)

    def pin(self, targets: Targets, remote: Endpoint) -> None:
        """Keep the names of the destination until the end of the connection."""
        self._pinned = targets, remote
        self._name = targets.name(remote)
        targets.pin(remote)

    def wait(self, done: Callable[[], None]) -> None:
        """Have `done` called once the names of the destination, which are kept, are resolved."""
        assert self._pinned is not None
        targets, remote = self._pinned
        self._waiting = done
        targets.wait(remote, done)

    def unpin(self) -> None:
        """The connection is over."""
        if self._pinned is not None:
            targets, remote = self._pinned
            self._pinned = None
            targets.unpin(remote, self._waiting)
            self._waiting = None
