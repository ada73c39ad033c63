"""From the fork of a guest to the end of its command."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import BinaryIO, Final

import trio

from sansnet_cli import process, report
from sansnet_cli.control import Control, controlled
from sansnet_cli.driving import make_driver
from sansnet_cli.options import RunOptions
from sansnet_cli.plan import Setup
from sansnet_cli.ports import forwarded
from sansnet_cli.signals import SignalForwarder
from sansnet_core import Network
from sansnet_trio.capture import CapturedLink
from sansnet_trio.driver import Driver
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.links.tap import Tap
from sansnet_trio.namespace import Guest, GuestError

__all__ = ["supervise"]

_GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL for a command whose network has gone."""

_LAST_WORDS: Final = 0.5
"""Seconds that the guest's kernel gets, at most, to send what the command left to it."""
_QUIET: Final = 0.005
"""Seconds without a frame after which it has no more to send."""


def supervise(guest: Guest[Setup], options: RunOptions, capture: BinaryIO | None) -> int:
    """Run a guest's network and its command until the command ends.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the guest could not be made, the command could not begin, or the guest's interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: there can be no such control socket.
    """
    signals = SignalForwarder()
    try:
        process.prepare()
        with controlled(options.control) as control:
            return trio.run(_Supervisor(guest, options, capture, signals, control).run)
    finally:
        signals.close()


class _Supervisor:
    def __init__(
        self,
        guest: Guest[Setup],
        options: RunOptions,
        capture: BinaryIO | None,
        signals: SignalForwarder,
        control: Control,
    ) -> None:
        self._guest = guest
        self._options = options
        self._capture = capture
        self._signals = signals
        self._control = control
        self._failure: Exception | None = None
        self._status = 0

    async def run(self) -> int:
        """Run it all; exceptions are kept until the nursery is gone, which would put them in groups."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._signals.run, self._guest)
            nursery.start_soon(self._control.run)
            try:
                await self._run_command(nursery)
            except Exception as error:
                self._failure = self._failure or error
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return self._status

    async def _run_command(self, nursery: trio.Nursery) -> None:
        try:
            ready = await self._guest.ready()
        except EOFError:  # a signal ended it early
            self._status = await self._guest.wait()
            return
        setup = ready.prepared
        for warning in (*setup.warnings, *ready.warnings):
            report.warn(warning)
        config = replace(setup.config, link=ready.link)
        if self._options.verbose:
            report.configuration(config, ready.link, setup.addresses, setup.gateways)
        link: Link = Tap(ready.tap, ready.link)
        if self._capture is not None:
            link = CapturedLink(link, self._capture)
        own = [address.address for address in setup.addresses]
        with forwarded(self._options.ports, config, self._guest, own, later=self._control.is_on) as forwards:
            self._control.forward(forwards, namespace=True)
            network, driver = make_driver(setup, link, forwards)
            await nursery.start(self._drive, driver)
            with self._control.serving(network, driver):
                self._guest.start()
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

    The open tap keeps the guest's network namespace alive meanwhile.
    """
    with trio.move_on_after(_LAST_WORDS):
        heard = -1
        while network.statistics().tcp_held or heard != driver.statistics().frames_received:
            heard = driver.statistics().frames_received
            await trio.sleep(_QUIET)
