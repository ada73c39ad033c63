"""Ports of one side that lead to the other: bound before anything starts, served while there is a guest.

Theory of operation. `Forwards` holds rules, which are `ForwardRule`s without overlaps, and for each of them a number of
listeners: sockets that listen. From the rules, and from what is known of those who listen on the other side, follows
where listeners are wanted. Whenever one of the two changes, listeners are closed and opened until they are there.

Listeners of the guest's side can only be opened when there is a guest whose network we can make sockets in (`enter`).
The host's outlive guests: a driver serves them while it runs, and between two guests connections wait in the backlog.

Nothing goes in a circle: a weak rule never opens a listener that leads to a listener of ours on the other side, and
what would come out at a listener of ours in the guest is refused (`LoopbackPath`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from socket import AF_INET6, SOCK_STREAM
from typing import Final

from sansnet_core.addresses import LOOPBACK, is_link_local
from sansnet_core.ports import TCP, UDP, ForwardRule, combine, without
from sansnet_trio.forward.binding import (
    ForwardError,
    ListenAddress,
    bind_in_guest,
    bind_listener,
    ephemeral_ports,
    listen_addresses,
)
from sansnet_trio.forward.in_use import ports_in_use
from sansnet_trio.forward.listeners import Listener, ListenerService, LoopbackPath, host_socket
from sansnet_trio.guest.socket_agent import GuestSockets
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets

__all__ = ["ForwardError", "Forwards"]

_SCAN_INTERVAL: Final = 0.5
"""Seconds between looks at who listens on the other side, where a rule follows that. A look takes milliseconds, since
the kernel walks through tables of half a million entries; and a second is the longest that anybody shall wait."""

_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_SIZES: Final = {4: 4, 6: 16}
"""Bytes of an address, by version of IP."""


class Forwards:
    """All ports that are forwarded. Close it, or use it as a context manager.

    Args:
        forwards: the first rules. families: 4 and 6, or one of them. freebind: whether the host's addresses to listen
            on may be ones that it does not have yet. splice: whether what comes from the host's loopback goes to the
            guest's without frames, where it can. to_loopback: whether that comes to the guest's loopback address, even
            if the guest has others. on_follow: called when a rule that follows others (`auto`) has a listener opened,
            which the last argument says, or
            closed.

    Raises:
        ForwardError: a port of the host's cannot be bound.
        ConfigError: the rules contradict each other.
    """

    def __init__(
        self,
        forwards: Iterable[ForwardRule] = (),
        *,
        families: Iterable[int] = (4, 6),
        freebind: bool = False,
        splice: bool = True,
        to_loopback: bool = False,
        on_follow: Callable[[ListenAddress, ForwardRule, bool], None] = lambda at, rule, opened: None,
    ) -> None:
        self._sizes = {_SIZES[family] for family in families}
        if not _has_ipv6():
            self._sizes.discard(16)
        self._freebind = freebind
        self._on_follow = on_follow
        self._rules: tuple[ForwardRule, ...] = ()
        self._listeners: dict[ListenAddress, Listener] = {}
        self._path = LoopbackPath(self._listeners, splice=splice, to_loopback=to_loopback)
        self._ephemeral = ephemeral_ports()
        self._service: ListenerService | None = None
        self._clock: Callable[[], float] | None = None
        self._next_scan: float | None = None
        try:
            self.add(forwards)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Forwards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def rules(self) -> tuple[ForwardRule, ...]:
        """The rules, without overlaps."""
        return self._rules

    @property
    def listen_addresses(self) -> frozenset[ListenAddress]:
        """Where listeners are open now."""
        return frozenset(self._listeners)

    def set_guest(self, guest: GuestSockets, own: Sequence[bytes] = ()) -> None:
        """There is a guest whose network we can make sockets in. Its listeners are opened.

        Args:
            guest: makes them.
            own: the guest's addresses, at which what comes from the host's loopback arrives.

        Raises:
            ForwardError: a port of the guest's cannot be bound.
        """
        self._path.set_guest(guest, _first_by_size(own))
        self._arrange(self._rules)

    def set_guest_addresses(self, own: Sequence[bytes]) -> None:
        """The guest has other addresses from now on."""
        if self._path.guest is not None:
            self._path.set_guest(self._path.guest, _first_by_size(own))

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        """Have more rules; on failure things stay as they were.

        Raises:
            ForwardError: a port cannot be bound.
            ConfigError: the rules contradict each other, or those that are there.
        """
        self._change(combine([*self._rules, *forwards]))

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        """Have fewer rules. What came through their listeners stays connected.

        Raises:
            ForwardError: one of them is not there.
        """
        # By what they are scope and their first port; with a number, for the rest of a rule stays at its place
        rules = {(_scope(rule), rule.first): (number, rule) for number, rule in enumerate(self._rules)}
        for old in forwards:
            scope = _scope(old)
            whole = rules.get((scope, old.first))
            if whole is not None and whole[1].last == old.last:
                del rules[scope, old.first]
                continue
            cut = [
                (key, number, rule)
                for key, (number, rule) in rules.items()
                if rule.first <= old.last and old.first <= rule.last and key[0] == scope
            ]
            if not cut:
                raise ForwardError(f"{old.option} {old.spec()} is not forwarded; see which ports are")
            for key, number, rule in cut:
                del rules[key]
                rules |= {(scope, rest.first): (number, rest) for rest in without(rule, old.ports)}
        self._change(tuple(rule for _, rule in sorted(rules.values(), key=lambda one: (one[0], one[1].first))))

    def serve(self, context: SocketContext, sockets: HostSockets, clock: Callable[[], float]) -> None:
        """Serve the listeners from now on, until `leave`.

        Args:
            context: of the driver that does.
            sockets: likewise.
            clock: the network's.

        Raises:
            OSError: they cannot be waited for.
        """
        self._service = ListenerService(context, sockets, self._path, clock)
        for listener in self._listeners.values():
            self._service.begin(listener)
        self._clock = clock
        self._plan_scan()

    def leave(self) -> None:
        """Serve the listeners no longer, and reset what goes from loopback to loopback. A second call does nothing."""
        if self._service is not None:
            self._service.close()
            self._service = self._clock = self._next_scan = None

    def next_deadline(self) -> float | None:
        """When `handle_deadline` must be called."""
        service = None if self._service is None else self._service.next_deadline()
        deadlines = [deadline for deadline in (service, self._next_scan) if deadline is not None]
        return min(deadlines, default=None)

    def handle_deadline(self, now: float) -> None:
        """Time passed: look who listens on the other side."""
        if self._service is not None:
            self._service.handle_deadline(now)
        if self._next_scan is not None and now >= self._next_scan:
            self._follow()
            self._plan_scan()

    def close(self) -> None:
        """Close all listeners: their ports are free at once. A second call does nothing."""
        self.leave()
        for listener in self._listeners.values():
            listener.socket.close()
        self._listeners.clear()

    # from rules to listeners

    def _change(self, rules: tuple[ForwardRule, ...]) -> None:
        """Have other rules; on failure those that were there."""
        before = self._rules
        try:
            self._arrange(rules)
        except ForwardError:
            with suppress(ForwardError):
                self._arrange(before)
            raise
        self._rules = rules
        self._plan_scan()
        if self._service is not None:
            self._service.wake()

    def _plan_scan(self) -> None:
        follows = self._path.guest is not None and any(rule.auto for rule in self._rules)
        self._next_scan = self._clock() + _SCAN_INTERVAL if follows and self._clock is not None else None

    def _arrange(self, rules: Iterable[ForwardRule]) -> None:
        """Open the listeners that rules want and that are not there, and close the others.

        Raises:
            ForwardError: one that must be there cannot be. Then others may be missing, too.
        """
        fixed = {at: rule for rule in rules if not rule.auto for at in self._wanted_always(rule)}
        try:
            followed = dict(self._wanted_by_following(rules))
        except OSError as failure:
            raise ForwardError.lookup_failed(failure) from failure
        self._close_unwanted(fixed | followed, list(self._listeners.values()))
        failed: dict[str, ForwardError] = {}
        for at, rule in fixed.items():
            if error := self._open(at, rule):
                if not rule.weak or error.is_shortage:
                    raise error
                failed.setdefault(rule.option, error)
        served = {listener.forward.option for listener in self._listeners.values() if not listener.forward.auto}
        for option, error in failed.items():
            if option not in served:
                raise error
        for at, rule in followed.items():
            self._open(at, rule)

    def _follow(self) -> None:
        """The same for rules that follow others, of which no listener must be there."""
        try:
            followed = dict(self._wanted_by_following(self._rules))
        except OSError:  # no descriptor is left to look with; the listeners stay as they are
            return
        self._close_unwanted(followed, [listener for listener in self._listeners.values() if listener.forward.auto])
        for at, rule in followed.items():
            self._open(at, rule)

    def _wanted_always(self, rule: ForwardRule) -> Iterator[ListenAddress]:
        """Where a rule wants listeners whoever listens on the other side."""
        if not rule.inbound and self._path.guest is None:
            return
        if rule.weak:
            ours_on_other_side = self._own_ports(rule.protocol, inbound=not rule.inbound)
            for part in without(rule, self._ephemeral):
                yield from listen_addresses(
                    part, self._sizes, (port for port in part.ports if part.leads_to(port) not in ours_on_other_side)
                )
        elif rule.address is not None and len(rule.address) not in self._sizes:
            what = f"{rule.option} {rule.spec()} is scope an address of a family that is off here"
            raise ForwardError(f"{what}; give another one, or leave it out")
        else:
            yield from listen_addresses(rule, self._sizes, rule.ports)

    def _wanted_by_following(self, rules: Iterable[ForwardRule]) -> Iterator[tuple[ListenAddress, ForwardRule]]:
        """Where rules want listeners because of who listens on the other side now."""
        look = cache(self._foreign_listeners)
        for rule in rules:
            if rule.auto and self._path.guest is not None:
                found = look(rule.protocol, not rule.inbound)
                if rule.protocol == UDP:  # who serves TCP may want it as well
                    found = found | look(TCP, not rule.inbound)
                for size, other in found:
                    port = other - rule.to + rule.first
                    if size in self._sizes and port in rule.ports and not (rule.weak and port in self._ephemeral):
                        yield from ((at, rule) for at in listen_addresses(rule, {size}, [port]))

    def _foreign_listeners(self, protocol: int, inbound: bool) -> set[tuple[int, int]]:
        """Who listens on one side besides us: sizes of addresses, and ports."""
        guest = self._path.guest
        directory = "/proc/self" if inbound or guest is None else guest.directory
        ours = self._own_ports(protocol, inbound=inbound)
        return {(size, port) for size, port in ports_in_use(directory, protocol) if port not in ours}

    def _own_ports(self, protocol: int, *, inbound: bool) -> set[int]:
        return {at.port for at in self._listeners if (at.protocol, at.inbound) == (protocol, inbound)}

    # listeners

    def _close_unwanted(self, wanted: Mapping[ListenAddress, ForwardRule], listeners: Iterable[Listener]) -> None:
        """Of some listeners, close those that are not wanted, or that lead elsewhere than wanted."""
        for listener in listeners:
            rule = wanted.get(listener.at)
            if rule is not None and listener.leads_like(rule):
                listener.forward = rule
            else:
                del self._listeners[listener.at]
                if self._service is not None:
                    self._service.end(listener)
                listener.socket.close()
                if listener.forward.auto:
                    self._on_follow(listener.at, listener.forward, False)

    def _open(self, at: ListenAddress, rule: ForwardRule) -> ForwardError | None:
        """Open a listener, unless it is there, or the guest has no such address; what prevents it."""
        guest = self._path.guest
        if at in self._listeners or (not at.inbound and guest is None):
            return None
        try:
            if at.inbound or guest is None:
                made = bind_listener(at, host_socket, freebind=self._freebind)
            else:
                made = bind_in_guest(at, guest.socket)
            listener = Listener(at, rule, made)
            if self._service is not None:
                self._begin(self._service, listener)
        except OSError as error:
            if not at.inbound and at.address == LOOPBACK[16] and error.errno in _NO_IPV6:
                return None
            return ForwardError.of(rule, at, error)
        self._listeners[at] = listener
        if rule.auto:
            self._on_follow(at, rule, True)
        return None

    def _begin(self, service: ListenerService, listener: Listener) -> None:
        try:
            service.begin(listener)
        except OSError:
            listener.socket.close()
            raise


def _scope(rule: ForwardRule) -> tuple[object, ...]:
    """What a rule is scope, but for the ports."""
    return rule.protocol, rule.inbound, rule.address, rule.interface, rule.auto


def _has_ipv6() -> bool:
    try:
        host_socket(AF_INET6, SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _first_by_size(own: Sequence[bytes]) -> dict[int, bytes]:
    """By size, those that are not link-local."""
    return {len(address): address for address in reversed(own) if not is_link_local(address)}
