"""Ports that a program forwards while its guest is served."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from typing import TYPE_CHECKING, Final, NamedTuple

from sansnet_core import ConfigError
from sansnet_core.ports import TCP, UDP, ForwardRule, parse
from sansnet_core.records import replace
from sansnet_trio.forward.binding import ForwardError, described
from sansnet_trio.forward.forwards import Forwards
from sansnet_trio.forward.listeners import host_socket
from sansnet_trio.host.sockaddr import encode
from sansnet_trio.linux.descriptors import Uncopyable

if TYPE_CHECKING:
    from sansnet_core.addresses import AnyAddress
    from sansnet_trio.guest.socket_agent import GuestSockets

__all__ = ["GuestSide", "PortForward", "PortForwards"]

_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
_KINDS: Final = {TCP: SOCK_STREAM, UDP: SOCK_DGRAM}
_FAMILIES: Final = {4: AF_INET, 16: AF_INET6}

_ATTEMPTS: Final = 16
"""How often another port is chosen if a program takes it just then, or it is free in one family only."""

_NO_NAMESPACE: Final = "only a guest in a network namespace has ports that sansnet can see; name the ports of the host"


class GuestSide(NamedTuple):
    """The side of a guest in a namespace.

    Attributes:
        sockets: makes sockets in the guest.
        own: the guest's addresses, 4 or 16 bytes each.
    """

    sockets: GuestSockets
    own: Sequence[bytes]


class PortForward(Uncopyable):
    """Forwarded ports, made by `GuestNetwork.forward`. Close it, or use it as a context manager.

    Attributes:
        rules: the rules. Connections that they have forwarded stay open when it is closed.
    """

    def __init__(self, rules: tuple[ForwardRule, ...], remove: Callable[[tuple[ForwardRule, ...]], None]) -> None:
        self.rules = rules
        self._remove = remove
        self._open = True

    @property
    def port(self) -> int:
        """The first port that is listened on: the chosen one, if that was left to the kernel."""
        return self.rules[0].first

    def close(self) -> None:
        """Stop listening. A second call does nothing."""
        if self._open:
            self._open = False
            self._remove(self.rules)

    def __enter__(self) -> PortForward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._open else "closed "
        return f"<{state}PortForward {', '.join(map(described, self.rules))}>"


class PortForwards:
    """The forwarded ports of one network, and those that a program adds.

    Args:
        forwards: the forwarded ports that the network was made with; None makes them when they are needed.
        families: 4 and 6, or one of them.
        serve: called with them when they are made.
    """

    def __init__(self, forwards: Forwards | None, families: Sequence[int], serve: Callable[[Forwards], None]) -> None:
        self._forwards = forwards
        self._families = families
        self._serve = serve
        self._made: Forwards | None = None
        self._guest: GuestSide | None = None
        self._by_network = False
        self._closed = False

    @property
    def rules(self) -> tuple[ForwardRule, ...]:
        """The present rules."""
        return () if self._forwards is None else self._forwards.rules

    def set_guest(self, guest: GuestSide) -> None:
        """Set the guest in whose namespace ports can be opened."""
        self._guest = guest

    def avoid_loopback_path(self) -> None:
        """See `Forwards.avoid_loopback_path`."""
        self._by_network = True
        if self._forwards is not None:
            self._forwards.avoid_loopback_path()

    def open(
        self,
        port: int | str,
        to: int | None,
        protocol: str,
        address: AnyAddress | None,
        interface: str | None,
        target: AnyAddress | None,
        *,
        inbound: bool,
    ) -> PortForward:
        """Forward ports; see `GuestNetwork.forward`."""
        number = _PROTOCOLS.get(protocol)
        if number is None:
            raise ConfigError(f"protocol: {protocol!r} is neither 'tcp' nor 'udp'")
        if self._closed:
            raise ForwardError("the network has ended, so no port can be forwarded; open another network")
        if isinstance(port, str):
            if (to, address, interface, target) != (None, None, None, None):
                raise ConfigError(
                    f"port: the text {port!r} has no use for to, address, interface and target; "
                    "leave them out, as in '127.0.0.1/8080:80', or give an integer"
                )
            rules = parse(port, number, inbound=inbound)
            if not rules:
                raise ConfigError(f"port: {port!r} has no ports; give some")
            return self._add(rules)
        if port:
            return self._add((self._rule(port, to, number, address, interface, target, inbound=inbound),))
        if to is None:
            raise ConfigError("to: give the port of the other side, since port is 0")
        failure: ForwardError | None = None
        for _ in range(_ATTEMPTS):
            rule = self._rule(1, to, number, address, interface, target, inbound=inbound)
            chosen = self._free_port(rule)
            try:
                return self._add((replace(rule, first=chosen, last=chosen),))
            except ForwardError as error:
                if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
                    raise
                failure = error
        assert failure is not None
        raise failure

    async def prepare(self) -> None:
        """Get ready to make sockets in the guest, if it is in a namespace, while other tasks run."""
        guest = self._guest.sockets if self._guest is not None else None
        if self._forwards is not None:
            guest = self._forwards.guest
        if guest is not None:
            with suppress(OSError):  # reported when such a socket is needed
                await guest.prepare_sockets()

    def close(self) -> None:
        """Close the ports that a program has added. A second call does nothing."""
        self._closed = True
        if self._made is not None:
            self._made.close()

    def _rule(
        self,
        port: int,
        to: int | None,
        protocol: int,
        address: AnyAddress | None,
        interface: str | None,
        target: AnyAddress | None,
        *,
        inbound: bool,
    ) -> ForwardRule:
        if not inbound and (address, interface, target) != (None, None, None):
            raise ConfigError("inbound: ports of the guest lead from its loopback to the host's; leave out addresses")
        return ForwardRule(
            protocol=protocol,
            first=port,
            last=port,
            to=port if to is None else to,
            address=address,
            interface=interface,
            target=target,
            inbound=inbound,
        )

    def _add(self, rules: tuple[ForwardRule, ...]) -> PortForward:
        forwards = self._ensure()
        if forwards.guest is None and any(rule.auto or not rule.inbound for rule in rules):
            raise ForwardError(_NO_NAMESPACE)
        forwards.add(rules)
        return PortForward(rules, self._remove)

    def _remove(self, rules: tuple[ForwardRule, ...]) -> None:
        if not self._closed:
            with suppress(ForwardError):  # they were removed otherwise, for example over a control socket
                self._ensure().remove(rules)

    def _ensure(self) -> Forwards:
        if self._forwards is None:
            made = Forwards(families=self._families, splice=not self._by_network)
            try:
                if self._guest is not None:
                    made.set_guest(self._guest.sockets, self._guest.own)
                self._serve(made)
            except BaseException:
                made.close()
                raise
            self._forwards = self._made = made
        return self._forwards

    def _free_port(self, rule: ForwardRule) -> int:
        """A port that the kernel chooses on the rule's side, for its address."""
        guest = self._ensure().guest
        if not rule.inbound and guest is None:
            raise ForwardError(_NO_NAMESPACE)
        size = len(rule.address) if rule.address is not None else 4 if 4 in self._families else 16
        make = host_socket if rule.inbound or guest is None else guest.socket
        try:
            with closing(make(_FAMILIES[size], _KINDS[rule.protocol])) as probe:
                probe.bind(encode(rule.address or bytes(size), 0, 0))
                port: int = probe.getsockname()[1]
        except OSError as error:
            raise ForwardError(f"no free port can be found ({error.strerror}); give one") from error
        return port
