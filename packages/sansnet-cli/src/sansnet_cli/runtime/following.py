"""The guest's network follows the host's: its name servers, and all settings that were copied from the host.

Theory of operation. After a change on the host, the broker reads it again, and everything is planned again from the
same options. If the plan differs, the network changes, and so does the guest: in a namespace its interface and files
are changed; a guest that configures itself learns the change by router advertisements, and by DHCP at its next request.

A guest may continue to use the name servers that it got first, because it cannot learn others or ignores them. So
queries to those addresses go to the servers that the host has now.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio

from sansnet_cli.options.records import GuestOptions
from sansnet_cli.output import report
from sansnet_core import SansnetError
from sansnet_core.records import replace
from sansnet_trio.broker.news import HostChanged, Trouble
from sansnet_trio.guest.live_change import GuestChange
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.hostinfo import HostInfo
from sansnet_trio.network import GuestNetwork
from sansnet_trio.plan.name_servers import RememberedNameServers
from sansnet_trio.plan.options import NamespaceOptions, OptionsError
from sansnet_trio.plan.setup import Setup, keeping_names, make_plan, make_setup, remembering

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["Changeable", "Follower"]

_GONE: Final = (errno.ESRCH, errno.ENOENT)
"""Errors that mean that the guest has just ended."""

_KEPT_INTERVAL: Final = 60.0
"""Seconds between checks whether open flows still use addresses that the host has lost."""


class Changeable(Protocol):
    """A guest in a namespace, whose interface and files can be changed."""

    async def change(self, change: GuestChange) -> tuple[str, ...]:
        """Change the guest; returns warnings. See `CommandGuest.change`."""


class Follower:
    """Keeps the network of a guest, or of several one after the other, like the host's.

    Args:
        options: the command's options.
        setup: the setup of the guest's network.
        forwards: the forwarded ports; they get the new addresses of a guest in a namespace.

    Attributes:
        setup: the present setup.
        options: the options to plan with.
    """

    def __init__(self, options: GuestOptions, setup: Setup, forwards: Forwards | None = None) -> None:
        self.setup = setup
        self.options: GuestOptions = options
        if isinstance(options, NamespaceOptions) and setup.plan is not None:
            self.options = replace(options, ifname=setup.plan.interface)  # even if the host's name changes later
        self._guest: Changeable | None = None
        self._remembered = RememberedNameServers()
        self._remembered.note(setup.names)
        self._kept: frozenset[bytes] = frozenset()
        """Addresses of the guest's interface that only open flows use."""
        self._served: GuestNetwork | None = None
        self._forwards = forwards
        self._warned = False
        self._lock = trio.Lock()

    def set_guest(self, guest: Changeable | None) -> None:
        """Set the guest in a namespace that is changed, too; None for a virtual machine."""
        self._guest = guest

    @contextmanager
    def serving(self, network: GuestNetwork) -> Iterator[None]:
        """Change this network too when the host's changes, as long as the block runs."""
        self._served = network
        try:
            yield
        finally:
            self._served = None

    async def run(self) -> None:
        """Give up addresses that only open flows used, until cancelled."""
        while True:
            await trio.sleep(_KEPT_INTERVAL)
            if self._kept:
                await self.follow(HostChanged(self.setup.host, files=False))

    async def follow(self, news: HostChanged | Trouble) -> None:
        """Change the network and the guest, if the plan for the host's present network differs."""
        if isinstance(news, Trouble):
            self._warn(news.reason)
            return
        async with self._lock:
            try:
                await self._follow(news.host, files=news.files)
            except (OSError, MemoryError) as error:  # there may be descriptors and memory at the next change
                self._warn(report.reason(error))

    async def _follow(self, host: HostInfo, *, files: bool) -> None:
        old = self.setup
        setup = old
        if host != old.host:
            try:
                setup = self._planned(host)
            except (SansnetError, OptionsError) as problem:
                self._warn(str(problem))
                return
            own = [one.address for one in setup.addresses]
            setup = keeping_names(setup, old)
            setup = remembering(setup, self._remembered.forward(setup.names, own))
            self._remembered.note(setup.names)
        moved = False
        if self._guest is not None and old.plan is not None and setup.plan is not None:
            moved = await self._change_guest(old.plan, setup.plan, files=files)
        self.setup = setup
        if (setup.config, setup.resolver, setup.interface) != (old.config, old.resolver, old.interface):
            self._change_network(setup, moved=moved)

    def _planned(self, host: HostInfo) -> Setup:
        options = self.options
        return make_plan(options, host)[1] if isinstance(options, NamespaceOptions) else make_setup(options, host)

    async def _change_guest(self, old: GuestPlan, new: GuestPlan, *, files: bool) -> bool:
        """Change a guest in a namespace. Returns whether its addresses have changed."""
        assert self._guest is not None
        before, after = ({own.address for own in plan.addresses} for plan in (old, new))
        used = {flow.guest.address for flow in self._served.flows()} if self._served else set()
        if self._forwards is not None:
            used |= self._forwards.used_addresses()
        kept = ((before | self._kept) - after) & used
        if new == old and kept == self._kept and not files:
            return False
        try:
            for problem in await self._guest.change(
                GuestChange(old=old, new=new, kept=kept, given_up=self._kept - kept)
            ):
                self._warn(problem)
        except (OSError, SansnetError) as error:
            if not (isinstance(error, OSError) and error.errno in _GONE):
                self._warn(str(error))
            return False
        self._kept = frozenset(kept)
        if self._forwards is not None:
            self._forwards.set_guest_addresses([own.address for own in new.addresses])
        return new.configure and before != after

    def _change_network(self, setup: Setup, *, moved: bool) -> None:
        """Reconfigure the network that is served."""
        if self._served is None:
            return
        self._served.driver.use_interface(setup.interface)
        self._served.reconfigure(setup.config, moved=moved, resolver=setup.resolver)
        if self.options.verbose:
            report.inform("the host's network has changed; the guest's network follows")
            config = self._served.config
            report.configuration(config, config.link, setup.addresses, setup.gateways)

    def _warn(self, reason: str) -> None:
        """Report once why the guest's network does not change."""
        if not self._warned:
            self._warned = True
            report.warn(f"the guest's network cannot follow the host's: {reason}")
