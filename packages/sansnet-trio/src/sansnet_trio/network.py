"""The network of one guest while it is served, as a program uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sansnet_core.records import replace
from sansnet_trio.links import LinkClosed

if TYPE_CHECKING:
    from sansnet_core import FlowReport, Network, NetworkConfig, NetworkStatistics
    from sansnet_trio.driver import Driver, DriverStatistics

__all__ = ["GuestNetwork"]


class GuestNetwork:
    """The network of one guest. Made by `open_network`, and served until the end of its block.

    Attributes:
        core: the network itself. Ask it anything at any time; tell it facts by `Driver.tell`.
        driver: the driver that serves it.
        config: its present configuration, with the properties of the link.
        nursery: for tasks that shall end with the network. Their exceptions leave the block of `open_network`.
        body: the scope of the block of `open_network`.
        failure: the exception that `end` got and that leaves the block.
    """

    def __init__(self, core: Network, driver: Driver, config: NetworkConfig, nursery: trio.Nursery) -> None:
        self.core = core
        self.driver = driver
        self.config = config
        self.nursery = nursery
        self.body = trio.CancelScope()
        self.failure: Exception | None = None
        self._closed = trio.Event()
        self._waiting = 0

    def flows(self) -> list[FlowReport]:
        """The present flows."""
        return self.core.flows()

    def statistics(self) -> NetworkStatistics:
        """The counters of the network; also available after its end."""
        return self.core.statistics()

    def driver_statistics(self) -> DriverStatistics:
        """The counters of the driver; also available after its end."""
        return self.driver.statistics()

    def reconfigure(self, config: NetworkConfig, *, moved: bool = False) -> None:
        """Replace the configuration; see `Network.reconfigure`.

        Args:
            config: the new configuration. The properties of the link stay as they are.
            moved: whether the guest has its new addresses already.

        Raises:
            ConfigError: `config` differs in something that cannot change. Nothing has changed.
        """
        config = replace(config, link=self.config.link)
        self.driver.tell(lambda now: self.core.reconfigure(config, now, moved=moved))
        self.config = config

    async def wait_closed(self) -> None:
        """Wait until the guest's end of the link is gone: its namespace or machine ended, or its interface was deleted.

        If a task waits here at that moment, the block of `open_network` goes on. Otherwise the block is cancelled, and
        `LinkClosed` leaves it.
        """
        self._waiting += 1
        try:
            await self._closed.wait()
        finally:
            self._waiting -= 1

    def end(self, reason: Exception) -> None:
        """End the network, because its driver has ended or the guest is gone.

        The block of `open_network` is cancelled, and the exception leaves it; see also `wait_closed`.

        Args:
            reason: the exception.
        """
        self._closed.set()
        if not (self._waiting and isinstance(reason, LinkClosed)):
            self.failure = self.failure or reason
            self.body.cancel()
