"""A network whose guest is simulated and whose services are this program's, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from trio.testing import MockClock

from sansnet_core import Ipv4Config, Ipv6Config, Limits, LinkConfig, NetworkConfig
from sansnet_core.records import replace
from sansnet_trio import GuestNetwork, Services, open_network
from sansnet_trio.testing import MemoryLink, SimulatedGuest

__all__ = ["CONFIG", "GATEWAY", "Inner", "inner", "run"]

GATEWAY: Final = "10.0.2.2"

CONFIG: Final = NetworkConfig(
    link=LinkConfig(mtu=65520, max_frame_size=65534),
    guest_mac="02:00:00:00:00:01",
    ipv4=Ipv4Config(address="10.0.2.15", prefix_length=24, gateway=GATEWAY),
    ipv6=Ipv6Config(address="2001:db8::15", gateway="fe80::1"),
    virtual=("10.9.0.0/16",),
    router_advertisements=False,
)


class Inner:
    """A network and its guest.

    Attributes:
        network: the network.
        guest: the guest.
        link: the link between them.
    """

    def __init__(self, network: GuestNetwork, guest: SimulatedGuest, link: MemoryLink) -> None:
        self.network = network
        self.guest = guest
        self.link = link


@asynccontextmanager
async def inner(
    services: Services | None = None,
    config: NetworkConfig = CONFIG,
    *,
    limits: Limits | None = None,
    link: MemoryLink | None = None,
) -> AsyncIterator[Inner]:
    """A network with these services, for the time of the block. It must not make a socket of the host."""
    if limits is not None:
        config = replace(config, limits=limits)
    link = link or MemoryLink(config.link)
    guest = SimulatedGuest(link, config)
    async with open_network(link, config, services=services) as network, trio.open_nursery() as nursery:
        await nursery.start(guest.run)
        yield Inner(network, guest, link)
        assert network.driver_statistics().sockets == 0
        nursery.cancel_scope.cancel()


def run(body: Callable[[], Awaitable[None]]) -> None:
    """Run a test in virtual time, for at most some days of it."""

    async def main() -> None:
        with trio.fail_after(1e6):
            await body()

    trio.run(main, clock=MockClock(autojump_threshold=0))
