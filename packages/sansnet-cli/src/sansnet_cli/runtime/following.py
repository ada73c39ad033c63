"""A guest's network follows the host's: its name servers, and what else was copied and not given by options.

Theory of operation. When something of the host's may have changed, everything is read anew and planned anew from the
same options, and where the plan differs, the network is told, and the guest: one in a namespace by changing its
interface and its files, one that configures itself by router advertisements, and by DHCP when it asks again.

A guest may go on asking the name servers that it was told of first, since it cannot be told, or does not listen. So
those addresses lead to the servers that the host has now.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio

from sansnet_cli.options.records import GuestOptions
from sansnet_cli.output import report
from sansnet_core import LinkConfig, Network, SansnetError
from sansnet_core.records import replace
from sansnet_trio.driver import Driver
from sansnet_trio.guest.hosts_file import HOSTS
from sansnet_trio.guest.live_change import Change
from sansnet_trio.guest.plan import GuestPlan
from sansnet_trio.host_watch import HostWatch
from sansnet_trio.hostinfo import RESOLV_CONF, HostInfo, read_resolvers
from sansnet_trio.linux.rtnetlink import load_alone
from sansnet_trio.plan.host import read_again
from sansnet_trio.plan.name_servers import Remembered
from sansnet_trio.plan.options import NamespaceOptions, OptionsError
from sansnet_trio.plan.setup import Setup, make_plan, make_setup, remembering

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["Changeable", "Follower"]

_GONE: Final = (errno.ESRCH, errno.ENOENT)
"""Errors that say that the guest has just ended."""

_LOOK: Final = 60.0
"""Seconds between looks whether addresses that the host has no more are still in use."""


class Changeable(Protocol):
    """A guest in a namespace."""

    @property
    def host_changes(self) -> socket.socket:
        """What heard of changes since the host was read."""

    async def change(self, change: Change) -> tuple[str, ...]:
        """Change it; see `Guest.change`."""


class Follower:
    """Keeps one guest's network, or that of several one after the other, like the host's.

    Args:
        options: what was asked for.
        setup: the guest's network so far.
        guest: in a namespace; None is a machine.
        files: whether the guest has files of its own.
    """

    def __init__(
        self,
        options: GuestOptions,
        setup: Setup,
        guest: Changeable | None = None,
        forwards: Forwards | None = None,
        *,
        files: bool = False,
    ) -> None:
        self.setup = setup
        self._options = options
        if isinstance(options, NamespaceOptions) and setup.plan is not None:
            self._options = replace(options, ifname=setup.plan.interface)  # even if the host's name changes later
        self._guest = guest
        self._files = files
        self._watch: HostWatch | None = None
        self._remembered = Remembered()
        self._remembered.note(setup.names)
        self._kept: frozenset[bytes] = frozenset()
        """Addresses of the guest's interface that only open connections use."""
        self._served: tuple[Network, Driver, LinkConfig] | None = None
        self._forwards = forwards
        self._warned = False
        try:
            changes = guest.host_changes if guest is not None else None
            self._watch = HostWatch((RESOLV_CONF, HOSTS) if files else (RESOLV_CONF,), changes)
        except OSError as error:
            self._warn(report.reason(error))

    def close(self) -> None:
        """Follow no more."""
        if self._watch is not None:
            self._watch.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def serving(self, network: Network, driver: Driver, link: LinkConfig) -> Iterator[None]:
        """Change this network too when the host's changes, as long as the block runs."""
        self._served = network, driver, link
        try:
            yield
        finally:
            self._served = None

    async def run(self) -> None:
        """Follow until cancelled, and close it then."""
        with self:
            await self._run()

    async def _run(self) -> None:
        if self._watch is None:
            return
        # What changed before it was watched; a guest in a namespace comes with what heard of the rest
        if self._guest is None or read_resolvers() != self.setup.host.resolvers:
            await self._try_to_follow(files=self._files)
        while True:
            files = False
            with trio.move_on_after(_LOOK if self._kept else math.inf):
                files = await self._watch.wait()
            await self._try_to_follow(files=files and self._files)

    async def _try_to_follow(self, *, files: bool) -> None:
        try:
            await self._follow(files=files)
        except OSError as error:  # no descriptor is left, or no process; the next change may find some
            self._warn(report.reason(error))

    async def _follow(self, *, files: bool) -> None:
        """Read the host anew, and change what has to be changed."""
        old = self.setup
        load_alone()
        host = read_again(self._options, old.host)
        setup = old
        if host != old.host:
            try:
                setup = self._planned(host)
            except (SansnetError, OptionsError) as problem:
                self._warn(str(problem))
                return
            own = [one.address for one in setup.addresses]
            setup = remembering(setup, self._remembered.forward(setup.names, own))
            self._remembered.note(setup.names)
        moved = False
        if self._guest is not None and old.plan is not None and setup.plan is not None:
            moved = await self._change_guest(old.plan, setup.plan, files=files)
        self.setup = setup
        if setup.config != old.config or setup.interface != old.interface:
            self._tell(setup, moved=moved)

    def _planned(self, host: HostInfo) -> Setup:
        options = self._options
        return make_plan(options, host)[1] if isinstance(options, NamespaceOptions) else make_setup(options, host)

    async def _change_guest(self, old: GuestPlan, new: GuestPlan, *, files: bool) -> bool:
        """Change a guest in a namespace; whether it has other addresses now."""
        assert self._guest is not None
        before, after = ({own.address for own in plan.addresses} for plan in (old, new))
        used = {flow.guest.address for flow in self._served[0].flows()} if self._served else set()
        kept = ((before | self._kept) - after) & used
        if new == old and kept == self._kept and not files:
            return False
        try:
            for problem in await self._guest.change(Change(old=old, new=new, kept=kept, given_up=self._kept - kept)):
                self._warn(problem)
        except (OSError, SansnetError) as error:
            if not (isinstance(error, OSError) and error.errno in _GONE):
                self._warn(str(error))
            return False
        self._kept = frozenset(kept)
        if self._forwards is not None:
            self._forwards.set_guest_addresses([own.address for own in new.addresses])
        return new.configure and before != after

    def _tell(self, setup: Setup, *, moved: bool) -> None:
        """Tell the network."""
        if self._served is None:
            return
        network, driver, link = self._served
        config = replace(setup.config, link=link)
        driver.use_interface(setup.interface)
        driver.tell(lambda now: network.reconfigure(config, now, moved=moved))
        if self._options.verbose:
            report.inform("the host's network has changed, and the guest's follows")
            report.configuration(config, link, setup.addresses, setup.gateways)

    def _warn(self, reason: str) -> None:
        """Say once why the guest's network stays what it is."""
        if not self._warned:
            self._warned = True
            report.warn(f"the guest's network cannot follow the host's: {reason}")
