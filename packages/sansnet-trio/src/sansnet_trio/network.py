"""The network of one guest while it is served, as a program uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sansnet_core.records import replace
from sansnet_trio.decisions import asking_by_default

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sansnet_core import FlowReport, Network, NetworkConfig, NetworkStatistics
    from sansnet_trio.driver import Driver, DriverStatistics
    from sansnet_trio.events import Subscription

__all__ = ["GuestNetwork"]


class GuestNetwork:
    """The network of one guest. Made by `open_network`, and served until the end of its block.

    Attributes:
        core: the network itself. Ask it anything at any time; tell it facts by `Driver.tell`.
        driver: the driver that serves it.
        config: its present configuration, with the properties of the link.
    """

    def __init__(self, core: Network, driver: Driver, config: NetworkConfig) -> None:
        self.core = core
        self.driver = driver
        self.config = config
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

    def subscribe(self, buffer: int = 1000) -> AbstractAsyncContextManager[Subscription]:
        """The events of the network, as they happen; an async context manager.

        The subscriber iterates with `async for` over `FlowOpened`, `FlowRefused`, `FlowClosed`, `LeaseGiven`,
        `NameAsked` and `Lost`. The iteration ends when the network has ended. There may be several subscribers, which
        all get every event.

        Args:
            buffer: number of events that may wait for the subscriber. If there are more, the oldest are thrown away,
                and it gets `Lost` in their place.

        Raises:
            ValueError: `buffer` is not 1 or more.
        """
        return self.driver.subscribe(buffer)

    def reconfigure(self, config: NetworkConfig, *, moved: bool = False) -> None:
        """Replace the configuration; see `Network.reconfigure`.

        Args:
            config: the new configuration. The properties of the link stay as they are.
            moved: whether the guest has its new addresses already.

        Raises:
            ConfigError: `config` differs in something that cannot change. Nothing has changed.
        """
        config = replace(config, link=self.config.link)
        if self.driver.decides:
            config = asking_by_default(config)
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

    def link_closed(self) -> bool:
        """Called by `open_network` when the guest's end of the link is gone. Whether a task has waited for that."""
        self._closed.set()
        return self._waiting > 0
