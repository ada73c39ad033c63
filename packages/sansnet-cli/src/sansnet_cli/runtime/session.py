"""The network of guests while a command serves them, the same for every kind of guest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from sansnet_cli.options.records import GuestOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_cli.runtime.control import Control
from sansnet_cli.runtime.following import Changeable, Follower
from sansnet_core import Network
from sansnet_core.records import replace
from sansnet_trio.driver import Driver
from sansnet_trio.links import Link
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_cli.runtime.hints import Hints
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["Session"]


class Session:
    """The network of one guest, or of several one after the other.

    Args:
        options: the command's options.
        setup: the setup of the guest's network.
        control: the control socket.
        forwards: the forwarded ports; None if there are none and never will be.
        guest: the guest in a namespace, whose interface is kept like the host's; None is a virtual machine.
        files: whether that guest has files of its own, such as /etc/resolv.conf.
    """

    def __init__(
        self,
        options: GuestOptions,
        setup: Setup,
        control: Control,
        forwards: Forwards | None,
        guest: Changeable | None = None,
        *,
        files: bool = False,
    ) -> None:
        self.options = options
        self._control = control
        self._forwards = forwards
        self._in_namespace = guest is not None
        self._follower = Follower(options, setup, guest, forwards, files=files)
        self._served: tuple[Network, Driver] | None = None
        control.set_forwards(forwards, namespace=self._in_namespace)

    @property
    def setup(self) -> Setup:
        """The current setup of the guest's network."""
        return self._follower.setup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Answer the control socket, follow the host and print the counters as long as the block runs.

        Yields a nursery for other tasks of the command. They are cancelled at the end of the block. A single
        exception leaves the block itself, and not a group of it.
        """
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._control.run)
                nursery.start_soon(self._follower.run)
                nursery.start_soon(self._report_regularly)
                yield nursery
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = _only(group)
        if error is not None:
            raise error  # outside of `except`, which would replace its context

    @contextmanager
    def serving(self, link: Link) -> Iterator[tuple[Network, Driver]]:
        """Make the network of one guest and its driver, for as long as the block runs; the caller runs the driver.

        Args:
            link: the guest's link; the driver closes it at its end.

        Raises:
            OSError: the host's interface is gone, or no descriptor is left.
        """
        setup = self.setup
        hints = self._make_hints(setup)
        network = Network(replace(setup.config, link=link.config), now=trio.current_time(), secret=readiness.secret())
        driver = Driver(
            network,
            link,
            interface=setup.interface,
            outbound4=setup.outbound_if4,
            outbound6=setup.outbound_if6,
            forwards=self._forwards,
            on_notices=hints.add if hints else None,
        )
        self._served = network, driver
        try:
            with (
                self._control.serving(network, driver, hints),
                self._follower.serving(network, driver, link.config),
            ):
                yield network, driver
        finally:
            self._served = None
            if hints:
                hints.end(network.flows())
            if self.options.verbose:
                report.statistics(network.statistics(), driver.statistics())

    def _make_hints(self, setup: Setup) -> Hints | None:
        """The hints about a new guest; None if the command does not show any."""
        if not setup.config.notices:
            return None
        from sansnet_cli.runtime.hints import Hints

        forwards = self._forwards
        return Hints(
            self.options,
            setup,
            namespace=self._in_namespace,
            forwards=lambda: forwards.rules if forwards else (),
        )

    async def _report_regularly(self) -> None:
        """Print the counters of the guest that is served, as often as the options ask for."""
        while self.options.stats is not None:
            await trio.sleep(self.options.stats)
            if self._served is not None:
                network, driver = self._served
                report.statistics(network.statistics(), driver.statistics())


def _only(error: BaseException) -> BaseException:
    """The only exception of nested groups, or the innermost group that has several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
