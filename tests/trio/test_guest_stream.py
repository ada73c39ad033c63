"""`GuestStream`: the program's end of a connection with the guest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import check_half_closeable_stream

from sansnet_trio import GuestStream, Services
from sansnet_trio.testing import SimulatedStream
from tests.trio.inner import GATEWAY, Inner, inner, run

PORT = 80


class Both:
    """The two ends of a connection."""

    def __init__(self, ours: GuestStream, theirs: SimulatedStream, network: Inner) -> None:
        self.ours = ours
        self.theirs = theirs
        self.network = network


@asynccontextmanager
async def accepted(room: int = 1000) -> AsyncIterator[Both]:
    """A connection that the guest opened."""
    services = Services()
    listener = services.listen_tcp(PORT)
    async with inner(services, room=room) as network:
        theirs = await network.guest.open_tcp_stream(GATEWAY, PORT)
        yield Both(await listener.accept(), theirs, network)


@asynccontextmanager
async def opened() -> AsyncIterator[Both]:
    """A connection that the program opened."""
    async with inner() as network:
        listener = network.guest.listen_tcp(PORT)
        ours = await network.network.open_tcp_stream(PORT)
        yield Both(ours, await listener.accept(), network)


WAYS = pytest.mark.parametrize("way", [accepted, opened])


@pytest.mark.parametrize("program_opens", [False, True])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_trios_own_checks(program_opens: bool, first: str) -> None:
    async def body() -> None:
        services = Services()
        ours = services.listen_tcp(PORT)
        async with inner(services) as network:
            theirs = network.guest.listen_tcp(PORT)

            async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
                if program_opens:
                    pair: tuple[GuestStream, SimulatedStream] = (
                        await network.network.open_tcp_stream(PORT),
                        await theirs.accept(),
                    )
                else:
                    end = await network.guest.open_tcp_stream(GATEWAY, PORT)
                    pair = await ours.accept(), end
                return pair if first == "ours" else (pair[1], pair[0])

            async def make_clogged() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
                left, right = await make()
                # So long because a guest whose window is almost closed sends a byte a minute
                for stream in (left, right):
                    with trio.move_on_after(4 * 3600):
                        while True:
                            await stream.send_all(bytes(65536))
                return left, right

            await check_half_closeable_stream(make, make_clogged)

    run(body)
