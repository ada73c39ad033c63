"""The network of one guest while it is served, as a program uses it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import trio

from sansnet_core import ConfigError, Endpoint, SansnetError, addresses
from sansnet_core.policy import Action
from sansnet_core.records import replace
from sansnet_trio.decisions import NoSuchFlow, asking_by_default
from sansnet_trio.groups import only
from sansnet_trio.links import LinkClosed
from sansnet_trio.linux.descriptors import Uncopyable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from sansnet_core import FlowReport, Network, NetworkConfig, NetworkStatistics, Notice
    from sansnet_core.addresses import AnyAddress
    from sansnet_core.config import ResolverConfig
    from sansnet_core.impairment import Impairment
    from sansnet_core.policy import Policy, Rule
    from sansnet_core.ports import ForwardRule
    from sansnet_trio import decisions
    from sansnet_trio.decisions import PendingFlow
    from sansnet_trio.driver import Driver
    from sansnet_trio.driver_statistics import DriverStatistics
    from sansnet_trio.events import Subscription
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.forward.port_forwards import GuestSide, PortForward, PortForwards
    from sansnet_trio.forward.splice_tcp import Spliced
    from sansnet_trio.guest.socket_agent import GuestSockets
    from sansnet_trio.services.datagrams import GuestDatagramChannel, GuestDatagrams, Peer
    from sansnet_trio.services.program_sockets import ProgramSockets
    from sansnet_trio.services.streams import GuestStream

__all__ = ["AnyEndpoint", "GuestNetwork"]

AnyEndpoint: TypeAlias = tuple["AnyAddress", int]
"""An `Endpoint`, or a pair of an address in any form and a port."""


class GuestNetwork(Uncopyable):
    """The network of one guest. Made by `open_network`, and served until the end of its block.

    Attributes:
        core: the network itself. Ask it anything at any time; tell it facts by `Driver.tell`.
        driver: the driver that serves it.
        config: its present configuration, with the properties of the link.
        nursery: the nursery of tasks that end with the network. Their exceptions leave the block of `open_network`.
        body: the scope of the block of `open_network`.
        failure: the exception that `end` got and that leaves the block.
    """

    def __init__(
        self,
        core: Network,
        driver: Driver,
        config: NetworkConfig,
        nursery: trio.Nursery,
        forwards: Forwards | None = None,
        resolver: ResolverConfig | None = None,
    ) -> None:
        self.core = core
        self.driver = driver
        self.config = config
        self.nursery = nursery
        self.body = trio.CancelScope()
        self.failure: Exception | None = None
        self._policy: Policy | None = None
        """The one of `set_policy`, which stays when the configuration changes."""
        self._resolver = resolver
        """The one that the guest gets if it has none and rules have names."""
        driver.view = self
        self._forwards = forwards
        self._ports: PortForwards | None = None
        self._guest: GuestSide | None = None
        if forwards is not None and _concerns_inbound(config):
            forwards.avoid_loopback_path()
        self._closed = trio.Event()
        self._ended = False
        self._waiting = 0

    def __repr__(self) -> str:
        own = [each.address for each in (self.config.ipv4, self.config.ipv6) if each is not None and each.address]
        state = "closed" if self._closed.is_set() else f"{len(self.flows())} flows"
        return f"<{type(self).__name__} of {' and '.join(map(addresses.format, own)) or 'an unknown guest'}: {state}>"

    def flows(self) -> list[FlowReport]:
        """The present flows."""
        return self.core.flows()

    def statistics(self) -> NetworkStatistics:
        """The counters of the network; also available after its end."""
        return self.core.statistics()

    def driver_statistics(self) -> DriverStatistics:
        """The counters of the driver; also available after its end."""
        return self.driver.statistics()

    def spliced(self) -> Spliced | None:
        """The guest's part in the connections on the loopback path; None if there were none yet."""
        forwards = self.driver.forwards
        return None if forwards is None else forwards.spliced()

    def subscribe(self, buffer: int = 1000) -> AbstractAsyncContextManager[Subscription]:
        """The events of the network, as they happen; an async context manager.

        The subscriber iterates with `async for` over `FlowOpened`, `FlowRefused`, `FlowClosed`, `LeaseGiven`,
        `NameAsked` and `Lost`. The iteration ends when the network has ended. There may be several subscribers, which
        all get every event.

        Args:
            buffer: number of events that may wait for the subscriber. If there are more, the oldest are thrown away,
                and it gets `Lost` in their place.

        Raises:
            ValueError: `buffer` is not 1 or more.
        """
        return self.driver.subscribe(buffer)

    def publish(self, notice: Notice) -> None:
        """Give the subscribers a notice that the program made, such as `NameAsked`, as if the network had made it."""
        self.driver.publish(notice)

    async def open_tcp_stream(
        self, port: int, host: AnyAddress | None = None, source: AnyEndpoint | None = None
    ) -> GuestStream:
        """Connect to a server in the guest, without a socket of the host.

        Args:
            port: the server's port.
            host: the guest's address; None for its current one.
            source: our endpoint as the guest sees it: an address that exists in the program only, and a port, of which
                0 is any; None for the gateway's address and any port.

        Raises:
            ConfigError: an argument is wrong.
            OSError: as connect() does: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, EADDRINUSE, EADDRNOTAVAIL and more;
                ENETDOWN if the network does not run any more.
        """
        sockets = self._program()
        return await sockets.open_stream(_endpoint(source), _address(host), _port(port))

    def open_datagrams(self, source: AnyEndpoint | None = None) -> GuestDatagrams:
        """Exchange datagrams with any endpoint of the guest, without a socket of the host.

        Args:
            source: our endpoint as the guest sees it, as for `open_tcp_stream`; None for all addresses that exist in
                the program only, and any port.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE: a service has this place; ENETDOWN: the network does not run any more.
        """
        return self._program().open_datagrams(_endpoint(source))

    async def open_udp(
        self, port: int, host: AnyAddress | None = None, source: AnyEndpoint | None = None
    ) -> GuestDatagramChannel:
        """Exchange datagrams with one endpoint of the guest, without a socket of the host.

        Args:
            port: the guest's port.
            host: the guest's address; None for the one in the configuration.
            source: our endpoint as the guest sees it, as for `open_tcp_stream`.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRINUSE: a service has this place; EADDRNOTAVAIL: there is no address of the program or of the
                guest; ENETDOWN: the network does not run any more.
        """
        await trio.lowlevel.checkpoint()
        return self._program().open_channel(_endpoint(source), _address(host), _port(port))

    def peer(self, port: int, host: AnyAddress | None = None, source: AnyEndpoint | None = None) -> Peer:
        """An endpoint of the guest, to send it a datagram before it has sent one.

        Args:
            port: the guest's port.
            host: the guest's address; None for its current one.
            source: our endpoint as the guest sees it; None for the gateway's address. Port 0, or None, is the port of
                the `GuestDatagrams` that sends.

        Raises:
            ConfigError: an argument is wrong.
            OSError: EADDRNOTAVAIL, EHOSTUNREACH and more: there is no such address of the program or of the guest.
        """
        return self._program().make_peer(_endpoint(source), _address(host), _port(port))

    def _program(self) -> ProgramSockets:
        return self.driver.program

    def reconfigure(
        self,
        config: NetworkConfig,
        *,
        moved: bool = False,
        keep_flows: bool = False,
        resolver: ResolverConfig | None = None,
    ) -> None:
        """Replace the configuration; see `Network.reconfigure`.

        Args:
            config: the new configuration. The properties of the link stay as they are; so does the policy, if
                `set_policy` was called.
            moved: whether the guest has its new addresses already.
            keep_flows: whether open flows continue that the new rules do not allow.
            resolver: see `open_network`; None is as before.

        Raises:
            ConfigError: `config` differs in something that cannot change. Nothing has changed.
        """
        if self._policy is not None:
            from sansnet_trio.policies import with_policy

            config = with_policy(config, self._policy, self.config.resolver, resolver or self._resolver)
        self._reconfigure(config, moved=moved, keep_flows=keep_flows)
        self._resolver = resolver or self._resolver

    def _reconfigure(self, config: NetworkConfig, *, moved: bool = False, keep_flows: bool) -> None:
        config = replace(config, link=self.config.link)
        if self.driver.decisions is not None:
            config = asking_by_default(config)
        self.driver.tell(lambda now: self.core.reconfigure(config, now, moved=moved, keep_flows=keep_flows))
        self.config = config
        if _concerns_inbound(config):
            self._port_forwards().avoid_loopback_path()

    @property
    def impairments(self) -> tuple[Impairment, Impairment]:
        """The present impairments of frames from the guest, and to it; counters are in `driver_statistics`."""
        from sansnet_core.impairment import Impairment

        cables = self.driver.cables
        return (Impairment(), Impairment()) if cables is None else (cables.up.impairment, cables.down.impairment)

    def impair(self, *, up: Impairment | None = None, down: Impairment | None = None, seed: int | None = None) -> None:
        """Have a bad network between the guest and its network, or a better one, from now on.

        Frames that wait for the rate leave at the new one. Others that are on their way arrive as planned.

        Args:
            up: the impairment of frames from the guest; None leaves it as it is.
            down: the impairment of frames to the guest; None leaves it as it is.
            seed: the beginning of the random faults, if this is the first impairment; None takes a random one.

        Raises:
            UsageError: an argument has another type.
        """
        self.driver.impair(up=up, down=down, seed=seed)
        if up is not None and up.corrupt and not self.config.link.verify_checksums:
            link = replace(self.config.link, verify_checksums=True)
            config = self.config = replace(self.config, link=link)
            self.driver.tell(lambda now: self.core.reconfigure(config, now, keep_flows=True))

    @property
    def policy(self) -> Policy:
        """The present rules, with the default action and all that they refer to."""
        from sansnet_trio.policies import policy_of

        present = policy_of(self.config)
        if self._policy is None or present.names is not None:
            return present
        return replace(present, names=self._policy.names)  # for a resolver that comes later

    def set_policy(self, policy: Policy, *, keep_flows: bool = False) -> None:
        """Replace all rules, the default action and the proxies, from now on and whatever `reconfigure` gets later.

        Open flows are judged again, and those that are not allowed now are reset. Flows that wait for a verdict are
        judged again, too. If rules have names for the first time, the guest gets a resolver of ours; addresses that it
        looked up before stand for no name.

        Args:
            policy: the new policy. Without a default action or a kind of names, the present one stays.
            keep_flows: whether open flows continue that the new rules do not allow.

        Raises:
            ConfigError: the policy does not fit the network. Nothing has changed.
        """
        from sansnet_trio.policies import completed, with_policy

        policy = completed(policy, self.policy)
        self._reconfigure(with_policy(self.config, policy, planned=self._resolver), keep_flows=keep_flows)
        self._policy = policy

    def pending(self) -> list[PendingFlow]:
        """The flows that wait for a verdict, the earliest first."""
        decisions = self.driver.decisions
        return [] if decisions is None else decisions.pending(self.config.limits.decision_time)

    def answer(self, id: int, verdict: decisions.Verdict, rule: Rule | None = None) -> None:
        """Decide about a flow that waits, in place of the `decide` function.

        Args:
            id: number of the flow, from `pending`.
            verdict: see `sansnet_trio.decisions`.
            rule: a rule to put before all others, so that it decides about such flows from now on; see `set_policy`.

        Raises:
            NoSuchFlow: no such flow waits any more. Nothing has changed.
            ConfigError: the rule does not fit the network. Nothing has changed.
            TypeError, ValueError: it is no verdict, or one that this flow cannot have. Nothing has changed.
        """
        decisions = self.driver.decisions
        if decisions is None:
            raise NoSuchFlow("no flow waits for a verdict, since this network has no decide function; give hold_flow")
        decisions.check(id, verdict)
        if rule is not None:
            policy = self.policy
            others = tuple(other for other in policy.rules if other != rule)
            self.set_policy(replace(policy, rules=(rule, *others)))
        with suppress(NoSuchFlow):  # the rule has decided
            decisions.settle(id, verdict)

    @property
    def forwards(self) -> tuple[ForwardRule, ...]:
        """The rules of the ports that are forwarded now."""
        if self._ports is not None:
            return self._ports.rules
        return () if self._forwards is None else self._forwards.rules

    async def forward(
        self,
        port: int | str,
        to: int | None = None,
        *,
        protocol: str = "tcp",
        inbound: bool = True,
        address: AnyAddress | None = None,
        interface: str | None = None,
        target: AnyAddress | None = None,
    ) -> PortForward:
        """Forward a port from now on, until the result is closed or the network ends.

        Args:
            port: the port to listen on; 0 lets the kernel choose one, which the result tells. Or several ports, in the
                grammar of `sansnet_core.ports`, such as "8080:80,8443:443".
            to: the port of the other side; None is the same one.
            protocol: "tcp" or "udp".
            inbound: from the host to the guest; if False, from the guest's loopback to the host's, for a guest in a
                namespace.
            address: the host's address to listen on; None means all.
            interface: the only interface of the host to listen on; None means all.
            target: the address in the guest; None means its current one.

        Raises:
            ForwardError: a port cannot be bound.
            ConfigError: an argument is wrong, or contradicts the ports that are forwarded already.
        """
        await trio.lowlevel.checkpoint()
        ports = self._port_forwards()
        await ports.prepare()
        return ports.open(port, to, protocol, address, interface, target, inbound=inbound)

    def set_guest(self, guest: GuestSockets, own: Sequence[bytes]) -> None:
        """Set the guest in whose namespace ports can be forwarded; `open_guest` and `attach` do so.

        Args:
            guest: makes sockets in it.
            own: its addresses, 4 or 16 bytes each.
        """
        from sansnet_trio.forward.port_forwards import GuestSide

        self._guest = GuestSide(guest, own)

    def close(self) -> None:
        """Called by `open_network` at its end."""
        self._ended = True
        self._closed.set()
        if self._ports is not None:
            self._ports.close()

    def _port_forwards(self) -> PortForwards:
        if self._ports is None:
            from sansnet_trio.forward.port_forwards import PortForwards

            families = [number for number, own in ((4, self.config.ipv4), (6, self.config.ipv6)) if own is not None]
            self._ports = PortForwards(self._forwards, families, self.driver.serve_forwards)
            if self._guest is not None:
                self._ports.set_guest(self._guest)
            if _concerns_inbound(self.config):
                self._ports.avoid_loopback_path()
            if self._ended:
                self._ports.close()
        return self._ports

    async def wait_closed(self) -> None:
        """Wait until the guest's end of the link is gone: its namespace or machine ended, or its interface was deleted.

        This also returns when the block of `open_network` ends.

        If a task waits here at that moment, the block of `open_network` goes on. Otherwise the block is cancelled, and
        `LinkClosed` leaves it.
        """
        self._waiting += 1
        try:
            await self._closed.wait()
        finally:
            self._waiting -= 1

    def end(self, reason: Exception) -> None:
        """End the network, because its driver has ended or the guest is gone.

        The block of `open_network` is cancelled, and the exception leaves it; see also `wait_closed`.

        Args:
            reason: the exception; a group stands for its only exception.
        """
        error = only(reason)
        assert isinstance(error, Exception)
        if isinstance(error, SansnetError):  # its message tells all
            error = error.with_traceback(None)
            error.__cause__ = error.__context__ = None
        self._closed.set()
        if not (self._waiting and isinstance(error, LinkClosed)):
            self.failure = self.failure or error
            self.body.cancel()


def _concerns_inbound(config: NetworkConfig) -> bool:
    """Whether rules or a program decide about flows from outside, so that none may bypass the network."""
    return config.default_action not in (None, Action.ALLOW) or any(rule.inbound is not False for rule in config.rules)


def _endpoint(value: AnyEndpoint | None) -> Endpoint | None:
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2:
        raise ConfigError(f"source: {value!r} is not an endpoint; give an address and a port, or an Endpoint")
    try:
        return Endpoint(*value)
    except ConfigError as error:
        raise ConfigError(f"source: {error}") from None


def _address(value: AnyAddress | None) -> bytes | None:
    try:
        return None if value is None else addresses.packed(value)
    except ConfigError as error:
        raise ConfigError(f"host: {error}") from None


def _port(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise ConfigError(f"port: {value!r} is not a port; give 1 to 65535")
    return value
