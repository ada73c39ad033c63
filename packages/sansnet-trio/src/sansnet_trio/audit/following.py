"""Accounts of a network while it runs: an audit, a summary, a learnt policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from sansnet_core import FlowReport, NetworkStatistics
    from sansnet_trio.events import Event
    from sansnet_trio.network import GuestNetwork

__all__ = ["Account", "Accounts", "follow"]

_INTERVAL: Final = 1.0
"""Seconds between calls of `Account.flush`."""


class Account(Protocol):
    """An account of what a guest used and tried, as `AuditLog`, `Summary` and `Learner` are."""

    def add(self, events: Iterable[Event]) -> None:
        """Take events."""

    def omit(self, count: int) -> None:
        """Count refused flows and questions that the network did not report, because there were too many."""

    def flush(self) -> None:
        """Called about once per second."""

    def end(self, flows: Iterable[FlowReport] = ()) -> None:
        """Called when the network has ended, with the flows that were open then."""


class Accounts:
    """Several accounts of one network.

    Args:
        accounts: the accounts.
        unreported: what the network did not report before (`NetworkStatistics.refusals_unreported`).
    """

    def __init__(self, accounts: Iterable[Account], unreported: int = 0) -> None:
        self._accounts = tuple(accounts)
        self._unreported = unreported

    def add(self, events: Sequence[Event]) -> None:
        """Give events to all."""
        for account in self._accounts:
            account.add(events)

    def flush(self, statistics: NetworkStatistics) -> None:
        """Flush all, about once per second.

        Args:
            statistics: the present counters of the network.
        """
        self._omit(statistics)
        for account in self._accounts:
            account.flush()

    def end(self, statistics: NetworkStatistics, flows: Sequence[FlowReport]) -> None:
        """End all, when the network has ended.

        Args:
            statistics: the last counters of the network.
            flows: the flows that were open at the end.
        """
        self._omit(statistics)
        for account in self._accounts:
            account.end(flows)

    def _omit(self, statistics: NetworkStatistics) -> None:
        new, self._unreported = statistics.refusals_unreported - self._unreported, statistics.refusals_unreported
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
    together = Accounts(accounts, network.statistics().refusals_unreported)

    async def flush() -> None:
        while True:
            await trio.sleep(_INTERVAL)
            together.flush(network.statistics())

    async with network.subscribe(10_000) as events, trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        task_status.started()
        try:
            async for event in events:
                together.add([event])
        finally:
            together.end(network.statistics(), network.flows())
        nursery.cancel_scope.cancel()
