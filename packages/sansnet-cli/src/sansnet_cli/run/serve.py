"""The second half of `sansnet run`, with trio: the network of a command that has begun."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

import trio

from sansnet_cli.output import report
from sansnet_cli.runtime.session import Session
from sansnet_cli.runtime.signals import CommandSignals
from sansnet_trio.front.ending import LastData
from sansnet_trio.guest.command import CommandGuest
from sansnet_trio.guest.errors import GuestError
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.network import GuestNetwork
from sansnet_trio.plan.setup import Setup
from sansnet_trio.recording.failures import NetworkFailed

__all__ = ["serve"]

_GRACE: Final = 1.0
"""Seconds between SIGHUP and SIGKILL for a command whose network is gone."""
_TELL_AFTER: Final = 1.0
"""Seconds of waiting for the last data until a message says so."""
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def serve(
    session: Session, link: Link, guest: CommandGuest[Setup], signals: CommandSignals, on_end: Callable[[], None]
) -> int:
    """Serve the network of a command until the command ends.

    Args:
        session: the guest's session.
        link: the guest's link.
        guest: the guest, whose command has started.
        signals: the signals to pass on to the command.
        on_end: called when the command and its background processes have ended.

    Returns:
        The command's exit status, or the negative number of the signal that ended it.

    Raises:
        GuestError: the command could not begin, or the guest's interface went away.
    """
    return trio.run(_CommandServer(session, link, guest, signals, on_end).run)


class _CommandServer:
    def __init__(
        self,
        session: Session,
        link: Link,
        guest: CommandGuest[Setup],
        signals: CommandSignals,
        on_end: Callable[[], None],
    ) -> None:
        self._session = session
        self._link = link
        self._guest = guest
        self._signals = signals
        self._on_end = on_end
        self._network: GuestNetwork | None = None
        self._status: int | None = None
        """Exit status of the command, once it has ended. Failures after that do not change it."""
        self._delivery = trio.CancelScope()

    async def run(self) -> int:
        try:
            async with self._session.running() as nursery:
                nursery.start_soon(self._signals.run, self)
                try:
                    await self._serve()
                except (LinkClosed, NetworkFailed, OSError) as error:
                    if self._network is None or self._network.failure is not error:
                        raise
                    if self._status is None:
                        await self._end_command()
                        raise GuestError(f"the guest has lost its network, so its command was ended: {error}") from None
        except Exception as error:
            if self._status is None:
                raise
            report.warn_unclean(error)
        assert self._status is not None
        return self._status

    async def _serve(self) -> None:
        async with self._session.serving(self._link) as self._network:
            self._status = await self._guest.wait()
            last = LastData(self._network)
            await self._guest.end_remaining()
            await self._deliver(last, briefly=self._status < 0)  # a signal is to end everything soon

    async def _deliver(self, last: LastData, *, briefly: bool) -> None:
        """Let the guest's kernel send the last data of the command, and the host take them; a signal ends that."""
        await trio.lowlevel.checkpoint()  # signals of the terminal that have arrived were for the command
        self._on_end()
        self._signals.separate = True  # now they are for us alone
        with self._delivery:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_wait)
                await last.wait(briefly=briefly)
                nursery.cancel_scope.cancel()
        if not briefly and (loss := last.loss()):
            report.warn(loss)

    def send_signal(self, number: int) -> None:
        """Pass a signal on to the command. After its end, a signal that ends programs ends the wait for the host."""
        if self._status is None:
            self._guest.send_signal(number)
        elif number in _ENDING:
            self._delivery.cancel()

    async def _end_command(self) -> None:
        """End the command, whose network is gone."""
        self._guest.send_signal(signal.SIGHUP)
        with trio.move_on_after(_GRACE):
            await self._guest.wait()
        self._guest.send_signal(signal.SIGKILL)
        await self._guest.wait()
        await self._guest.end_remaining()


async def _tell_wait() -> None:
    await trio.sleep(_TELL_AFTER)
    report.warn("the command has ended; its last data are on their way to the host, and Ctrl-C ends that")
