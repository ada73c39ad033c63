"""A simulated guest with its network, as an async context manager."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict

import trio

from sansnet_core import Ipv4Config, Ipv6Config, LinkConfig, NetworkConfig
from sansnet_core.records import replace
from sansnet_trio.front.link import open_network
from sansnet_trio.groups import combined, raise_alone
from sansnet_trio.testing.guest import GUEST_MAC, SimulatedGuest
from sansnet_trio.testing.host import SimulatedHost
from sansnet_trio.testing.memory_link import MemoryLink

if TYPE_CHECKING:
    from sansnet_core.testing import GuestTcpOptions, Impairment
    from sansnet_trio.decisions import Decider
    from sansnet_trio.forward.forwards import Forwards
    from sansnet_trio.recording.file import RecordingFile
    from sansnet_trio.services.services import Services

__all__ = ["SimulatedOptions", "make_simulated_config", "open_simulated_guest"]

_LINK = LinkConfig(mtu=1500, max_frame_size=1514)


class SimulatedOptions(TypedDict, total=False):
    """The arguments of `open_simulated_guest`."""

    config: NetworkConfig | None
    services: Services | None
    decide: Decider | None
    host: SimulatedHost | None
    forwards: Forwards | None
    record: str | os.PathLike[str] | RecordingFile | None
    cable: Impairment | None
    up: Impairment | None
    down: Impairment | None
    seed: int
    tcp: GuestTcpOptions | None
    room: int


def make_simulated_config(link: LinkConfig = _LINK) -> NetworkConfig:
    """The configuration for simulated guests: both families, MTU 1500, and nothing is sent without a cause.

    The guest is 10.0.2.15 and 2001:db8::15, its gateway 10.0.2.2 and fe80::2. `records.replace` copies it with changes.

    Args:
        link: the abilities of the link.
    """
    return NetworkConfig(
        link=link,
        guest_mac=GUEST_MAC,
        ipv4=Ipv4Config(address="10.0.2.15", prefix_length=24, gateway="10.0.2.2"),
        ipv6=Ipv6Config(address="2001:db8::15", gateway="fe80::2"),
        router_advertisements=False,
    )


@asynccontextmanager
async def open_simulated_guest(
    config: NetworkConfig | None = None,
    *,
    services: Services | None = None,
    decide: Decider | None = None,
    host: SimulatedHost | None = None,
    forwards: Forwards | None = None,
    record: str | os.PathLike[str] | RecordingFile | None = None,
    cable: Impairment | None = None,
    up: Impairment | None = None,
    down: Impairment | None = None,
    seed: int = 0,
    tcp: GuestTcpOptions | None = None,
    room: int = 1000,
) -> AsyncIterator[SimulatedGuest]:
    """Run a simulated guest and its network as long as the block runs; an async context manager.

    No socket of the host is made: the network's orders are carried out by the simulated host. All time is trio's: under
    `trio.testing.MockClock(autojump_threshold=0)` an hour takes no time.

    Args:
        config: the configuration of the network; None is `make_simulated_config()`. If it leaves out the guest's MAC
            address, that of simulated guests is used.
        services: the services of the program; see `open_network`.
        decide: an async function that decides about new flows; see `open_network`.
        host: the simulated host; None for a new one without servers, which is `SimulatedGuest.host`.
        forwards: see `open_network`.
        record: see `open_network`; a test that fails can keep what happened.
        cable: the cable between guest and network, in both directions; None for one without delay and faults.
        up: the cable from the guest, if it differs.
        down: the cable to the guest, if it differs.
        seed: the beginning of the random faults of the cables.
        tcp: the abilities of the guest's TCP; see `SimulatedGuest`.
        room: most frames that wait for the guest; see `MemoryLink`.

    Raises:
        AssertionError: the network sent something that no correct network sends; the block was cancelled.
    """
    config = config or make_simulated_config()
    if config.guest_mac is None:
        config = replace(config, guest_mac=GUEST_MAC)
    link = MemoryLink(config.link, room=room)
    guest = SimulatedGuest(link, config, tcp=tcp, up=up or cable, down=down or cable, seed=seed)
    guest.host = host or SimulatedHost()
    failure: BaseException | None = None
    try:
        async with (
            open_network(
                link, config, services=services, decide=decide, record=record, forwards=forwards, host=guest.host
            ) as guest.network,
            trio.open_nursery() as guest.nursery,
        ):
            await guest.nursery.start(guest.run)
            try:
                yield guest
            except BaseException as error:
                failure = error
            guest.nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = combined(failure, group)
    if failure is not None:
        raise_alone(failure)
