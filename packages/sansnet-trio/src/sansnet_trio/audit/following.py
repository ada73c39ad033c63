"""Accounts of a network while it runs: an audit, a summary, a learnt policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from sansnet_core import FlowReport, NetworkStatistics
    from sansnet_trio.events import Event
    from sansnet_trio.network import GuestNetwork

__all__ = ["Account", "Accounts", "follow"]

_INTERVAL: Final = 1.0


class Account(Protocol):
    """An account of what a guest used and tried, as `AuditLog`, `Summary` and `Learner` are."""

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""

    def omit(self, refused: int) -> None:
        """Count refused flows that the network did not report, because there were too many."""

    def flush(self) -> None:
        """Called about once per second."""

    def end(self, flows: Iterable[FlowReport] = ()) -> None:
        """Called when the network has ended, with the flows that were open then."""


class Accounts:
    """Several accounts of one network.

    Args:
        accounts: the accounts.
        statistics: returns the present counters of the network.
    """

    def __init__(self, accounts: Iterable[Account], statistics: Callable[[], NetworkStatistics]) -> None:
        self._accounts = tuple(accounts)
        self._statistics = statistics
        self._unreported = statistics().refusals_unreported

    def add(self, events: Iterable[Event]) -> None:
        """Give events to all."""
        events = tuple(events)
        for account in self._accounts:
            account.add(events)

    async def flush_regularly(self) -> None:
        """Flush all once per second, until cancelled."""
        while True:
            await trio.sleep(_INTERVAL)
            self._omit()
            for account in self._accounts:
                account.flush()

    def end(self, flows: Iterable[FlowReport]) -> None:
        """End all, when the network has ended."""
        self._omit()
        flows = tuple(flows)
        for account in self._accounts:
            account.end(flows)

    def _omit(self) -> None:
        unreported = self._statistics().refusals_unreported
        new, self._unreported = unreported - self._unreported, unreported
        if new:
            for account in self._accounts:
                account.omit(new)


async def follow(
    network: GuestNetwork, *accounts: Account, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep accounts of a network until it ends, or until cancelled; then end them.

    Args:
        network: the network.
        accounts: `AuditLog`, `Summary` and `Learner`, or your own.
        task_status: passed by `nursery.start`, which returns when no later event will be missed.
    """
    together = Accounts(accounts, network.statistics)
    async with network.subscribe(10_000) as events, trio.open_nursery() as nursery:
        nursery.start_soon(together.flush_regularly)
        task_status.started()
        try:
            async for event in events:
                together.add([event])
        finally:
            together.end(network.flows())
        nursery.cancel_scope.cancel()
