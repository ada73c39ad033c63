"""A network over any link, as an async context manager.

Theory of operation. The driver runs in a task of its own. When it ends by itself, the body of the block is cancelled,
and its exception leaves the block; when the body ends, the driver is cancelled. The exception of the body leaves the
block alone, since the nursery never sees it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from sansnet_core import Network
from sansnet_core.records import replace
from sansnet_trio.decisions import asking_by_default
from sansnet_trio.driver import Driver, Host
from sansnet_trio.groups import only, raise_alone
from sansnet_trio.links import LinkClosed
from sansnet_trio.network import GuestNetwork

if TYPE_CHECKING:
    from sansnet_core import NetworkConfig
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.links import Link
    from sansnet_trio.services.services import Services

__all__ = ["open_network"]

_SECRET_SIZE: Final = 32


@asynccontextmanager
async def open_network(
    link: Link,
    config: NetworkConfig,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    forwards: Forwards | None = None,
    interface: str | None = None,
    outbound4: str | None = None,
    outbound6: str | None = None,
    host: Host | None = None,
) -> AsyncIterator[GuestNetwork]:
    """Give the guest of a link a network, as long as the block runs; an async context manager.

    At the end of the block the link is closed, and connections that are still open are reset.

    Args:
        link: the guest's link, such as a `Tap`, `UnixStream` or `VhostUserLink`. It is closed in any case.
        config: the configuration of the network. Its `link` is replaced by that of the link.
        services: the services of the program to offer the guest.
        decide: an async function that decides about new flows; see `sansnet_trio.decisions`. With it, the default
            action of a configuration that has none is `ASK`.
        forwards: the forwarded ports to serve. The caller closes them.
        interface: see `Driver`.
        outbound4: see `Driver`.
        outbound6: see `Driver`.
        host: see `Driver`.

    Raises:
        LinkClosed: the guest's end of the link is gone; the block was cancelled. See `GuestNetwork.wait_closed`.
        ConfigError: the configuration does not fit the link.
        OSError: the link failed, there is no such interface, or no descriptor is left.
    """
    try:
        config = replace(config, link=link.config)
        if decide is not None:
            config = asking_by_default(config)
        core = Network(config, now=trio.current_time(), secret=os.urandom(_SECRET_SIZE))
        driver = Driver(
            core,
            link,
            interface=interface,
            outbound4=outbound4,
            outbound6=outbound6,
            forwards=forwards,
            services=services,
            decide=decide,
            host=host,
        )
    except BaseException:
        link.close()
        raise
    network = GuestNetwork(core, driver, config)
    running = _Running(network)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            try:
                with running.body:
                    await running.served.wait()
                    yield network
            except BaseException as error:
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if failure is None or isinstance(failure, trio.Cancelled):
            failure = only(group)
    failure = failure or running.failure
    if failure is not None:
        raise_alone(failure)


class _Running:
    """The task of a driver."""

    def __init__(self, network: GuestNetwork) -> None:
        self.body = trio.CancelScope()
        self.served = trio.Event()
        self.failure: BaseException | None = None
        self._network = network

    async def run(self) -> None:
        """Run the driver; if it ends by itself, cancel the body."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._network.driver.run)
                self.served.set()
        except Exception as error:
            reason = only(error)
            awaited = self._network.link_closed()
            if not (awaited and isinstance(reason, LinkClosed)):
                self.failure = reason
                self.body.cancel()
