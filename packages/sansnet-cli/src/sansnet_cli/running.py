"""The network of a command that runs, until the command ends; what `supervise` loads meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

from sansnet_cli import report
from sansnet_cli.control import Control
from sansnet_cli.driving import make_driver, report_regularly
from sansnet_cli.options import RunOptions
from sansnet_cli.plan import Setup
from sansnet_cli.signals import SignalForwarder
from sansnet_core import Network, NetworkStatistics
from sansnet_trio.driver import Driver
from sansnet_trio.guests import GuestError
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.namespace import Guest

if TYPE_CHECKING:
    from sansnet_trio.forwards import Forwards

__all__ = ["accompany"]

_GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL for a command whose network has gone."""

_LAST_WORDS: Final = 0.5
"""Seconds that the guest's kernel gets, at most, to send what the command left to it."""
_QUIET: Final = 0.005
"""Seconds without a frame after which it has no more to send."""


def accompany(
    guest: Guest[Setup],
    setup: Setup,
    link: Link,
    forwards: Forwards | None,
    signals: SignalForwarder,
    control: Control,
    options: RunOptions,
) -> int:
    """Be the network of a command that has begun, until it ends.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the command could not begin, or the guest's interface went away.
    """
    return trio.run(_Company(guest, setup, link, forwards, signals, control, options).run)


class _Company:
    def __init__(
        self,
        guest: Guest[Setup],
        setup: Setup,
        link: Link,
        forwards: Forwards | None,
        signals: SignalForwarder,
        control: Control,
        options: RunOptions,
    ) -> None:
        self._guest = guest
        self._setup = setup
        self._link = link
        self._forwards = forwards
        self._signals = signals
        self._control = control
        self._options = options
        self._failure: Exception | None = None
        self._status = 0

    async def run(self) -> int:
        """Run it all; exceptions are kept until the nursery is gone, which would put them in groups."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._signals.run, self._guest)
            nursery.start_soon(self._control.run)
            try:
                await self._serve(nursery)
            except Exception as error:
                self._failure = self._failure or error
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return self._status

    async def _serve(self, nursery: trio.Nursery) -> None:
        network, driver = make_driver(self._setup, self._link, self._forwards)
        await nursery.start(self._drive, driver)
        nursery.start_soon(report_regularly, self._options, network, driver)
        with self._control.serving(network, driver):
            self._status = await self._guest.wait()
            await self._guest.end_leftovers()
            await _hear_out(driver, network)
        if self._options.verbose:
            report.statistics(network.statistics(), driver.statistics())

    async def _drive(self, driver: Driver, task_status: trio.TaskStatus[None]) -> None:
        """Run the driver; when the guest's interface goes away, end the command."""
        try:
            await driver.run(task_status=task_status)
        except (LinkClosed, OSError) as error:
            self._failure = GuestError(f"the guest has lost its network, so its command was ended: {error}")
            self._guest.send_signal(signal.SIGHUP)
            await trio.sleep(_GRACE)
            self._guest.send_signal(signal.SIGKILL)


async def _hear_out(driver: Driver, network: Network) -> None:
    """Serve the guest's kernel until it is quiet: a command may end before its last datagram or segment is sent.

    The open tap keeps the guest's network namespace alive meanwhile. Frames that mean nothing here do not count, as the
    reports of groups that a new interface repeats for a while.
    """
    with trio.move_on_after(_LAST_WORDS):
        heard = -1
        while True:
            statistics = network.statistics()
            before, heard = heard, driver.statistics().frames_received - _meaningless(statistics)
            if heard == before and not statistics.tcp_held:
                return
            await trio.sleep(_QUIET)


def _meaningless(statistics: NetworkStatistics) -> int:
    """How many frames of the guest were not about anything that it still wants to send."""
    return statistics.ignored + sum(statistics.drops.values())
