"""The second half of `sansnet run`, with trio: the network of a command that has begun."""

from __future__ import annotations

import signal
from typing import Final

import trio

from sansnet_cli.output import report
from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_core import Network, NetworkStatistics
from sansnet_trio.driver import Driver
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.plan.setup import Setup

__all__ = ["serve"]

_GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL for a command whose network is gone."""

_MAX_DRAIN: Final = 0.5
"""Seconds that the guest's kernel gets, at most, to send data that the command left in its sockets."""
_QUIET: Final = 0.005
"""Seconds without a frame after which the guest's kernel has nothing more to send."""


def serve(session: Session, link: Link, guest: CommandGuest[Setup], signals: CommandSignals) -> int:
    """Serve the network of a command until the command ends.

    Args:
        session: the guest's session.
        link: the guest's link.
        guest: the guest, whose command has started.
        signals: the signals to pass on to the command.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the command could not begin, or the guest's interface went away.
    """
    return trio.run(_CommandServer(session, link, guest, signals).run)


class _CommandServer:
    def __init__(self, session: Session, link: Link, guest: CommandGuest[Setup], signals: CommandSignals) -> None:
        self._session = session
        self._link = link
        self._guest = guest
        self._signals = signals
        self._failure: GuestError | None = None
        self._status: int | None = None
        """Exit status of the command, once it has ended. Failures after that do not change it."""

    async def run(self) -> int:
        try:
            async with self._session.running() as nursery:
                nursery.start_soon(self._signals.run, self._guest)
                with self._session.serving(self._link) as (network, driver):
                    nursery.start_soon(self._drive, driver)
                    self._status = await self._guest.wait()
                    await self._guest.end_remaining()
                    await _drain(driver, network)
        except Exception as error:
            if self._status is None:
                raise
            _warn_unclean(error)
        if self._failure is not None:
            raise self._failure
        assert self._status is not None
        return self._status

    async def _drive(self, driver: Driver) -> None:
        """Run the driver. When the guest's interface goes away, end the command."""
        try:
            await driver.run()
        except (LinkClosed, OSError) as error:
            if self._status is not None:
                return
            self._failure = GuestError(f"the guest has lost its network, so its command was ended: {error}")
            self._guest.send_signal(signal.SIGHUP)
            await trio.sleep(_GRACE)
            self._guest.send_signal(signal.SIGKILL)


def _warn_unclean(error: Exception) -> None:
    """Warn that something failed after the command had ended and its exit status was known."""
    if isinstance(error, OSError):
        reason = ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    else:
        reason = str(error) or type(error).__name__
    report.warn(f"the command has ended, but its background processes may still run: {reason}")


async def _drain(driver: Driver, network: Network) -> None:
    """Serve the guest's kernel until it is quiet: a command may end before its last datagram or segment is sent.

    The open tap keeps the guest's network namespace alive meanwhile. Frames that sansnet ignores or drops do not count:
    a new interface repeats its multicast reports for a while.
    """
    with trio.move_on_after(_MAX_DRAIN):
        used = -1
        while True:
            statistics = network.statistics()
            before, used = used, driver.statistics().frames_received - _unused(statistics)
            if used == before and not statistics.tcp_held:
                return
            await trio.sleep(_QUIET)


def _unused(statistics: NetworkStatistics) -> int:
    """How many of the guest's frames were ignored or dropped."""
    return statistics.ignored + sum(statistics.drops.values())
