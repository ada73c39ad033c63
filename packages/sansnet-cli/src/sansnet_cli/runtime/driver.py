"""From what a guest gets to what runs its network, the same for every kind of guest."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from sansnet_cli.options.records import CommandOptions
from sansnet_cli.output import report
from sansnet_cli.process import readiness
from sansnet_core import Network
from sansnet_core.records import replace
from sansnet_trio.driver import Driver
from sansnet_trio.links import Link
from sansnet_trio.plan.setup import Setup

if TYPE_CHECKING:
    from sansnet_cli.runtime.hints import Hints
    from sansnet_trio.forward.forwards import Forwards

__all__ = ["cancel_when_signalled", "ending_by", "make_driver", "make_hints", "report_regularly"]


def make_hints(options: CommandOptions, setup: Setup, forwards: Forwards | None, *, namespace: bool) -> Hints | None:
    """The hints about a new guest; None if they are shown nowhere."""
    if not setup.config.notices:
        return None
    from sansnet_cli.runtime.hints import Hints

    return Hints(options, setup, namespace=namespace, forwards=lambda: forwards.rules if forwards else ())


def make_driver(
    setup: Setup, link: Link, forwards: Forwards | None, hints: Hints | None = None
) -> tuple[Network, Driver]:
    """A new network over a link, and its driver.

    Args:
        setup: of the network.
        link: the guest's.
        forwards: ports that lead to the guest.
        hints: told of what happens.

    Raises:
        OSError: the host's interface is gone, or no descriptor is left.
    """
    config = replace(setup.config, link=link.config)
    network = Network(config, now=trio.current_time(), secret=readiness.secret())
    driver = Driver(
        network,
        link,
        interface=setup.interface,
        outbound4=setup.outbound_if4,
        outbound6=setup.outbound_if6,
        forwards=forwards,
        on_notices=hints.hear if hints else None,
    )
    return network, driver


@contextmanager
def ending_by(numbers: Collection[int]) -> Iterator[AsyncIterator[int]]:
    """Signals that end the process, for `cancel_when_signalled`; at the end of the block they are blocked.

    One that comes when the process ends anyway, or a second one, has no effect: trio would have it kill the process.
    """
    with trio.open_signal_receiver(*map(signal.Signals, numbers)) as signals:
        try:
            yield signals
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


async def cancel_when_signalled(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    """End what runs in a scope when a signal comes."""
    async for _ in signals:
        scope.cancel()


async def report_regularly(options: CommandOptions, network: Network, driver: Driver) -> None:
    """Say the counters as often as the options want it; for ever, unless that is never."""
    while options.stats is not None:
        await trio.sleep(options.stats)
        report.statistics(network.statistics(), driver.statistics())
