"""The network of a namespace that exists already; what `attach` loads when that is configured."""

from __future__ import annotations

import signal
from collections.abc import Collection
from typing import TYPE_CHECKING

import trio

from sansnet_cli.options.records import AttachOptions
from sansnet_cli.output import report
from sansnet_cli.runtime.control import Control
from sansnet_cli.runtime.driver import cancel_when_signalled, ending_by, make_driver, make_hints, report_regularly
from sansnet_cli.runtime.following import Follower
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.guest.target import ExistingNamespace
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.guest.attached import AttachedGuest

__all__ = ["serve"]


def serve(
    setup: Setup,
    link: Link,
    forwards: Forwards | None,
    guest: AttachedGuest[Setup],
    control: Control,
    options: AttachOptions,
    *,
    ending: Collection[int],
    mask: Collection[int],
) -> None:
    """Be the network of a namespace until it is gone, or a signal comes.

    Args:
        setup: what the driver needs to know.
        link: the guest's; closed at the end.
        forwards: the ports that are forwarded, if any.
        guest: the one whose namespace's end is ours, unless the options have it otherwise.
        control: the control socket.
        options: what was asked for.
        ending: signals that end it, blocked until now.
        mask: the signals that are blocked from now on.

    Raises:
        GuestError: the guest's interface went away.
    """
    trio.run(_Service(setup, link, forwards, guest, control, options).run, ending, mask)


class _Service:
    def __init__(
        self,
        setup: Setup,
        link: Link,
        forwards: Forwards | None,
        guest: AttachedGuest[Setup],
        control: Control,
        options: AttachOptions,
    ) -> None:
        self._setup = setup
        self._link = link
        self._forwards = forwards
        self._guest = guest
        self._control = control
        self._options = options
        self._failure: Exception | None = None

    async def run(self, ending: Collection[int], mask: Collection[int]) -> None:
        """Run it all; exceptions are kept until the nursery is gone, which would put them in groups."""
        with ending_by(ending) as signals:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_when_signalled, nursery.cancel_scope, signals)
                nursery.start_soon(self._control.run)
                if self._options.ends_with_namespace:
                    nursery.start_soon(_end_when_gone, nursery.cancel_scope, self._guest.namespace)
                try:
                    await self._drive(nursery)
                except LinkClosed as error:
                    self._failure = GuestError(f"the guest has lost its interface: {error}")
                except Exception as error:
                    self._failure = error
                nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _drive(self, nursery: trio.Nursery) -> None:
        hints = make_hints(self._options, self._setup, self._forwards, namespace=True)
        network, driver = make_driver(self._setup, self._link, self._forwards, hints)
        follower = Follower(self._options, self._setup, self._guest)
        nursery.start_soon(report_regularly, self._options, network, driver)
        nursery.start_soon(follower.run)
        try:
            with (
                self._control.serving(network, driver, hints),
                follower.serving(network, driver, self._link.config, self._forwards),
            ):
                await driver.run()
        finally:
            if hints:
                hints.end(network.flows())
            if self._options.verbose:
                report.statistics(network.statistics(), driver.statistics())


async def _end_when_gone(scope: trio.CancelScope, namespace: ExistingNamespace) -> None:
    await namespace.wait_gone()
    scope.cancel()
