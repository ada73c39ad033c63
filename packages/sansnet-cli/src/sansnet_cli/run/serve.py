"""The network of a command that runs, until the command ends; what `supervise` loads meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

from sansnet_cli.options.records import RunOptions
from sansnet_cli.output import report
from sansnet_cli.runtime.control import Control
from sansnet_cli.runtime.driver import make_driver, make_hints, report_regularly
from sansnet_cli.runtime.following import Follower
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_core import Network, NetworkStatistics
from sansnet_trio.driver import Driver
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["accompany"]

_GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL for a command whose network has gone."""

_LAST_WORDS: Final = 0.5
"""Seconds that the guest's kernel gets, at most, to send what the command left to it."""
_QUIET: Final = 0.005
"""Seconds without a frame after which it has no more to send."""


def accompany(
    guest: CommandGuest[Setup],
    setup: Setup,
    link: Link,
    forwards: Forwards | None,
    signals: CommandSignals,
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
        guest: CommandGuest[Setup],
        setup: Setup,
        link: Link,
        forwards: Forwards | None,
        signals: CommandSignals,
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
        self._status: int | None = None
        """The command's, once it has ended by itself. From then on nothing that fails here changes it."""

    async def run(self) -> int:
        """Run it all; exceptions are kept until the nursery is gone, which would put them in groups."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._signals.run, self._guest)
                nursery.start_soon(self._control.run)
                try:
                    await self._serve(nursery)
                except Exception as error:
                    self._failure = self._failure or error
                nursery.cancel_scope.cancel()
        except Exception as error:
            if self._status is None:
                raise
            _warn_unclean(error)
        if self._failure is not None:
            raise self._failure
        assert self._status is not None
        return self._status

    async def _serve(self, nursery: trio.Nursery) -> None:
        hints = make_hints(self._options, self._setup, self._forwards, namespace=True)
        network, driver = make_driver(self._setup, self._link, self._forwards, hints)
        files = bool(self._guest.own_files)
        follower = Follower(self._options, self._setup, self._guest, files=files)
        await nursery.start(self._drive, driver)
        nursery.start_soon(report_regularly, self._options, network, driver)
        nursery.start_soon(follower.run)
        with (
            self._control.serving(network, driver, hints),
            follower.serving(network, driver, self._link.config, self._forwards),
        ):
            self._status = await self._guest.wait()
            try:
                await self._guest.end_remaining()
                await _hear_out(driver, network)
            except Exception as error:
                _warn_unclean(error)
        if hints:
            hints.end(network.flows())
        if self._options.verbose:
            report.statistics(network.statistics(), driver.statistics())

    async def _drive(self, driver: Driver, task_status: trio.TaskStatus[None]) -> None:
        """Run the driver; when the guest's interface goes away, end the command."""
        try:
            await driver.run(task_status=task_status)
        except (LinkClosed, OSError) as error:
            if self._status is not None:
                return
            self._failure = GuestError(f"the guest has lost its network, so its command was ended: {error}")
            self._guest.send_signal(signal.SIGHUP)
            await trio.sleep(_GRACE)
            self._guest.send_signal(signal.SIGKILL)


def _warn_unclean(error: Exception) -> None:
    """The command has ended, and with it our status is known; but something failed after that."""
    if isinstance(error, OSError):
        reason = ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    else:
        reason = str(error) or type(error).__name__
    report.warn(f"the command has ended, but what it left in the background may still run: {reason}")


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
