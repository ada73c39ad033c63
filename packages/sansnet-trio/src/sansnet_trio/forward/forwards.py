"""Forwarded ports: bound before a guest starts, and served while a guest runs.

Theory of operation. `Forwards` holds rules (`ForwardRule`s without overlaps) and their listeners. The rules, and for
`auto` the ports in use on the other side, determine which listeners are wanted. Whenever either changes, unwanted
listeners are closed and missing ones opened.

Listeners in the guest need a guest in whose network we can make sockets (`set_guest`). Listeners on the host outlive
guests: a driver serves them while it runs, and between two guests connections wait in the backlog.

There are no loops: a weak rule never opens a listener that leads to one of our listeners on the other side, and a
connection that would reach one of our listeners in the guest is refused (`LoopbackPath`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from socket import AF_INET6, SOCK_STREAM
from typing import Final

from sansnet_core.addresses import LOOPBACK, is_link_local
from sansnet_core.errors import UsageError
from sansnet_core.ports import TCP, UDP, ForwardRule, checked, combine, without
from sansnet_trio.forward.binding import (
    ForwardError,
    ListenAddress,
    bind_in_guest,
    bind_listener,
    described,
    ephemeral_ports,
    listen_addresses,
)
from sansnet_trio.forward.in_use import PortsInUse
from sansnet_trio.forward.listeners import Listener, ListenerService, LoopbackPath, host_socket
from sansnet_trio.forward.splice_tcp import Spliced
from sansnet_trio.guest.socket_agent import GuestSockets
from sansnet_trio.host.socket_context import SocketContext
from sansnet_trio.host.sockets import HostSockets
from sansnet_trio.linux.descriptors import Uncopyable

__all__ = ["ForwardError", "Forwards"]

_SCAN_INTERVAL: Final = 0.5
"""Seconds between scans of the ports in use on the other side, for `auto`. A scan takes milliseconds, since the kernel
walks through tables of half a million entries; a new port should be forwarded within a second."""

_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_SIZES: Final = {4: 4, 6: 16}
"""Bytes of an address, by IP version."""


class Forwards(Uncopyable):
    """All ports that are forwarded. Close it, or use it as a context manager.

    Args:
        forwards: the first rules.
        families: 4 and 6, or one of them.
        freebind: whether listeners may use addresses that the host does not have yet.
        splice: whether connections from the host's loopback take the loopback path, where possible.
        to_loopback: whether the loopback path leads to the guest's loopback address even if the guest has others.
        on_follow: called when a listener of an `auto` rule is opened (the last argument is True) or closed.

    Raises:
        ForwardError: a port of the host cannot be bound.
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
        families = tuple(families)
        if not {4, 6}.issuperset(families):
            raise UsageError(f"families: {families!r:.100} are not families; give (4, 6), (4,) or (6,)")
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
        self._in_use: dict[bool, PortsInUse] = {}
        """By whether it is the host's, and not the guest's."""
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
        """Where listeners are bound now."""
        return frozenset(self._listeners)

    @property
    def guest(self) -> GuestSockets | None:
        """The guest in whose network sockets can be made; None if there is none."""
        return self._path.guest

    def avoid_loopback_path(self) -> None:
        """Send connections from the host's loopback through the network, which decides about them."""
        self._path.splice = False

    def set_guest(self, guest: GuestSockets, own: Sequence[bytes] = ()) -> None:
        """Set the guest in whose network sockets can be made, and open the listeners in it.

        Args:
            guest: makes sockets in the guest.
            own: the guest's addresses, to which the loopback path leads.

        Raises:
            ForwardError: a port of the guest cannot be bound.
        """
        if guest is not self._path.guest and False in self._in_use:
            self._in_use.pop(False).close()
        self._path.set_guest(guest, _first_by_size(own))
        self._arrange(self._rules)

    def prepare_to_follow(self) -> None:
        """Open the tables of the ports in use on both sides, which `auto` rules need. A confined process cannot.

        Raises:
            ForwardError: they cannot be opened, and there are `auto` rules.
        """
        try:
            for inbound in (True, False) if self._path.guest is not None else ():
                self._ports_in_use(inbound=inbound)
        except OSError as failure:
            if any(rule.auto for rule in self._rules):
                raise ForwardError.lookup_failed(failure) from failure

    def set_guest_addresses(self, own: Sequence[bytes]) -> None:
        """Change the guest's addresses, to which the loopback path leads.

        Args:
            own: the new addresses, 4 or 16 bytes each.
        """
        if self._path.guest is not None:
            self._path.set_guest(self._path.guest, _first_by_size(own))

    def used_addresses(self) -> set[bytes]:
        """The guest's addresses that connections and flows of the loopback path use; there may be others in the set."""
        return set() if self._service is None else self._service.peers()

    def spliced(self) -> Spliced | None:
        """The guest's part in the connections on the loopback path; None if there were none yet.

        This asks the kernel about each connection that the guest has not ended.
        """
        return None if self._service is None else self._service.spliced()

    def add(self, forwards: Iterable[ForwardRule]) -> None:
        """Add rules. If that fails, nothing changes.

        Args:
            forwards: the new rules, for example from `sansnet_core.ports.parse_all`.

        Raises:
            ForwardError: a port cannot be bound.
            ConfigError: the rules contradict each other or the present ones.
        """
        self._change(combine([*self._rules, *checked(forwards)]))

    def remove(self, forwards: Iterable[ForwardRule]) -> None:
        """Remove rules. Connections that they have forwarded stay open.

        Args:
            forwards: rules that are present, or parts of their ports.

        Raises:
            ForwardError: one of the rules does not exist.
        """
        # Keyed by scope and first port; numbered, so that the rest of a rule keeps its place
        rules = {(_scope(rule), rule.first): (number, rule) for number, rule in enumerate(self._rules)}
        for old in checked(forwards):
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
                raise ForwardError(f"{described(old)} is not forwarded; list the forwards to see their ports")
            for key, number, rule in cut:
                del rules[key]
                rules |= {(scope, rest.first): (number, rest) for rest in without(rule, old.ports)}
        self._change(tuple(rule for _, rule in sorted(rules.values(), key=lambda one: (one[0], one[1].first))))

    def serve(self, context: SocketContext, sockets: HostSockets, clock: Callable[[], float]) -> None:
        """Start to serve the listeners; `leave` ends that.

        Args:
            context: the socket context of the driver.
            sockets: the host sockets of the driver.
            clock: clock of the network.

        Raises:
            OSError: the listeners cannot be added to the epoll set.
        """
        self._service = ListenerService(context, sockets, self._path, clock)
        for listener in self._listeners.values():
            self._service.begin(listener)
        self._clock = clock
        self._plan_scan()

    def leave(self) -> None:
        """Stop serving the listeners, and reset connections on the loopback path. A second call does nothing."""
        if self._service is not None:
            self._service.close()
            self._service = self._clock = self._next_scan = None

    def next_deadline(self) -> float | None:
        """Time of the next `handle_deadline`; None if there is none."""
        service, scan = None if self._service is None else self._service.next_deadline(), self._next_scan
        if service is None or scan is None:  # nearly always
            return scan if service is None else service
        return min(service, scan)

    def handle_deadline(self, now: float) -> None:
        """Handle timeouts, and scan the ports in use on the other side."""
        if self._service is not None:
            self._service.handle_deadline(now)
        if self._next_scan is not None and now >= self._next_scan:
            self._follow()
            self._plan_scan()

    def close(self) -> None:
        """Close all listeners; their ports are free at once. A second call does nothing."""
        self.leave()
        for listener in self._listeners.values():
            listener.socket.close()
        self._listeners.clear()
        for tables in self._in_use.values():
            tables.close()
        self._in_use.clear()

    # from rules to listeners

    def _change(self, rules: tuple[ForwardRule, ...]) -> None:
        """Replace the rules. If that fails, nothing changes."""
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
        """Open the missing listeners of some rules, and close all listeners that none of the rules needs.

        Raises:
            ForwardError: a required listener cannot be opened. Others may be missing then, too.
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
        """Open and close the listeners of `auto` rules; none of them is required."""
        try:
            followed = dict(self._wanted_by_following(self._rules))
        except OSError:  # no descriptor is left for the scan; the listeners stay as they are
            return
        self._close_unwanted(followed, [listener for listener in self._listeners.values() if listener.forward.auto])
        for at, rule in followed.items():
            self._open(at, rule)

    def _wanted_always(self, rule: ForwardRule) -> Iterator[ListenAddress]:
        """The listen addresses of a rule that is not `auto`: those that do not depend on ports of the other side."""
        if not rule.inbound and self._path.guest is None:
            return
        if rule.weak:
            ours_on_other_side = self._own_ports(rule.protocol, inbound=not rule.inbound)
            for part in without(rule, self._ephemeral):
                yield from listen_addresses(
                    part, self._sizes, (port for port in part.ports if part.leads_to(port) not in ours_on_other_side)
                )
        elif rule.address is not None and len(rule.address) not in self._sizes:
            problem = f"{described(rule)} has an address of an IP family that is disabled"
            raise ForwardError(f"{problem}; give another one, or leave it out")
        else:
            yield from listen_addresses(rule, self._sizes, rule.ports)

    def _wanted_by_following(self, rules: Iterable[ForwardRule]) -> Iterator[tuple[ListenAddress, ForwardRule]]:
        """The listen addresses of `auto` rules, from the ports that are in use on the other side now."""
        scan = cache(self._foreign_listeners)
        for rule in rules:
            if rule.auto and self._path.guest is not None:
                found = scan(rule.protocol, not rule.inbound)
                if rule.protocol == UDP:  # a TCP service may use UDP on the same port, too
                    found = found | scan(TCP, not rule.inbound)
                for size, other in found:
                    port = other - rule.to + rule.first
                    if size in self._sizes and port in rule.ports and not (rule.weak and port in self._ephemeral):
                        yield from ((at, rule) for at in listen_addresses(rule, {size}, [port]))

    def _foreign_listeners(self, protocol: int, inbound: bool) -> set[tuple[int, int]]:
        """Address sizes and ports of the listening sockets on one side, without ours."""
        ours = self._own_ports(protocol, inbound=inbound)
        found = self._ports_in_use(inbound=inbound).find(protocol)
        return {(size, port) for size, port in found if port not in ours}

    def _ports_in_use(self, *, inbound: bool) -> PortsInUse:
        if inbound not in self._in_use:
            guest = self._path.guest
            self._in_use[inbound] = PortsInUse("/proc/self" if inbound or guest is None else guest.directory)
        return self._in_use[inbound]

    def _own_ports(self, protocol: int, *, inbound: bool) -> set[int]:
        return {at.port for at in self._listeners if (at.protocol, at.inbound) == (protocol, inbound)}

    # listeners

    def _close_unwanted(self, wanted: Mapping[ListenAddress, ForwardRule], listeners: Iterable[Listener]) -> None:
        """Close each of these listeners that is not wanted or does not lead to the wanted target."""
        for listener in listeners:
            rule = wanted.get(listener.at)
            if rule is not None and listener.has_target_of(rule):
                listener.forward = rule
            else:
                del self._listeners[listener.at]
                if self._service is not None:
                    self._service.end(listener)
                listener.socket.close()
                if listener.forward.auto:
                    self._on_follow(listener.at, listener.forward, False)

    def _open(self, at: ListenAddress, rule: ForwardRule) -> ForwardError | None:
        """Open a listener if it is missing and the guest has the address; returns the error if that fails."""
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
    """The fields of a rule that identify it, apart from the ports."""
    return rule.protocol, rule.inbound, rule.address, rule.interface, rule.auto


def _has_ipv6() -> bool:
    try:
        host_socket(AF_INET6, SOCK_STREAM).close()
    except OSError:
        return False
    return True


def _first_by_size(own: Sequence[bytes]) -> dict[int, bytes]:
    """The first address of each size that is not link-local."""
    return {len(address): address for address in reversed(own) if not is_link_local(address)}
