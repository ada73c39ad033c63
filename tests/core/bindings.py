"""Names whose addresses the test itself tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from sansnet_core.addresses import packed
from tests.core.direct import Direct

__all__ = ["FakeBindings"]


class FakeBindings:
    """Addresses in the guest's packets that stand for names.

    Args:
        leases: own address -> name.
        real: address of the host's side -> names that it stands for as well.

    Attributes:
        pins: how many flows each address has.
        asked: the names that were to be resolved, in order.
    """

    def __init__(self, leases: Mapping[str, str], real: Mapping[str, Sequence[str]] | None = None) -> None:
        self._names: dict[bytes, tuple[str, ...]] = {packed(address): (name,) for address, name in leases.items()}
        self._leases = frozenset(self._names)
        self.free = packed("198.18.255.1")
        """An own address that stands for no name."""
        self._names |= {packed(address): tuple(names) for address, names in (real or {}).items()}
        self._hosts: dict[str, tuple[bytes, ...]] = {}
        self._waiting: list[tuple[str, Callable[[], None]]] = []
        self.pins: Counter[bytes] = Counter()
        self.asked: list[str] = []
        self.at_once: dict[str, tuple[str, ...]] = {}
        """Names that are resolved within `resolve`."""

    def attach(self, bench: Direct) -> None:
        """Become the bindings of a network."""
        bench.network._context.bindings = self

    def know(self, name: str, *hosts: str) -> None:
        """The addresses of a name are known from now on; whatever waits for them goes on."""
        self._hosts[name] = tuple(map(packed, hosts))
        waiting, self._waiting = self._waiting, []
        for one, done in waiting:
            if one == name:
                done()
            else:
                self._waiting.append((one, done))

    def rename(self, address: str, name: str) -> None:
        """An address stands for another name from now on."""
        self._names[packed(address)] = (name,)

    def is_leased(self, address: bytes) -> bool:
        return address in self._leases or address == self.free

    def names(self, address: bytes) -> Sequence[str]:
        return self._names.get(address, ())

    def hosts(self, name: str) -> Sequence[bytes] | None:
        return self._hosts.get(name)

    def resolve(self, name: str, done: Callable[[], None]) -> None:
        self.asked.append(name)
        self._waiting.append((name, done))
        if name in self.at_once:
            self.know(name, *self.at_once[name])

    def forget(self, name: str, done: Callable[[], None]) -> None:
        self._waiting = [one for one in self._waiting if one != (name, done)]

    def pin(self, address: bytes) -> None:
        self.pins[address] += 1

    def unpin(self, address: bytes) -> None:
        assert self.pins[address] > 0
        self.pins[address] -= 1
        self.pins += Counter()
