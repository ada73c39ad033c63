"""`sansnet attach`: the network of a namespace that exists already, until that is gone."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import BinaryIO, Final

import trio

from sansnet_cli import process, report
from sansnet_cli.control import Control, controlled
from sansnet_cli.driving import make_driver
from sansnet_cli.options import AttachOptions
from sansnet_cli.plan import Setup
from sansnet_cli.ports import forwarded
from sansnet_trio.attached import AttachedGuest
from sansnet_trio.capture import CapturedLink
from sansnet_trio.guests import GuestError
from sansnet_trio.links import Link, LinkClosed
from sansnet_trio.links.tap import Tap

__all__ = ["attach"]

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def attach(
    guest: AttachedGuest[Setup],
    options: AttachOptions,
    capture: BinaryIO | None,
    *,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run a guest's network until its namespace is gone, or a signal comes.

    Args:
        guest: being prepared.
        options: what was asked for.
        capture: where frames are captured, if they are.
        on_ready: called when the guest has its interface and is served.

    Raises:
        GuestError: the guest could not be made, or its interface went away.
        ForwardError: a port cannot be forwarded.
        ListenError: there can be no such control socket.
    """
    process.prepare()
    with controlled(options.control) as control:
        trio.run(_Attachment(guest, options, capture, control, on_ready).run)


class _Attachment:
    def __init__(
        self,
        guest: AttachedGuest[Setup],
        options: AttachOptions,
        capture: BinaryIO | None,
        control: Control,
        on_ready: Callable[[], None],
    ) -> None:
        self._guest = guest
        self._options = options
        self._capture = capture
        self._control = control
        self._on_ready = on_ready
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Run it all; exceptions are kept until the nursery is gone, which would put them in groups."""
        with trio.open_signal_receiver(*_ENDING) as signals:
            await self._run(signals)
        if self._failure is not None:
            raise self._failure

    async def _run(self, signals: AsyncIterator[int]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_when_signalled, nursery.cancel_scope, signals)
            nursery.start_soon(self._control.run)
            try:
                await self._serve(nursery)
            except EOFError:
                self._failure = GuestError("the guest could not be prepared, since that process was killed")
            except LinkClosed as error:
                self._failure = GuestError(f"the guest has lost its interface: {error}")
            except Exception as error:
                self._failure = error
            nursery.cancel_scope.cancel()

    async def _serve(self, nursery: trio.Nursery) -> None:
        ready = await self._guest.ready()
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
            if self._options.ends_with_namespace:
                nursery.start_soon(self._end_when_gone, nursery.cancel_scope)
            report.warn(f"attached to {self._guest.namespace.network}")
            self._on_ready()
            try:
                with self._control.serving(network, driver):
                    await driver.run()
            finally:
                if self._options.verbose:
                    report.statistics(network.statistics(), driver.statistics())

    async def _end_when_gone(self, scope: trio.CancelScope) -> None:
        await self._guest.namespace.wait_gone()
        scope.cancel()


async def _end_when_signalled(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        scope.cancel()
