"""Which addresses in the guest's packets stand for which names.

Theory of operation. With `NameMode.OWN`, an address is leased to one name. With `NameMode.REAL`, and for the names of
the configuration, an address stands for all names that an answer gave it, as long as the answer is valid, for a while
longer, and while a flow to it is open. A name's addresses are looked up when the guest asks for it, or opens a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from math import inf
from typing import Final

from sansnet_core.config import ResolverConfig
from sansnet_core.context import Context
from sansnet_core.policy import NameMode
from sansnet_core.resolver.answers import Answer
from sansnet_core.resolver.leases import Lease, Leases
from sansnet_core.resolver.lookups import Lookups
from sansnet_core.wire import dns_message as dns
from sansnet_core.wire import dns_names

__all__ = ["NameBindings"]

RESOLUTION_DELAY: Final = 0.25
"""Seconds to wait for the addresses of the other family once those of one are known (RFC 8305, 3, which has less, since
there, addresses that come later are tried too)."""

MAX_NAMES: Final = 64
"""Most names that one address stands for by answers: each new flow to it may be judged by all of them."""

_TYPES: Final = {4: dns.A, 6: dns.AAAA}


class _Resolution:
    """The questions for the addresses of one name, while they are under way."""

    __slots__ = ("_bindings", "answers", "deadline", "name", "queued", "ready", "ticket", "types", "waiting")

    def __init__(self, bindings: NameBindings, name: str, types: Sequence[int]) -> None:
        self._bindings = bindings
        self.name = name
        self.types = types
        self.answers: dict[int, Answer] = {}
        self.waiting: dict[Callable[[], None], None] = {}
        self.ready = False
        self.deadline = self.queued = inf
        self.ticket = 0

    def answered(self, type_: int, answer: Answer) -> None:
        """The answer to one of the questions."""
        self.answers[type_] = answer
        context = self._bindings.context
        if len(self.answers) == len(self.types):
            context.timers.forget(self)
            self.expire()
            self._bindings.resolved(self)
        elif answer.addresses and not self.ready:
            context.timers.arm(self, context.now + RESOLUTION_DELAY)

    def expire(self) -> None:
        """The addresses that are known have to do."""
        self.ready = True
        waiting, self.waiting = self.waiting, {}
        for done in waiting:
            done()


class NameBindings:
    """See `targets.Bindings`.

    Args:
        context: of the network.
        lookups: finds the addresses of names.
        config: of the resolver.
    """

    __slots__ = (
        "_config",
        "_hosts",
        "_learnt",
        "_lookups",
        "_names",
        "_pins",
        "_resolutions",
        "context",
        "leases",
    )

    def __init__(self, context: Context, lookups: Lookups, config: ResolverConfig) -> None:
        self.context = context
        self._lookups = lookups
        self.leases = Leases(config.prefix4, config.prefix6, context.config.limits.names)
        self._resolutions: dict[str, _Resolution] = {}
        self._learnt: dict[tuple[bytes, str], float] = {}
        """Address and name -> when it ends; the least recently used first."""
        self._names: dict[bytes, dict[str, None]] = {}
        """Address -> its names in `_learnt`."""
        self._pins: dict[bytes, int] = {}
        self.configure(config)

    def configure(self, config: ResolverConfig) -> None:
        """Follow the context's new configuration."""
        self._config = config
        self._hosts: dict[bytes, list[str]] = {}
        for name, addresses in self.context.config.hosts:
            for address in addresses:
                self._hosts.setdefault(address, []).append(dns_names.text(dns_names.emit(name)))

    def __len__(self) -> int:
        return len(self._learnt)

    def is_leased(self, address: bytes) -> bool:
        """Whether an address can only stand for a name: it is in the prefixes of `NameMode.OWN`."""
        own = self._config.names is NameMode.OWN or bool(self.leases)
        return own and self.leases.contains(address)

    def names(self, address: bytes) -> Sequence[str]:
        """The names, in canonical form, that an address stands for now, the one learnt last first."""
        if self.is_leased(address):
            lease = self.leases.find(address)
            return () if lease is None else (lease.name,)
        names = self._hosts.get(address, [])
        if address in self._names:
            now = self.context.now
            pinned = address in self._pins
            learnt = [name for name in reversed(self._names[address]) if pinned or self._learnt[address, name] > now]
            return [*names, *learnt]
        return names

    def hosts(self, name: str) -> Sequence[bytes] | None:
        """The addresses of a name, the preferred ones first; None if they must be resolved first."""
        wire = dns_names.from_text(name)
        resolution = self._resolutions.get(name)
        answers = dict(resolution.answers) if resolution is not None else {}
        for type_ in self._types():
            if type_ not in answers and (found := self._lookups.known(wire, type_)):
                answers[type_] = found.answer
            if type_ not in answers and not (resolution is not None and resolution.ready):
                return None
        return [address for type_ in self._types() if type_ in answers for address in answers[type_].addresses]

    def answers(self, name: str) -> list[Answer]:
        """The answers that `hosts` would use."""
        resolution = self._resolutions[name]
        return [resolution.answers[type_] for type_ in resolution.types if type_ in resolution.answers]

    def _types(self) -> list[int]:
        return [_TYPES[family] for family in self._config.families]

    def resolve(self, name: str, done: Callable[[], None]) -> None:
        """Resolve a name; `done` is called once its `hosts` are known, at the latest after a time limit."""
        resolution = self._resolutions.get(name)
        if resolution is not None and not resolution.ready:
            resolution.waiting[done] = None
            return
        if resolution is not None:
            done()
            return
        resolution = self._resolutions[name] = _Resolution(self, name, self._types())
        resolution.waiting[done] = None
        wire = dns_names.from_text(name)
        for type_ in resolution.types:
            self._lookups.look_up(wire, type_, partial(resolution.answered, type_))

    def forget(self, name: str, done: Callable[[], None]) -> None:
        """Do not call the `done` of a call of `resolve`: nothing waits for it any more."""
        if name in self._resolutions:
            self._resolutions[name].waiting.pop(done, None)

    def resolved(self, resolution: _Resolution) -> None:
        """All questions of a resolution are answered."""
        del self._resolutions[resolution.name]

    def lease(self, name: str) -> Lease | None:
        """The lease of a name; None if there are too many."""
        return self.leases.give(name)

    def learn(self, name: str, addresses: Iterable[bytes], until: float) -> None:
        """An answer gave a name these addresses; they stand for it until that time."""
        for address in addresses:
            key = (address, name)
            self._learnt[key] = max(until, self._learnt.pop(key, until))
            names = self._names.setdefault(address, {})
            names.pop(name, None)
            names[name] = None
            if len(names) > MAX_NAMES:
                self._unlearn(address, next(iter(names)))
        excess = len(self._learnt) - self.context.config.limits.names
        if excess > 0:
            unused = islice((key for key in self._learnt if key[0] not in self._pins), excess)
            old = [*unused, *islice(self._learnt, excess)]
            for key in list(dict.fromkeys(old))[:excess]:
                self._unlearn(*key)

    def _unlearn(self, address: bytes, name: str) -> None:
        """An address does not stand for a name any more."""
        del self._learnt[address, name], self._names[address][name]
        if not self._names[address]:
            del self._names[address]

    def pin(self, address: bytes) -> None:
        """A flow to an address has opened: the address keeps its names."""
        lease = self.leases.find(address)
        if lease is not None:
            lease.pins += 1
            self.leases.touch(lease)
        else:
            self._pins[address] = self._pins.get(address, 0) + 1

    def unpin(self, address: bytes) -> None:
        """That flow has ended."""
        lease = self.leases.find(address)
        if lease is not None:
            lease.pins = max(lease.pins - 1, 0)
            self.leases.touch(lease)
        elif self._pins.get(address, 0) > 1:
            self._pins[address] -= 1
        else:
            self._pins.pop(address, None)
